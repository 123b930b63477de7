"""Which instances are meant: by a label, from which seeds follow that nobody can guess, or by the seeds themselves."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from itertools import pairwise

from evo.errors import UsageError
from evo.randomness import key_bytes
from harness.task import SEED_BYTES, seed_bytes

MAX_INSTANCES = 100_000
STREAMS = 2900  # generators that a data set draws from: 1450 numbers are set aside for features, 1450 are rows
DATA_BYTES = 8  # of a seed: all that data depend on
_LABELED = re.compile(r"(?:([A-Za-z0-9][A-Za-z0-9_.-]{0,63}):)?([0-9]{1,18})")  # label:count, or count alone
_NUMBERS = re.compile(r"(\d{1,18})(?::(\d{1,18})(?::(\d{1,18}))?)?")  # a, a:b or a:b:step
_HEX = re.compile(r"hex:([0-9a-fA-F]{%d})" % (2 * SEED_BYTES))  # noqa: UP031  braces are the pattern's

Seeds = dict[bytes, int | str]  # each seed's bytes, and how a person writes it


def parse_instances(value: str | int) -> tuple[str, Seeds]:
    """``unseen:8`` -> the label ``unseen`` and its first 8 seeds; ``8`` -> a fresh label and its first 8 seeds.

    The same label gives the same seeds, and more of them begin with fewer. A fresh label is 64 random bits of the
    operating system. Raises UsageError.
    """
    match = _LABELED.fullmatch(str(value).strip())
    if isinstance(value, bool) or not match or not int(match[2]):
        raise UsageError(
            f"--instances {value}: neither a number of instances, 1 or more, nor LABEL:COUNT, for example unseen:8; "
            "a label is made of letters, digits and _.-"
        )
    label, count = match[1] or secrets.token_hex(8), int(match[2])
    if count > MAX_INSTANCES:
        raise UsageError(f"--instances {value}: more than {MAX_INSTANCES} instances")
    found = (labeled_seed(label, index) for index in range(count))
    return label, {seed: f"hex:{seed.hex()}" for seed in found}


def labeled_seed(label: str, index: int) -> bytes:
    """The 32 bytes of seed of a label's instance: sha256 of ``('instances', 'LABEL', INDEX)``, as Python writes it.

    Campaigns draw theirs from other keys (`harness.sampling`), so that no search has met a label's instances.
    """
    return key_bytes("instances", label, index)


def parse_seeds(value: str | int | Sequence[int | str]) -> Seeds:
    """``0:8,42,hex:00ff...``, or a sequence of such parts, -> each seed's 32 bytes, and what stands for it.

    ``a:b`` are the numbers from a to b - 1, ``a:b:step`` every step-th of them. Repeats count once. Raises UsageError.
    """
    text = as_written(value)
    seeds: Seeds = {}
    for part in (part.strip() for part in text.split(",")):
        if match := _HEX.fullmatch(part):
            seeds.setdefault(bytes.fromhex(match[1]), part.lower())
            continue
        numbers = _numbers(part)
        if not numbers:
            raise UsageError(
                f"--seeds {text}: {part!r} is neither a number, nor a range a:b or a:b:step with a < b, nor hex: and "
                f"{2 * SEED_BYTES} digits"
            )
        if len(numbers) > MAX_INSTANCES:
            raise UsageError(f"--seeds {text}: more than {MAX_INSTANCES} instances")
        for number in numbers:
            seeds.setdefault(seed_bytes(number), number)
    return seeds


def as_written(value: str | int | Sequence[int | str]) -> str:
    """What the user would write on the command line."""
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _numbers(part: str) -> range:
    """The numbers that ``a``, ``a:b`` or ``a:b:step`` stands for; none where it is something else."""
    match = _NUMBERS.fullmatch(part)
    if not match:
        return range(0)
    start, stop, step = int(match[1]), int(match[2] or int(match[1]) + 1), int(match[3] or 1)
    return range(start, stop, step) if step else range(0)


def shared_streams(seeds: Seeds) -> str:
    """A warning where instances are not independent, else the empty text.

    Row i of a data set draws from the generator number (first eight bytes of the seed) + i. So the data of seed n + 1
    are those of seed n, moved by one row: the same function up to one feature, the same samples up to one.
    """
    order = sorted(seeds, key=lambda seed: int.from_bytes(seed[:8], "little"))
    for one, other in pairwise(order):
        apart = int.from_bytes(other[:8], "little") - int.from_bytes(one[:8], "little")
        if apart < STREAMS:
            return (
                f"seeds {seeds[one]} and {seeds[other]} share data, because the challenge seeds row i "
                "with seed + i: their instances are not independent, and spreads and intervals come out too small; "
                f"take seeds at least {STREAMS} apart, or use --instances"
            )
    return ""


def guessable(seeds: Seeds) -> bool:
    """Whether a seed is a small number, which a submission can find by trying: it is given a hash of the seed."""
    return any(not any(seed[DATA_BYTES:]) for seed in seeds)

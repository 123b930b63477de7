"""Quick stand-ins for training, which workers call. Without torch, so that a worker starts in no time."""

from __future__ import annotations

import hashlib
import math
import os
import re
import signal
import time
from collections.abc import Iterator
from typing import Any

from evo.training import worker


def digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "little")


def train(lanes: list[dict[str, Any]], **_: object) -> Iterator[tuple[int, dict]]:
    """What a worker calls: for each lane `outcome`, after a few milliseconds."""
    for position, lane in enumerate(lanes):
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0.004")))
        yield position, outcome(**lane)


def climb(lanes: list[dict[str, Any]], **_: object) -> Iterator[tuple[int, dict]]:
    """For real genomes: a quality that rises as the learning rate nears 0.02, with noise of genome and instance."""
    for position, lane in enumerate(lanes):
        seed = lane["seed"]
        found = re.search(r"^lr: (\S+)$", lane["text"], re.MULTILINE)
        away = abs(math.log10(float(found.group(1)) / 0.02)) if found else 2.0
        quality = 0.9 - away / 4 + 0.3 * (digest(seed) % 1000 / 1000) + 0.3 * (digest(lane["hash"], seed) % 1000 / 1000)
        yield position, outcome(**{**lane, "hash": "0001"}) | {"quality": quality}


def diverge(lanes: list[dict[str, Any]], **_: object) -> Iterator[tuple[int, dict]]:
    """Every lane diverges in its first epoch."""
    lost = {"status": "diverged", "message": "epoch 0: running_mean of layer 0 is NaN", "quality": None}
    for position, lane in enumerate(lanes):
        yield position, outcome(**lane) | lost


def misbehave(lanes: list[dict[str, Any]], **_: object) -> Iterator[tuple[int, dict]]:
    """One after another, lanes whose genomes are named after what they do to their process."""
    for position, lane in enumerate(lanes):
        act(lane["hash"])
        yield position, outcome(**{**lane, "hash": "0001"})


def misbehave_together(lanes: list[dict[str, Any]], **_: object) -> Iterator[tuple[int, dict]]:
    """As on a GPU: what one lane does happens to all, before any is answered; the last is answered first."""
    for lane in lanes:
        act(lane["hash"])
    for position in reversed(range(len(lanes))):
        yield position, outcome(**{**lanes[position], "hash": "0001"})


def tell(lanes: list[dict[str, Any]], device: str, **_: object) -> Iterator[tuple[int, dict]]:
    """Says how many lanes came at once, and for which device."""
    for position, lane in enumerate(lanes):
        yield position, outcome(**lane) | {"message": f"{len(lanes)} on {device} at depth {lane['num_hidden_layers']}"}


def answer_wrongly(lanes: list[dict[str, Any]], **_: object) -> Iterator[tuple[int, dict]]:
    """Answers the first lane, that of the genome 0002 a second time, and no other."""
    yield 0, outcome(**lanes[0])
    if lanes[0]["hash"] == "0002":
        yield 0, outcome(**lanes[0])


def outcome(hash: str, seed: str, num_hidden_layers: int, epochs: int, **_: object) -> dict:
    """A training whose quality depends on genome and instance alone."""
    noise = digest(hash, seed, num_hidden_layers) % 1000 / 1000
    quality = None if hash == "0003" else int(hash, 16) % 40 / 40 + noise / 10
    losses = [1.0 / (epoch + 1) + noise for epoch in range(epochs)]
    if quality is None:
        losses[-1] = math.nan
    return {
        "status": "finished" if quality is not None else "diverged",
        "message": "",
        "epochs_run": epochs,
        "best_epoch": epochs - 1,
        "train_loss": losses,
        "val_loss": losses,
        "test_loss": losses[-1],
        "target_loss": 0.16,
        "quality": quality,
        "passed": None,
        "seconds": 0.004,
    }


def act(hash: str) -> None:
    match hash:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "once":  # dies the first time, and leaves a mark by which the second knows
            if not os.path.exists(mark := os.environ["FAKE_MARK"]):
                open(mark, "x").close()
                os._exit(7)
        case "leave":
            worker.exit_process("without this device I cannot go on")
        case "unusable":
            worker.exit_process("device cuda does not work: it has gone\nand some more words", worker.UNUSABLE)
        case "unusable once":
            if not os.path.exists(mark := os.environ["FAKE_MARK"]):
                open(mark, "x").close()
                worker.exit_process("device cuda does not work: it is busy", worker.UNUSABLE)
        case "sleep":
            time.sleep(600)
        case "raise":
            raise RuntimeError("genome 'x' is not to my taste")
        case "shout":
            print("this must not reach the protocol")

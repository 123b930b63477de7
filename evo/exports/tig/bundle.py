"""The files of a bundle: the texts of its programs in the frames of the templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from evo.exports.tig import source
from evo.exports.tig.host import Host, host, rust_number
from evo.exports.tig.hyperparameters import tunable
from evo.exports.tig.kernels import device
from evo.exports.tig.layout import EXTENTS, PARAMETERS, THREADS, TILE, Device
from genomes.backends.cuda.layout import ROLE_BITS
from genomes.backends.own_names import RESERVED_IN_C, RESERVED_IN_RUST, distinct
from genomes.compiler.options import Option
from genomes.compiler.program import Program
from genomes.language.genome import Genome
from harness.train import STEPS_PER_EPOCH

_OF_PROGRAMS = """
constants model stream given number now run values first k x asked taken_back new sizes query launch_query advance
launch_step Constants Program Tiles Genome Model Now Run Result real Tensor POINTERS STEPS_PER_EPOCH"""

HELPERS = {  # in Rust
    "chosen": """\
/// What is given for a hyperparameter, else what evolved.
fn chosen(name: &str, given: Option<f64>, evolved: f64, low: f64, high: f64, whole: bool) -> Result<f64> {
    let value = given.unwrap_or(evolved);
    if !(low <= value && value <= high) || whole && value != f64::floor(value) {
        let numbers = if whole { "whole numbers" } else { "numbers" };
        return Err(anyhow!("{name} is {value}; {numbers} from {low} to {high} are allowed"));
    }
    Ok(value)
}""",
    "fours": """\
/// Blocks of 4 in a row of n.
fn fours(n: usize) -> usize {
    n.div_ceil(4)
}""",
    "sign": """\
/// -1, 0 or 1; 0 where x is 0 or NaN.
fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}""",
    "larger": """\
/// The larger; NaN where either is NaN.
fn larger(x: f64, y: f64) -> f64 {
    if x.is_nan() || x > y { x } else { y }
}""",
    "smaller": """\
/// The smaller; NaN where either is NaN.
fn smaller(x: f64, y: f64) -> f64 {
    if x.is_nan() || x < y { x } else { y }
}""",
    "safe_div": """\
/// x / y; 0 where y is 0.
fn safe_div(x: f64, y: f64) -> f64 {
    if y == 0.0 { 0.0 } else { x / y }
}""",
    "modulo": """\
/// Remainder of x / y with the sign of y; 0 where y is 0.
fn modulo(x: f64, y: f64) -> f64 {
    if y == 0.0 {
        return 0.0;
    }
    let rest = x % y;
    if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
}""",
    "power": """\
/// x to the power of y, of max(x, 0) where y has a fraction; 1 where y is 0.
fn power(x: f64, y: f64) -> f64 {
    if y == 0.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return x + y;
    }
    let raised = f64::powf(if y != f64::floor(y) && x < 0.0 { 0.0 } else { x }, f64::abs(y));
    if y > 0.0 { raised } else { safe_div(1.0, raised) }
}""",
}


@dataclass(frozen=True)
class Part:
    """A genome of a bundle. ``depths``: for which numbers of hidden layers; empty: for all others."""

    genome: Genome
    depths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Compiled:
    """A part and what it was compiled to. ``module``: of its Rust text; ``prefix``: of its kernels' names."""

    part: Part
    module: str
    prefix: str
    program: Program
    device: Device
    host: Host
    options: Mapping[str, Option]


def compiled(bundle: str, parts: Sequence[Part]) -> list[Compiled]:
    """The parts of a bundle of that name. Raises GenomeError."""
    found = []
    for k, part in enumerate(parts):
        prefix = f"{bundle}_{k}_" if len(parts) > 1 else f"{bundle}_"
        module = f"genome_{k}" if len(parts) > 1 else "genome"
        tuned = tunable(part.genome)
        renamed, options = _with_safe_names(tuned.program, tuned.options)
        on_device = device(renamed)
        on_host = host(renamed, on_device, list(options), prefix)
        found.append(Compiled(part, module, prefix, renamed, on_device, on_host, options))
    return found


def rust_text(bundle: str, parts: Sequence[Compiled]) -> str:
    """``mod.rs``."""
    templates = environment()
    programs = []
    for part in parts:
        text = templates.get_template("program.rs.j2").render(
            title=_title(part), module=part.module, host=part.host,
            options={name: _rust_arguments(option) for name, option in part.options.items()},
        )  # fmt: skip
        depths = " | ".join(map(str, part.part.depths))
        programs.append({"module": part.module, "depths": depths, "text": text.rstrip("\n")})
    return templates.get_template("mod.rs.j2").render(
        name=bundle, programs=programs, hyperparameters=hyperparameters(parts), bits=ROLE_BITS, threads=THREADS,
        tile=TILE, steps_per_epoch=STEPS_PER_EPOCH, pointers=source.POINTERS, arguments=_arguments(),
        helpers=_helpers("\n".join(program["text"] for program in programs)),
        any_shift=any(part.device.uses_shift for part in parts), any_gains=any(part.device.gains for part in parts),
    )  # fmt: skip


@dataclass(frozen=True)
class Hyperparameter:
    """What people are told of a hyperparameter: ``default``, several where the genomes of a bundle have others."""

    name: str
    default: str
    allowed: str


def hyperparameters(parts: Sequence[Compiled]) -> list[Hyperparameter]:
    """The hyperparameters of all parts."""
    found: dict[str, list[Option]] = {}
    for part in parts:
        for name, option in part.options.items():
            found.setdefault(name, []).append(option)
    return [
        Hyperparameter(name, _joined(repr(o.value) for o in options), _joined(o.allowed for o in options))
        for name, options in found.items()
    ]


def _rust_arguments(option: Option) -> str:
    """What `chosen` takes after its second argument."""
    numbers = (rust_number(float(x)) for x in (option.value, option.low, option.high))
    return ", ".join((*numbers, str(option.whole).lower()))


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def cuda_text(bundle: str, parts: Sequence[Compiled]) -> str:
    """The ``.cu`` file."""
    return source.source(bundle, {part.prefix: part.device for part in parts})


def _with_safe_names(program: Program, options: Mapping[str, Option]) -> tuple[Program, dict[str, Option]]:
    """The program with names that mean nothing else in C and Rust, and its hyperparameters under theirs."""

    def written(bare: Program) -> str:
        return "\n".join(kernel.body for kernel in device(bare).kernels)

    reserved = [
        *RESERVED_IN_C.split(), *RESERVED_IN_RUST.split(), *_OF_PROGRAMS.split(), *(word for _, word in PARAMETERS),
        *source.HELPERS, *HELPERS, *EXTENTS, *(f"{extent}_{k}" for extent in EXTENTS for k in range(9)),
    ]  # fmt: skip
    renamed = distinct(program, written, reserved)
    new = {old.name: slot.name for old, slot in zip(program.slots, renamed.slots, strict=True)}
    return renamed, {new[name]: option for name, option in options.items()}


def _helpers(text: str) -> list[str]:
    found: list[str] = []
    for name, helper in reversed(HELPERS.items()):
        if re.search(rf"(?<![\w.:]){name}\(", text):
            text += helper
            found.insert(0, helper)
    return found


def _arguments() -> list[str]:
    own = {"tiles": "tiles"}
    kept = {"tensors", "addresses", "values", "state", "scratch"}
    return [
        own.get(word) or (f"self.{word}" if word in kept else f"&self.{word}" if word in ("seed", "t") else f"&{word}")
        for _, word in PARAMETERS
    ]


def _title(part: Compiled) -> str:
    depths = ", ".join(map(str, part.part.depths))
    return f"The genome {part.part.genome.name}" + (f", for {depths} hidden layers." if depths else ".")


def environment() -> Environment:
    """Where the templates are."""
    return Environment(
        loader=PackageLoader("evo.exports", "templates/tig"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip

"""The flat back end computes what the reference computes, over any program."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from evo.recipe.schema import Limits
from evo.search.variation.random_genome import random_genome
from genomes import catalogue
from genomes.backends.flat.optimizer import FlatProgram, serves
from genomes.backends.flat.plan import Planner
from genomes.backends.torch_reference import optimizer
from genomes.compiler.branches import conditions
from genomes.compiler.lowering import lower
from genomes.compiler.program import Program
from genomes.language.genome import Genome, GenomeError
from tests.genomes import strategies
from tests.genomes.backends.test_backends import AWKWARD, _quick
from tests.genomes.drive import Flat, drive, from_expression, value_of

STEPS = 12  # losses are known from step 9 on
ADAM = "debias(ema(g, 0.9)) / (sqrt(debias(ema(g * g, 0.999))) + 1e-8)"

MORE = {
    "mask of roles": {"text": "where(is_weight, g, 2 * g) + where(is_bias and g > 0, theta, 0)"},
    "mask guards a pole": {"text": "where(abs(g) > 0.3, g / (abs(g) - 0.3), theta * theta)"},
    "division by 0": {"text": "g / where(g > 0.1, g, 0) + theta / (g - g)"},
    "numbers first": {"text": "1 - g + 2 / (1 + abs(g)) + max(0.1, g) - min(t, theta)"},
    "chosen numbers": {"text": "where(g > 0, 3, -t) * (2 - theta)"},
    "host mask": {"text": "where(t % 2 == 0, g, theta) + where(has_loss, change(g), g)"},
    "slow operations": {"text": "g % 0.3 + theta % g + atan2(g, theta) + abs(g) ** 1.3 + 2 ** g"},
    "masks of masks": {"text": "where(not (g > 0 or theta > 0) and g >= theta, g, 1 - g)"},
    "shifted states": {"text": "prev(prev(g)) + prev(theta) + ema(prev(ema(g, 0.5)), 0.5)"},
    "numbers beyond float32": {"text": "max(g, 1e60) * theta + where(g > 0, 1e300, g) + g * 1e60 + (1e60 - g)"},
    "a number of the model in every entry": {
        "text": "g", "post": ["global_norm(delta)"], "query": ("0.5 * delta", "t % 2 == 0"),
    },
    "matrices and noise": {"text": "orthogonalise(g) + 0.1 * noise(1) + uniform(2) * bfloat16(theta)"},
    "adam": {"text": f"{ADAM} * (1 + t) + theta"},
    "adam's averages elsewhere": {"text": f"{ADAM} + sign(ema(g, 0.9)) * ema(g * g, 0.999) - prev(ema(g, 0.9))"},
    "adam of something else": {"text": ADAM.replace("g", "(g + 0.1 * theta)").replace("1e-8", "1 / t")},
    "adam's old average": {"text": f"{ADAM} + prev(ema(g * g, 0.999))"},
    "two of adam": {"text": f"{ADAM} - {ADAM.replace('0.999', '0.99')} + {ADAM.replace('g', 'theta')}"},
    "not adam": {"text": ADAM.replace("g * g", "g * theta * theta")},
    "rows and columns": {
        "text": "g * mean_row(abs(g)) / (1 + sum_column(g * g)) + max_row(g) * max_column(g) * norm(g)"
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_agree(program: Program, steps: int, dtype: torch.dtype, bound: float) -> None:
    assert far(drive(Flat(program), steps, dtype), drive(optimizer(program), steps, dtype), bound) == []


def far(found: list[Tensor], expected: list[Tensor], bound: float) -> list[int]:
    """Which updates differ by more than ``bound`` times the largest of their tensor, or are NaN in other places."""
    assert len(found) == len(expected)
    numbers = []
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        finite = b.isfinite()
        near = not finite.any() or (a - b)[finite].abs().max() <= bound * b[finite].abs().max()
        if not near or not torch.equal(a.isfinite(), finite):
            numbers.append(i)
    return numbers


@pytest.mark.parametrize("name", catalogue.names())
def test_known_optimizers(name: str):
    assert_agree(lower(catalogue.load(name)), STEPS, torch.float64, 1e-9)


@pytest.mark.parametrize("case", (AWKWARD | MORE).values(), ids=AWKWARD | MORE)
def test_awkward_programs(case: dict):
    assert_agree(from_expression(**case), STEPS, torch.float64, 1e-9)


@settings(_quick, max_examples=30)
@given(genome=strategies.genomes())
def test_random_genomes(genome: Genome):
    _agree_when_smooth(genome)


@pytest.mark.slow
def test_many_random_genomes():
    """As campaigns draw them. One in a thousand may part: where equal numbers are subtracted, rounding is all that is
    left, and a sign or a division makes a full step of it."""
    parted = []
    for case in range(3000):
        program = lower(random_genome("r", Limits(), random.Random(case)))
        if far(drive(Flat(program), 3), drive(optimizer(program), 3), 1e-6):
            parted.append(case)
    assert len(parted) <= 3, parted


def _agree_when_smooth(genome: Genome) -> None:
    """Random genomes may be chaotic, and then no two roundings agree for long: one step, after two to fill states."""
    try:
        program = lower(genome)
    except GenomeError:
        assume(False)
        raise
    assert_agree(program, 3, torch.float64, 1e-6)


@pytest.mark.parametrize(("text", "kernels"), [(ADAM, 1), (f"{ADAM} + theta", 2)])
def test_adam_is_one_pass(text: str, kernels: int):
    program = from_expression(text)
    plan = Planner(program, conditions(program), [0.0] * len(program.nodes), 1e38, lambda *_: 0)
    assert len(plan.kernels) <= kernels + 1  # the learning rate


def test_what_is_not_chosen_does_not_matter():
    text = "where(g > 0, 1e30 * g * 1e30 * g * 1e30, theta)"  # infinite in float32 where it is not chosen, too
    assert value_of(text, [-1.0, -2.0], [0.25, 0.5], torch.float32).tolist() == [0.25, 0.5]
    run = Flat(from_expression(text))
    state = run.init_state(
        b"", [2], shapes=[(2, 1)], roles=["weight"], trainable=[True], layers=[0], dtype=torch.float32
    )
    parameters, gradient = torch.tensor([[0.25], [0.5]]), torch.tensor([[-1.0], [-2e10]])
    assert run.step(state, [parameters], [gradient], 0, None, None)[0].flatten().tolist() == [-0.25, -0.5]


def test_two_runs_of_one_program_do_not_meet():
    program = lower(catalogue.load("cautious_adanw"))
    alone = drive(Flat(program), 12)
    other, context = (
        FlatProgram(program),
        {"shapes": [(4, 2)], "roles": ["weight"], "layers": [0], "indices": [0]},
    )
    vectors = torch.ones(2, 8, dtype=torch.float64)
    busy = other.bind(*vectors, seed=bytes(32), **context)
    busy.step(0, None, None)
    assert all(torch.equal(a, b) for a, b in zip(drive(Flat(program), 12), alone, strict=True))


def test_a_program_with_an_unknown_operation_is_left_to_others():
    program = lower(catalogue.load("adam"))
    assert serves(program)
    nodes = tuple(type(n)("new", n.arguments, n.shape) if n.op == "sqrt" else n for n in program.nodes)
    assert not serves(replace(program, nodes=nodes))

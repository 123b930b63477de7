"""Different optimizers have different identities, however rarely they differ; what is text alone plays no part."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from genomes import catalogue
from genomes.analysis.probe import probe_hash
from genomes.compiler.identity import genome_identity, program_identity
from genomes.compiler.lowering import lower, read
from genomes.compiler.program import Evaluation, Program
from genomes.language import genome
from genomes.language.genome import Genome
from genomes.language.parser import parse_expression
from tests.genomes.identities import note, noted

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases"


def make(*terms: str, **genes: object) -> Genome:
    """A genome from YAML values given as Python ones; ``terms`` are expressions of weight 1."""
    data = {"genome": 1, "name": "n", "lr": 1e-3, "terms": [{"expr": text} for text in terms], **genes}
    return genome.parse(json.dumps(data))


def identity(*terms: str, **genes: object) -> str:
    return genome_identity(make(*terms, **genes))


def test_every_shipped_genome_is_noted():
    assert sorted(noted()) == sorted(catalogue.all_names()), "run python -m tests.genomes.identities"


@pytest.mark.parametrize("name", catalogue.all_names())
def test_shipped_genomes_keep_canonical_form_and_identity(name: str):
    """What a ledger knows of them stays true: tests/genomes/identities.py says when these may change."""
    assert note(catalogue.load(name)) == noted().get(name), "read tests/genomes/identities.py before you write it anew"


def test_a_note_depends_on_every_number_and_not_on_the_source():
    genome = catalogue.load("adamw")
    other = replace(genome, decay=replace(genome.decay, rate=0.011))
    assert note(other)["canonical"] != note(genome)["canonical"]
    assert note(other)["identity"] != note(genome)["identity"]
    assert note(replace(genome, source="elsewhere", oracle="none")) == note(genome)


WHOLE = (*range(50), *range(50, 10_000, 331), 10**6)
LOSSES = [k / 32 for k in range(1, 65)]
TABLE = {
    "lookahead(delta, k)": range(2, 200),
    "freeze_after(delta, k)": range(2, 400),
    "where(rows > k, delta, 0)": WHOLE,
    "where(columns > k, delta, 0)": WHOLE,
    "where(model_size > k, delta, 0)": WHOLE,
    "where(layer_count > k, delta, 0)": range(65),
    "where(depth_fraction > k, delta, 0)": LOSSES,
    "where(train_loss > k, delta, 0)": LOSSES,
    "where(val_loss > k, delta, 0)": LOSSES,
    "where(best_loss > k, delta, 0)": LOSSES,
    "where(t > k, delta, 0)": WHOLE,
    "where(epoch > k, delta, 0)": WHOLE,
    "where(t % k == 0, delta, 0)": range(2, 400),
    "delta * (1 + k)": [1e-9, 1e-12, 1e-15, 2.0**-52],
}


@pytest.mark.slow
def test_the_collision_table_has_no_shared_key():
    adam, found = make("adam(g)"), defaultdict(list)
    for pattern, values in TABLE.items():
        for k in values:
            expression = re.sub(r"\bk\b", repr(k), pattern)
            gated = replace(adam, post=(parse_expression(expression, "post"),))
            found[genome_identity(gated)].append(expression)
    found[genome_identity(adam)].append("delta")
    assert len(found) == sum(map(len, TABLE.values())) + 1, [same for same in found.values() if len(same) > 1]


def test_queries_that_differ_in_a_step_differ():
    found = {identity("adam(g)", query={"offset": "delta", "when": f"t % {k} == 1"}) for k in range(2, 200)}
    found |= {identity("adam(g)", query={"offset": "delta", "when": f"epoch > {k}"}) for k in range(200)}
    assert len(found) == 198 + 200


@pytest.mark.parametrize(
    "names",
    [
        ("same_hash_plain", "same_hash_look20", "same_hash_bydepth"),
        ("same_hash_plain", "la20", "la30"),
        ("tig_lion_by_depth", "same_hash_lion_shallow"),
    ],
)
def test_cases_that_shared_one_training_differ(names):
    found = [read(CASES / f"{name}.yaml") for name in names]
    assert len({genome_identity(g) for g in found}) == len(found)


def test_the_probe_alone_would_not_tell_them_apart():
    plain, look20 = (read(CASES / f"same_hash_{name}.yaml") for name in ("plain", "look20"))
    assert probe_hash(plain) == probe_hash(look20)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("g * theta", "theta  *  g"),
        ("max(g, theta) + ema(g, 0.9)", "ema(g, 0.9) + max(theta, g)"),
        ("ema(g * theta, 0.9) - ema(theta + g, 0.99)", "ema(theta * g, 0.9) - ema(g + theta, 0.99)"),
        ("where(g > 0 and theta > 0, g, 0)", "where(theta > 0 and g > 0, g, 0)"),
        ("where(t == epoch, g, 0)", "where(epoch == t, g, 0)"),
        ("sum_all(abs(g) * theta) * g", "g * sum_all(theta * abs(g))"),
        ("adam(g)", "debias(ema(g, 0.9)) / (sqrt(debias(ema(g * g, 0.999))) + 1e-8)"),
        ("adam(g, 0.9)", "adam(g, 9e-1)"),
        ("ema(g, 0.9) + ema(ema(g, 0.9), 0.9)", "ema(ema(g, 0.9), 0.9) + ema(g, 0.9)"),
        ("prev(prev(g)) + prev(g)", "prev(g) + prev(prev(g))"),
    ],
)
def test_ways_to_write_one_program_are_one(one, other):
    assert identity(one) == identity(other)


def test_name_and_source_play_no_part():
    adam = identity("adam(g)")
    assert identity("adam(g)", name="other", source="elsewhere", oracle="torch.optim.Adam") == adam
    assert identity("adam(g)", query={"offset": "delta", "when": "1 > 2"}) == adam, "a query that never happens"
    assert identity("adam(g)", query={"offset": "delta", "when": "t > 2"}) != adam


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("g - theta", "theta - g"),
        ("atan2(g, theta)", "atan2(theta, g)"),
        ("where(g > theta, g, 0)", "where(theta > g, g, 0)"),
        ("ema(g, 0.9) - ema(g, 0.99)", "ema(g, 0.99) - ema(g, 0.9)"),
        ("prev(prev(g))", "prev(g)"),
        ("noise(0)", "noise(1)"),
        ("theta - theta_start + g", "theta - prev(theta) + g"),
        ("sum_row(g) * g", "sum_column(g) * g"),
    ],
)
def test_programs_that_differ_differ(one, other):
    assert identity(one) != identity(other)


def reordered(program: Program) -> Program:
    """The program with its slots in reverse order."""
    count = len(program.slots)

    def moved(slot):
        return count - 1 - slot

    nodes = tuple(
        replace(node, attribute=moved(int(node.attribute or 0))) if node.op == "load" else node
        for node in program.nodes
    )
    return replace(
        program, name="other", nodes=nodes, slots=tuple(replace(s, name="other") for s in program.slots[::-1]),
        stores=tuple((moved(slot), node) for slot, node in program.stores), labels=(),
        query=program.query and replace(program.query, offset=moved(program.query.offset)),
        evaluation=program.evaluation
        and Evaluation(moved(program.evaluation.offset), moved(program.evaluation.applied)),
    )  # fmt: skip


@pytest.mark.parametrize("name", catalogue.names())
def test_order_and_names_of_states_play_no_part(name):
    program = lower(catalogue.load(name))
    assert program_identity(reordered(program)) == program_identity(program)


def test_a_state_kept_twice_is_the_state_kept_once():
    program = lower(make("ema(g, 0.9)"))
    (slot,), ((_, stored),) = program.slots, program.stores
    twice = replace(program, slots=(slot, slot), stores=((0, stored), (1, stored)))
    assert program_identity(twice) == program_identity(program)
    apart = replace(program, slots=(slot, replace(slot, init=1.0)), stores=((0, stored), (1, stored)))
    assert program_identity(apart) != program_identity(program)


def test_known_optimizers_of_one_identity_are_one_program():
    programs = {name: lower(catalogue.load(name)) for name in catalogue.names()}
    identities = {name: program_identity(program) for name, program in programs.items()}
    for one, other in combinations(programs, 2):
        if identities[one] == identities[other]:
            assert replace(programs[one], name="", labels=()) == replace(programs[other], name="", labels=())


def test_an_identity_needs_no_torch():
    code = (
        "import sys; from genomes import catalogue; from genomes.compiler.identity import genome_identity;"
        "genome_identity(catalogue.load('adam')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

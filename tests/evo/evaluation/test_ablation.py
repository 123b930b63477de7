"""What parts are worth, and what can go: against qualities whose truth is known."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest

from evo.evaluation.ablation import MARGIN, ORIGINAL, explain, rounded, variants
from evo.evaluation.question import Question, parse_question
from evo.evaluation.trainings import Evaluation, Result
from genomes import catalogue
from genomes.analysis.calibration import calibrates
from genomes.compiler.identity import genome_identity
from genomes.language.genome import dump, parse
from harness.result import Training

GENOME = parse(
    """
genome: 1
name: made
lr: 1.234e-3
terms:
  - {weight: 1.0, expr: "adam(g, 0.9123, 0.999, 1e-8)"}
  - {weight: 0.5, expr: "sign(g)"}
gates: ["cautious(u, 0.25)"]
decay: {kind: decoupled, rate: 0.0123}
schedule: "linear_warmup(5)"
"""
)


def quality(text: str, seed: bytes) -> float:
    """Adam and the gate are worth something, the warm-up, the decay and the second term nothing."""
    noise = int.from_bytes(hashlib.sha256(seed + text.encode()).digest()[:4], "little") / 2**32 * 1e-4
    luck = seed[0] / 512
    return 0.4 + luck + noise + 0.2 * ("adam(" in text) + 0.1 * ("cautious" in text)


def train(question: Question) -> Evaluation:
    results = []
    for target in question.targets:
        for instance in question.instances:
            value = quality(target.text, instance.seed)
            training = Training("finished", "", 2, 1, [1.0], [1.0], 0.1, 0.2, value, None, 0.0)
            results.append(Result(target.name, instance, training))
    return Evaluation(question, tuple(results))


@pytest.fixture(scope="module")
def question():
    return parse_question(["adam"], instances="ablation:8")


@pytest.fixture(scope="module")
def explanation(question):
    return explain(GENOME, question, train)


def test_parts_have_the_worth_that_they_have_largest_first(explanation):
    worth = {part.what: part.paired.mean for part in explanation.parts}
    assert worth["gates.0: cautious(u, 0.25)"] == pytest.approx(0.1, abs=1e-3)
    assert worth["schedule: linear_warmup(5)"] == pytest.approx(0, abs=1e-3)
    assert any("adam" in what and value == pytest.approx(0.2, abs=1e-3) for what, value in worth.items())
    assert all(a.paired.mean >= b.paired.mean for a, b in pairwise(explanation.parts))
    assert all(part.p_holm >= part.paired.p for part in explanation.parts)


def test_what_is_worth_nothing_goes_and_the_rest_stays(explanation):
    text = dump(explanation.simplified)
    assert "adam(" in text
    assert "cautious" in text
    assert "warmup" not in text
    assert "sign" not in text
    assert "decay" not in text
    labels = [removal.instances for removal in explanation.removals]
    assert len(set(labels)) == len(labels), "each removal is confirmed on instances of its own"
    assert all(removal.high < MARGIN for removal in explanation.removals)
    assert explanation.to_dict()["simplified"] == text


def test_a_removal_that_further_instances_do_not_confirm_does_not_happen(question):
    def unlucky(asked: Question) -> Evaluation:
        found = train(asked)
        if "confirm" not in asked.label:
            return found
        worse = [
            result
            if result.target == ORIGINAL
            else Result(result.target, result.instance, Training.failed("diverged", "", target_loss=0.1))
            for result in found.results
        ]
        return Evaluation(asked, tuple(worse))

    explanation = explain(GENOME, question, unlucky)
    assert explanation.simplified == GENOME
    assert not explanation.removals


@pytest.mark.parametrize("name", list(catalogue.names())[::3])
def test_variants_of_known_optimizers_are_other_programs_that_can_be_read(name):
    genome = catalogue.load(name)
    found = variants(genome)
    identities = [genome_identity(parse(dump(variant))) for _, variant in found]
    assert len({*identities, genome_identity(genome)}) == len(found) + 1
    assert len({what for what, _ in found}) == len(found)
    assert calibrates(genome) == any("calibration of" in what for what, _ in found)


def test_rounding_keeps_betas_apart_from_one():
    assert "0.91, beta2=0.999" in dump(rounded(GENOME, 1))
    assert rounded(GENOME, 2).lr == 1.2e-3

"""What evaluation sees: the gene and its words, on the challenge's network."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from genomes import catalogue
from genomes.backends.flat.optimizer import FlatProgram
from genomes.backends.readout import feature_gains, frozen_end, output_shifts
from genomes.backends.torch_reference import optimizer
from genomes.compiler.identity import genome_identity, program_identity
from genomes.compiler.lowering import lower, read_text
from genomes.language.genome import Genome, GenomeError, parse
from harness import flat, train
from harness.data import TRAIN
from harness.flat import FlatLoop
from harness.model import network_layout, predict
from harness.optimizer import GuardedOptimizer
from harness.task import Instance
from harness.train import LiteralLoop

SEED = hashlib.sha256(b"evaluation").digest()
INSTANCE = Instance("tig", 3, SEED)
CALIBRATED = catalogue.load("calibrated_adam")
AS_EVALUATED = replace(CALIBRATED, query=replace(CALIBRATED.query, as_evaluated=True))
CPU = torch.device("cpu")
PLAIN = 'genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: "adam(g)"}]\n'


def trained(genes: str, epochs: int = 4, instance: Instance = INSTANCE):
    program = lower(parse(PLAIN + genes))
    return flat.train(instance, FlatProgram(program), epochs=epochs, dtype=torch.float64)


@pytest.mark.parametrize("query", ["", 'query: {offset: "0.5 * delta", when: "t % 3 == 0"}\n'])
def test_training_never_notices_the_offset(query: str):
    plain = trained(query)
    moved = trained(query + 'evaluation: {offset: "0.3 * theta + 0.1", from: 1}\n')
    np.testing.assert_allclose(moved.train_loss, plain.train_loss, rtol=1e-9)
    assert moved.val_loss[0] == pytest.approx(plain.val_loss[0], rel=1e-12)  # no offset yet
    assert all(abs(a / b - 1) > 1e-3 for a, b in zip(moved.val_loss[1:], plain.val_loss[1:], strict=True))


def test_when_it_is_not_evaluated_elsewhere_nothing_changes():
    moved = trained('evaluation: {offset: "0.3 * theta", when: "epoch == 2"}\n')
    plain = trained("")
    same = [a == pytest.approx(b, rel=1e-12) for a, b in zip(moved.val_loss, plain.val_loss, strict=True)]
    assert same[:3] == [True, True, False]


def test_the_saved_model_has_the_offset():
    """An average as the offset: its validation loss is that of the averaged parameters."""
    program = lower(parse(PLAIN + 'evaluation: {offset: "average(theta + delta, 0.9) - (theta + delta)"}\n'))
    with torch.inference_mode():
        loop = FlatLoop(INSTANCE, FlatProgram(program), torch.float64)
        loop.start()
        for epoch in range(2):
            loop.run_epoch(epoch)
        (slot,) = [k for k, kept in enumerate(program.slots) if kept.name.startswith("average")]  # of clean parameters
        torch.testing.assert_close(loop.network.theta, loop.steps._slots[slot], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("init", ["per_layer", "shared"])
def test_the_outputs_means_are_measured_and_moved(init: str):
    """Two epochs of biased outputs tell the targets' means; the shift moves the evaluated outputs there."""
    instance = Instance("tig", 4, SEED, init)
    program = lower(catalogue.load("calibrated_adam"))
    with torch.no_grad():
        loop = LiteralLoop(instance, GuardedOptimizer(optimizer(program)), torch.float64, torch.device("cpu"))
        loop.start()
        for epoch in range(5):
            loop.run_epoch(epoch)
        layout, mean = loop.layout, loop.y[TRAIN].mean(0)
        measured = [loop.state.slots[k] for k, slot in enumerate(program.slots) if "error_error" in slot.name]
        np.testing.assert_allclose(measured, mean, atol=0.02)

        end = frozen_end(layout.shapes, layout.roles, layout.layers, layout.trainable)
        shifts = output_shifts(*(loop.params[i] for i in end[:-1]))
        before = predict(layout, loop.params, loop.x[TRAIN]).mean(0)
        for k in range(2):
            params = list(loop.params)
            params[end[0]] = params[end[0]] + 0.05 * shifts[k]
            moved = (predict(layout, params, loop.x[TRAIN]).mean(0) - before) / 0.05
            wanted = torch.eye(2, dtype=torch.float64)[k]
            torch.testing.assert_close(moved, wanted, rtol=0, atol=0.2)


@pytest.mark.parametrize("init", ["per_layer", "shared"])
def test_validation_losses_move_the_outputs_means(init: str):
    """Without a probe, and with an error that is known: training holds the mean at 0, so it is the targets' mean.

    The parameters rest after two epochs, so that losses move by the swing. The first correction is after epoch 4.
    """
    moved = [f"output_shift({k}) * output_correction({k}, size=0.2, gain=0.5, trust=1)" for k in range(2)]
    schedule = 'schedule: "where(epoch < 2, 1, 0.001)"\n'
    program = lower(parse(f'{PLAIN}{schedule}evaluation: {{offset: "{moved[0]} + {moved[1]}"}}\n'))
    with torch.inference_mode():
        loop = FlatLoop(Instance("tig", 2, SEED, init), FlatProgram(program), torch.float64)
        loop.start()
        wanted, means = loop.y[TRAIN].mean(0), []
        for epoch in range(16):
            loop.run_epoch(epoch)
            means.append(predict(loop.layout, loop.params, loop.x[TRAIN]).mean(0))
        first, last = (
            torch.stack(part).mean(0) - wanted for part in (means[:4], means[-4:])
        )  # both swings, up and down
    assert first.norm() > 0.9 * wanted.norm()
    assert last.norm() < wanted.norm() / 3


@pytest.mark.parametrize("init", ["per_layer", "shared"])
def test_a_batch_has_the_features_of_evaluation(init: str):
    """Of what a shift makes of the frozen features' spread, the scale takes most away."""
    with torch.no_grad():
        instance = Instance("tig", 4, SEED, init)
        loop = LiteralLoop(instance, GuardedOptimizer(optimizer(lower(CALIBRATED))), torch.float64, CPU)
        loop.start()
        for epoch in range(20):
            loop.run_epoch(epoch)
        layout, params = loop.layout, list(loop.params)

        def rectified(shift: torch.Tensor) -> torch.Tensor:
            """The frozen units before their BatchNorm, on the training data as one batch."""
            units = loop.x[TRAIN]
            for i in range(4):
                (weight, bias), (gain, here, *_) = params[layout.linear(i)], params[layout.norm(i)]
                found = (units @ weight.T + bias).clamp(min=0)
                units = (found - found.mean(0)) / (found.var(0, unbiased=False) + 1e-5).sqrt()
                units = units * gain + (shift if i == 2 else here)
            return found

        end = [params[i] for i in frozen_end(layout.shapes, layout.roles, layout.layers, layout.trainable)]
        here = rectified(end[0])
        settled = [*end[:4], here.mean(0), here.var(0)]  # the running statistics lag in a network that still learns
        moved = 0.5 * output_shifts(*settled, end[6])[0]
        scale = feature_gains(*settled, moved=moved)
    wanted = ((rectified(end[0] + moved).var(0) + 1e-5) / (here.var(0) + 1e-5)).sqrt().log()
    left = wanted - (scale / end[3]).log()
    assert wanted.std() > 0.05
    assert left.std() < wanted.std() / 5


def test_gradients_do_not_notice_a_biased_output():
    biased = trained('query: {outputs: ["where(epoch == 1, 5, 0)", "where(epoch == 2, -3, 0)"]}\n', 3)
    plain = trained("", 3)
    change = np.array(biased.train_loss) - np.array(plain.train_loss)
    mean = FlatLoop(INSTANCE, FlatProgram(lower(parse(PLAIN))), torch.float64).y[TRAIN].mean(0).tolist()
    expected = [0, 5 * 5 / 2 - 5 * mean[0], 3 * 3 / 2 + 3 * mean[1]]
    np.testing.assert_allclose(change, expected, atol=1e-6)


def test_a_network_that_trains_to_its_end_has_no_shift():
    layout = network_layout("seed", 3)
    assert frozen_end(layout.shapes, layout.roles, layout.layers, layout.trainable) == []
    instance = Instance("seed", 3, SEED)
    with_words = trained('evaluation: {offset: "calibration(1, 10)"}\nquery: {outputs: ["9", "9"]}\n', 2, instance)
    plain = trained("", 2, instance)
    np.testing.assert_allclose(with_words.val_loss, plain.val_loss, rtol=1e-9)


def test_an_epochs_last_step_is_a_word():
    """The 8 steps of the challenge's epoch need not be known."""
    by_word = trained('evaluation: {offset: "-delta"}\npost: ["where(last_step_of_epoch, 0, delta)"]\n')
    by_number = trained('evaluation: {offset: "-delta"}\npost: ["where(t % 8 == 0, 0, delta)"]\n')
    assert by_word.val_loss == by_number.val_loss


@pytest.mark.parametrize("genome", [CALIBRATED, AS_EVALUATED], ids=["calibrated_adam", "as evaluated"])
def test_flat_and_literal_loops_agree_on_a_calibrated_optimizer(genome: Genome):
    program = lower(genome)
    literal = train.train(INSTANCE, optimizer(program), epochs=5, dtype=torch.float64)
    quick = flat.train(INSTANCE, FlatProgram(program), epochs=5, dtype=torch.float64)
    np.testing.assert_allclose(quick.val_loss, literal.val_loss, rtol=1e-9)
    np.testing.assert_allclose(quick.train_loss, literal.train_loss, rtol=1e-9)


@pytest.mark.parametrize(
    ("gene", "message"),
    [
        ("evaluation: 3", "evaluation: expected {offset: ..., from: 0, when: ...}, got 3"),
        ("evaluation: {from: 2}", "evaluation: missing key 'offset'"),
        ('evaluation: {offset: "0", from: 1.5}', "evaluation.from: expected a whole number of epochs, got 1.5"),
        ('evaluation: {offset: "0", from: -1}', "evaluation.from: -1 is out of range; allowed is 0 to 1e+06"),
        ('evaluation: {offset: "u"}', "evaluation.offset: u may stand under 'gates' alone"),
        ('evaluation: {offset: "0", every: 2}', "evaluation.every: unknown key"),
        ("query: {when: 't > 1'}", "query: missing key 'offset'"),
        ('query: {offset: "0", as_evaluated: 3}', "query.as_evaluated: expected true or false, got 3"),
        ("query: {outputs: 3}", "query.outputs: expected a list of 0 to 16 entries, got 3"),
    ],
)
def test_mistakes(gene: str, message: str):
    with pytest.raises(GenomeError) as caught:
        parse(PLAIN + gene)
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("gene", "message"),
    [
        ('evaluation: {offset: "0", when: "g > 0"}', "evaluation.when: when to evaluate elsewhere is made of t, epoch"),
        ('query: {outputs: ["norm(g)"]}', "query.outputs.0: only t, epoch, has_loss, train_loss, val_loss"),
        ('query: {outputs: ["ema(t, 0.9)"]}', "query.outputs.0: only t, epoch, has_loss, train_loss, val_loss"),
    ],
)
def test_genes_without_a_meaning(gene: str, message: str):
    with pytest.raises(GenomeError) as caught:
        lower(parse(PLAIN + gene))
    assert message in str(caught.value)


HERE = "this is made of t, epoch, losses and numbers"
CLOCK_GENES = [
    ('schedule: "1 + {}"\n', "schedule"),
    ('query: {{offset: delta, when: "{} > 0"}}\n', "query.when"),
    ('query: {{outputs: ["0", "{}"]}}\n', "query.outputs.1"),
]


@pytest.mark.parametrize(("gene", "key"), CLOCK_GENES)
def test_the_offset_is_no_clock_value(gene: str, key: str):
    with pytest.raises(GenomeError) as caught:
        read_text(PLAIN + gene.format("evaluation_offset") + "evaluation: {offset: delta}\n", "my.yaml")
    refused = "evaluation_offset has no value here in a genome with the gene evaluation"
    assert str(caught.value) == f"my.yaml:5: {key}: {refused}; {HERE}"


@pytest.mark.parametrize("evaluation", ["", "evaluation: {offset: delta}\n"])
@pytest.mark.parametrize(("gene", "key"), [*CLOCK_GENES, ('evaluation: {{offset: "0", when: "{} > 0"}}\n', "")])
def test_a_name_for_the_offset_is_none_either(gene: str, key: str, evaluation: str):
    genes = gene.format("before") + (evaluation if key else "")
    with pytest.raises(GenomeError) as caught:
        read_text(f'{PLAIN}let: ["before = evaluation_offset"]\n{genes}', "my.yaml")
    message = f"before is made of evaluation_offset; {HERE}"
    assert str(caught.value) == f"my.yaml:6: {key or 'evaluation.when'}: {message}"


@pytest.mark.parametrize(("gene", "_"), [*CLOCK_GENES, ('gates: ["u + {}"]\n', ""), ('post: ["delta + {}"]\n', "")])
def test_without_the_gene_the_offset_is_0_everywhere(gene: str, _: str):
    word, zero = (program_identity(lower(parse(PLAIN + gene.format(text)))) for text in ("evaluation_offset", "0"))
    assert word == zero


def test_the_offset_is_an_element_value_where_theta_may_stand():
    """Also in ``let``, of which a schedule may need other lines before the offset is known."""
    genes = """\
let: ["warm = min(1, t / 9)", "before = evaluation_offset"]
schedule: warm
gates: ["u + {0}"]
query: {{offset: "{0} * warm", when: "warm > 0.5"}}
post: ["delta - {0}"]
evaluation: {{offset: "{0} + delta", when: "warm > 0.5"}}
"""
    by_name, by_word = (lower(parse(PLAIN + genes.format(text))) for text in ("before", "evaluation_offset"))
    assert program_identity(by_name) == program_identity(by_word)
    assert program_identity(by_name) != program_identity(lower(parse(PLAIN + genes.format("0"))))


def test_each_part_of_the_gene_makes_another_optimizer():
    genes = [
        "",
        'evaluation: {offset: "delta"}\n',
        'evaluation: {offset: "delta", from: 1}\n',
        'evaluation: {offset: "delta", when: "epoch > 1"}\n',
        'query: {outputs: ["9"]}\n',
        'query: {outputs: ["0", "9"]}\n',
        'query: {offset: "delta", outputs: ["9"]}\n',
        'query: {offset: "delta", outputs: ["9"], as_evaluated: true}\n',
    ]
    assert len({genome_identity(parse(PLAIN + gene)) for gene in genes}) == len(genes)

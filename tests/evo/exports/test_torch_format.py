"""Exported torch classes: equal to their genomes and to torch's own, and at home among what surrounds optimizers."""

import ast
import copy
import math
import warnings

import pytest
import torch
from torch import nn

from evo.exports import torch_format
from evo.exports.export import Export
from genomes import catalogue
from genomes.language.genome import parse
from tests.evo.exports.torch_classes import FILE, class_of, largest_difference, module_of
from tests.genomes import trajectory

SOME = ("adam", "muon", "zclip_adam", "schedule_free_adamw", "cautious_adanw", "adam_ema")
FEW_STEPS = (1, 2, 3, 8, 9, 17, 33, 73)  # of the trajectory: epochs, losses, dead units
IN_A_ROW = {"soap": 21}  # steps of those that do something in every tenth alone
TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=3e-5),
    "heavy_ball": lambda p: torch.optim.SGD(p, lr=1e-5, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=1e-5, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0, rho=0.9, eps=1e-6),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "rmsprop_centred": lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True),
    "rmsprop_momentum": lambda p: torch.optim.RMSprop(p, lr=1e-4, momentum=0.9),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-3, etas=(0.5, 1.2), step_sizes=(1e-6, 3e-3)),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
    "adamax": lambda p: torch.optim.Adamax(p, lr=2e-3),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-3),
    "nadamw": lambda p: torch.optim.NAdam(p, lr=1e-3, weight_decay=1e-2, decoupled_weight_decay=True),
    "radam": lambda p: torch.optim.RAdam(p, lr=1e-3),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1, eps=(1e-15, 1e-3), d=1.0, weight_decay=0.0),
}


def few(name):
    moments = list(trajectory.moments(max(FEW_STEPS)))
    return moments[: IN_A_ROW[name]] if name in IN_A_ROW else [moments[k - 1] for k in FEW_STEPS]


def randoms(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in shapes]


def descend(optimizer, params, steps):
    """Steps on a bowl whose gradients change from step to step."""
    for k in range(steps):
        for i, p in enumerate(params):
            p.grad = (0.1 * p.detach() + math.sin(k + i)).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("name", catalogue.all_names())
def test_a_class_does_what_its_genome_does(name, tmp_path):
    assert largest_difference(catalogue.load(name), tmp_path, few(name)) < 1e-11
    tree = ast.parse((tmp_path / FILE).read_text())
    imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert imported <= {"torch", "math"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize("name", SOME)
def test_tensors_one_after_the_other_give_the_same(name, tmp_path):
    assert largest_difference(catalogue.load(name), tmp_path, few(name), foreach=False) < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.all_names())
@pytest.mark.parametrize("foreach", [False, True])
def test_a_class_does_what_its_genome_does_for_long(name, foreach, tmp_path):
    moments = list(trajectory.moments(165))
    assert largest_difference(catalogue.load(name), tmp_path, moments, foreach=foreach) < 1e-11


@pytest.mark.parametrize(("name", "steps"), [(name, 500 if name == "adam" else 60) for name in TORCH])
def test_a_class_does_what_torch_does(name, steps, tmp_path):
    mine, theirs = (randoms((4, 3), (5,), (1, 1)) for _ in range(2))
    descend(class_of(name, tmp_path)(mine), mine, steps)
    descend(TORCH[name](theirs), theirs, steps)
    close = 1e-8 if name.startswith("nadam") else 1e-12  # torch keeps a product of betas in float32
    torch.testing.assert_close(mine, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("name", ["adam", "lion", "heavy_ball", "adagrad"])
def test_rosenbrock(name, tmp_path):
    point = nn.Parameter(torch.tensor([-0.3, 0.4], dtype=torch.float64))
    rates = {"heavy_ball": 2e-4, "lion": 3e-3, "adagrad": 0.1}
    optimizer = class_of(name, tmp_path)([point], lr=rates.get(name, 0.02))

    def closure():
        optimizer.zero_grad()
        value = (1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2
        value.backward()
        return value

    first = optimizer.step(closure).item()
    for _ in range(200):
        last = optimizer.step(closure).item()
    assert last < 0.2 * first


@pytest.mark.parametrize("name", SOME)
def test_noncontiguous_parameters_and_channels_last(name, tmp_path):
    plain = randoms((6, 4), (3, 4, 2, 2))
    odd = [
        nn.Parameter(plain[0].detach().t().contiguous().t()),
        nn.Parameter(plain[1].detach().to(memory_format=torch.channels_last)),
    ]
    assert not any(p.is_contiguous() for p in odd)
    make = class_of(name, tmp_path)
    descend(make(plain), plain, 4)
    descend(make(odd), odd, 4)
    torch.testing.assert_close(odd, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SOME)
def test_bfloat16_parameters_keep_states_in_float32(name, tmp_path):
    half, full = randoms((6, 4), (4,), dtype=torch.bfloat16), randoms((6, 4), (4,), dtype=torch.float32)
    make = class_of(name, tmp_path)
    optimizer = make(half)
    descend(optimizer, half, 3)
    descend(make(full), full, 3)
    torch.testing.assert_close([p.float() for p in half], list(full), rtol=0.05, atol=0.05)
    again = make(half)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in (optimizer, again):
        tensors = [v for state in one.state.values() for k, v in state.items() if torch.is_tensor(v) and k != "theta"]
        assert all(value.dtype is torch.float32 for value in tensors)


@pytest.mark.parametrize("name", SOME)
def test_a_state_that_is_saved_goes_on_as_if_it_had_not_been(name, tmp_path):
    make = class_of(name, tmp_path)
    whole, broken = randoms((6, 4), (4,)), randoms((6, 4), (4,))
    optimizer = make(whole)
    descend(optimizer, whole, 4)
    first = make(broken)
    descend(first, broken, 4)
    with torch.no_grad():
        loaded = [nn.Parameter(p.clone()) for p in broken]
    second = make(loaded)
    second.load_state_dict(torch.load(_saved(first.state_dict(), tmp_path), weights_only=True))
    for one, params in ((optimizer, whole), (second, loaded)):
        descend(one, params, 3)
    assert all(map(torch.equal, whole, loaded))


def _saved(state, folder):
    torch.save(state, folder / "state.pt")
    return folder / "state.pt"


@pytest.mark.parametrize("name", ["adam", "muon", "zclip_adam", "schedule_free_adamw"])
def test_parameters_that_join_later_begin_at_their_first_step(name, tmp_path):
    make = class_of(name, tmp_path)
    early, late, alone = randoms((3, 2)), randoms((3, 2)), randoms((3, 2))
    optimizer = make(early)
    descend(optimizer, early, 5)
    optimizer.add_param_group({"params": late, "lr": 0.5 * optimizer.defaults["lr"]})
    assert len(optimizer.param_groups) == 2
    descend(optimizer, late, 1)
    assert optimizer.state[late[0]]["step"] == 1
    if name == "adam":
        descend(make(alone, lr=0.5 * optimizer.defaults["lr"]), alone, 1)
        torch.testing.assert_close(late, alone)


def test_options_of_the_whole_model_have_one_value(tmp_path):
    first, second = randoms((2,), (3,))
    optimizer = class_of("zclip_adam", tmp_path)([first])
    with pytest.raises(ValueError, match="beta1 belongs to the whole model"):
        optimizer.add_param_group({"params": [second], "beta1": 0.5})


def test_options_out_of_range_are_refused(tmp_path):
    make = class_of("adam", tmp_path)
    for options, message in (({"beta1": 1.0}, "beta1 is 1.0"), ({"lr": -1.0}, "lr is -1.0"), ({"eps": 0.0}, "eps is")):
        with pytest.raises(ValueError, match=message):
            make(randoms((2,)), **options)


def test_what_is_no_dense_real_tensor_is_refused(tmp_path):
    make = class_of("adam", tmp_path)
    with pytest.raises(ValueError, match="complex parameters are not supported"):
        make([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = make(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse gradients are not supported"):
        optimizer.step()


def test_maximize_turns_the_gradient(tmp_path):
    make = class_of("adam", tmp_path)
    up, down = randoms((3,)), randoms((3,))
    for params, sign in ((up, -1), (down, 1)):
        params[0].grad = torch.full((3,), float(sign), dtype=torch.float64)
    make(up, maximize=True).step()
    make(down).step()
    assert torch.equal(up[0], down[0])


def test_learning_rate_schedulers(tmp_path):
    (mine,), (theirs,) = randoms((3,)), randoms((3,))
    pairs = [(class_of("adam", tmp_path)([mine]), mine), (torch.optim.Adam([theirs]), theirs)]
    for optimizer, p in pairs:
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, cycle_momentum=False)
        for _ in range(9):
            descend(optimizer, [p], 1)
            scheduler.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_gradient_scalers(tmp_path):
    mine, theirs = randoms((3,), dtype=torch.float32), randoms((3,), dtype=torch.float32)
    for params, optimizer in ((mine, class_of("adam", tmp_path)(mine)), (theirs, torch.optim.Adam(theirs))):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for k in range(4):
            optimizer.zero_grad()
            loss = (params[0] * (math.inf if k == 1 else 1.0)).square().sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    torch.testing.assert_close(mine, theirs)
    assert torch.isfinite(mine[0]).all()


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


def train(model, optimizer, steps=20):
    x = torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    y = x.mean(dim=(2, 3)) @ torch.tensor([[1.0, -1.0]])
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


SET_BIASES = ("open_adam", "as_evaluated_adam")  # anew in their first step
LARGER = {  # learning rates in the catalogue suit sums over a batch; a mean has gradients 100 times smaller
    "sgd": 0.03, "heavy_ball": 0.01, "nesterov": 0.01, "sgd_clip_value": 0.03, "asgd": 0.03, "addsign": 0.03,
    "powersign": 0.01, "polyak_averaging": 0.3, "schedule_free_sgd": 0.1, "sgd_swa": 0.01, "sam_last_gradient": 0.03,
    "induced_metric": 0.03, "sgdp": 0.01, "dog": 1.0, "ef_signsgd": 1e-2, "ademamix": 3e-3, "grokfast": 1e-3,
    "sgd_swa_epochs": 0.01, "dgc": 0.01, "freezeout": 0.01,
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.slow) for name in catalogue.all_names()]
)
def test_twenty_steps_lower_the_loss_of_a_small_model(name, tmp_path):
    module = module_of(catalogue.load(name), tmp_path)
    model = small_model()
    groups = module.param_groups(model) if hasattr(module, "param_groups") else model.parameters()
    make = getattr(module, torch_format.class_name(name))
    options = {"lr": LARGER[name]} if name in LARGER else {}
    if name not in ("dadapt_adam", "prodigy", "dog"):  # these find their rate; it takes them more than twenty steps
        losses = train(model, make(groups, **options))
        assert min(losses[-3:]) < losses[name in SET_BIASES]
    else:
        assert all(map(math.isfinite, train(model, make(groups, **options))))


def test_roles_and_layers_come_from_modules(tmp_path):
    module = module_of(catalogue.load("cautious_adanw"), tmp_path)
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(4, 3), nn.Linear(3, 2, bias=False))
    model[3].weight = nn.Parameter(torch.zeros(2, 3))
    (group,) = module.param_groups(model)
    assert group["roles"] == ["weight", "bias", "norm_scale", "norm_shift", "weight", "weight"]
    assert group["layers"] == [0, 0, 0, 0, 1, 2]
    assert len(group["params"]) == len(list(model.parameters()))
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert len(module.param_groups(tied)[0]["params"]) == 3


def test_evaluation_and_gradients_have_points_of_their_own(tmp_path):
    (p,) = randoms((3,))
    optimizer = class_of("schedule_free_sgd", tmp_path)([p], lr=0.1)
    descend(optimizer, [p], 3)
    ahead = p.detach().clone()
    optimizer.eval()
    average = p.detach().clone()
    assert not torch.equal(ahead, average)
    with pytest.raises(RuntimeError, match=r"call train\(\) after eval\(\)"):
        optimizer.step()
    optimizer.train()
    assert torch.equal(p, ahead)


def test_queries_of_a_class_see_no_frozen_end(tmp_path):
    text = "genome: 1\nname: x\nlr: 1e-3\nterms: [{expr: g}]\nquery: {offset: delta, as_evaluated: true}\n"
    assert "The query's as_evaluated does nothing here" in torch_format.render(Export(parse(text)))
    assert largest_difference(parse(text), tmp_path, few("x")) < 1e-9


def test_a_state_saved_during_evaluation_returns_to_training(tmp_path):
    (p,), (q,) = randoms((3,)), randoms((3,))
    make = class_of("adam_ema", tmp_path)
    optimizer = make([p])
    descend(optimizer, [p], 3)
    clean = p.detach().clone()
    optimizer.eval()
    assert not torch.equal(p, clean)
    with torch.no_grad():
        q.copy_(p)
    again = make([q])
    again.load_state_dict(optimizer.state_dict())
    again.train()
    assert torch.equal(q, clean)


def test_validation_losses_move_schedules(tmp_path):
    genome = parse(
        'genome: 1\nname: halving\nlr: 0.1\nterms:\n  - {expr: "sign(g)"}\nschedule: "plateau(1, shrink=0.5)"\n'
    )
    module = module_of(genome, tmp_path)
    (p,) = randoms((1,))
    optimizer = module.Halving([p])
    moved = []
    for loss in (1.0, 0.5, 0.7, 0.7):
        before = p.item()
        p.grad = torch.ones_like(p)
        optimizer.step()
        moved.append(before - p.item())
        optimizer.observe(loss)
    before = p.item()
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert moved == pytest.approx([0.1, 0.1, 0.1, 0.05])
    assert before - p.item() == pytest.approx(0.025)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("adam", {"capturable": True}), ("lion", {}), ("muon", {})])
def test_steps_compile(name, options, tmp_path):
    mine, compiled = (randoms((6, 4), (4,), dtype=torch.float32) for _ in range(2))
    make = class_of(name, tmp_path)
    one, other = make(mine), make(compiled, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = torch.compile(other.step)
        for k in range(4):
            for p, q in zip(mine, compiled, strict=True):
                p.grad = (0.1 * p.detach() + math.sin(k)).contiguous()
                q.grad = p.grad.clone()
            one.step()
            step()
    torch.testing.assert_close(mine, compiled, rtol=1e-5, atol=1e-5)


def test_steps_may_be_counted_on_the_device(tmp_path):
    make = class_of("adam", tmp_path)
    mine, counted = randoms((4, 2), (3,)), randoms((4, 2), (3,))
    optimizer = make(counted, capturable=True)
    descend(optimizer, counted, 5)
    descend(make(mine), mine, 5)
    assert torch.is_tensor(optimizer.state[counted[0]]["step"])
    torch.testing.assert_close(mine, counted, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="capturable is not possible with"):
        class_of("cautious_adanw", tmp_path)(mine, capturable=True)


def test_every_evolved_constant_is_an_option(tmp_path):
    for name, expected in (
        ("adam", {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
        ("evolved_2025", {"term_weight2": 3.6352, "weight_decay": 9.745e-4, "linear_warmup_steps": 100}),
        ("adamp", {"beta2": 0.999, "project_tangent_delta": 0.1}),
        ("cautious_adanw", {"plateau_patience": 12, "lr_scale_bias": 1.25, "cautious_floor": 0.25}),
    ):
        (group,) = class_of(name, tmp_path)(randoms((2,))).param_groups
        assert {key: group[key] for key in expected} == expected


HOSTILE = ['"""; import os; os._exit(3) #', "back\\slash \\", "line\nbreak", "'''", '"' * 7, "{{ 7 * 7 }} {% raw %}"]


@pytest.mark.parametrize("text", [*HOSTILE, "\x00 \x1b \x7f \x85 \u2028 \ufeff"])
def test_texts_of_a_genome_cannot_break_out(text):
    genome = catalogue.load("adam").renamed("adam", text)
    tree = ast.parse(torch_format.render(Export(genome, text)))
    assert [type(node) for node in tree.body[:1]] == [ast.Expr]
    assert {type(node) for node in tree.body[1:]} <= {ast.Import, ast.FunctionDef, ast.ClassDef, ast.Assign}
    assert "49" not in ast.unparse(tree)


@pytest.mark.parametrize(
    "name", ["batch", "self", "torch", "state", "lr", "beta1", "step", "group", "sum", "keep", "t1"]
)
def test_names_of_a_genome_mean_nothing_else(name, tmp_path):
    genome = parse(
        f'genome: 1\nname: odd-{name}.1\nlr: 0.1\nlet: ["{name} from 0 = 0.9 * {name} + 0.1 * g", "x{name} = '
        f'sqrt(square({name}) + 1e-3)"]\nterms:\n  - {{expr: "{name} / x{name} + 0.5 * x{name}"}}\n'
    )
    assert largest_difference(genome, tmp_path, few(name)) < 1e-11


@pytest.mark.parametrize("name", ["params", "self", "lr", "maximize", "seed", "mode", "roles", "beta1", "step"])
def test_names_of_numbers_mean_nothing_else(name, tmp_path):
    genome = parse(
        f'genome: 1\nname: odd\nlr: 0.1\nlet: ["{name} = 0.95", "x = ema(g, {name})"]\n'
        'terms:\n  - {expr: "x + ema(g, 0.9) * ema(g, 0.99)"}\n'
    )
    assert largest_difference(genome, tmp_path, few(name)) < 1e-11


def test_whole_options_are_whole(tmp_path):
    with pytest.raises(ValueError, match=r"plateau_patience is 2\.5; it is a whole number"):
        class_of("cautious_adanw", tmp_path)(randoms((2,)), plateau_patience=2.5)


@pytest.mark.parametrize("constant", ["1e308", "1e-308", "-0.0", "5e-324", "123456789.123456789"])
def test_extreme_constants_are_numbers_in_the_file(constant, tmp_path):
    genome = parse(
        f'genome: 1\nname: extreme\nlr: 0.1\nterms:\n  - {{expr: "g / (abs(g) + {constant}) + clip(g, 0.5)"}}\n'
    )
    assert math.isfinite(largest_difference(genome, tmp_path, few("")))

"""Which device a campaign takes, and what is said where it cannot have the one that it asks for."""

from __future__ import annotations

import pytest
import torch

from evo.campaign.folder import RunFolder
from evo.cli import doctor
from evo.errors import EvoError, UsageError
from evo.evaluation.question import parse_question
from evo.evaluation.trainings import evaluate_targets
from evo.ledger.ledger import Ledger
from evo.training import devices
from tests.evo.campaign.test_run import Interrupting
from tests.evo.fake_campaign import folder, run


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one with or without a GPU, and with or without a compiler for it."""

    def become(gpu: bool, compiler: bool) -> None:
        def kernel_compiler() -> str:
            if not compiler:
                raise UsageError("no compiler; pip install cuda-bindings nvidia-cuda-nvrtc")
            return "nvrtc 13"

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100 << 30, 140 << 30))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imaginary 100")
        monkeypatch.setattr(devices, "kernel_compiler", kernel_compiler)

    return become


def test_auto_takes_a_gpu_whose_kernels_can_be_compiled(machine):
    said = []
    for gpu, compiler, device in ((False, False, "cpu"), (False, True, "cpu"), (True, True, "cuda")):
        machine(gpu, compiler)
        assert devices.for_campaign("auto", said.append) == device
    assert said == []
    machine(gpu=True, compiler=False)
    assert devices.for_campaign("auto", said.append) == "cpu"
    assert said == [
        "training on the CPU, although torch sees a GPU: no compiler; pip install cuda-bindings nvidia-cuda-nvrtc"
    ]


def test_what_is_not_here_is_refused(machine):
    machine(gpu=False, compiler=True)
    with pytest.raises(EvoError, match="device cuda: torch sees none here"):
        devices.for_campaign("cuda")
    with pytest.raises(EvoError, match="device cuda: torch sees none here"):
        evaluate_targets(parse_question(["adam"]), device="cuda")
    with pytest.raises(UsageError, match="must be cpu or cuda, got 'auto'"):
        evaluate_targets(parse_question(["adam"]), device="auto")
    machine(gpu=True, compiler=False)
    with pytest.raises(EvoError, match="no compiler"):
        devices.for_campaign("cuda")
    devices.for_literal_loop("cuda")  # it needs none


def test_a_campaign_keeps_its_device(tmp_path, machine):
    path = folder(tmp_path / "run")
    machine(gpu=False, compiler=True)
    with pytest.raises(EvoError, match="device cuda: torch sees none here"):
        run("launch", path, device="cuda")
    machine(gpu=True, compiler=True)
    run("launch", path, workers=0, progress=Interrupting(generation=1))
    with Ledger.open_to_read(RunFolder(path).ledger) as ledger:
        assert ledger.meta()["device"] == "cuda"
    machine(gpu=False, compiler=False)
    with pytest.raises(EvoError, match="device cuda: torch sees none here"):
        run("resume", path)
    machine(gpu=True, compiler=True)
    assert run("resume", path, workers=0).finished


def test_the_doctor_tells_what_a_gpu_needs(machine, monkeypatch):
    def told() -> dict[str, tuple[bool, str]]:
        return {check.name: (check.ok, check.found) for check in doctor._device()}

    machine(gpu=True, compiler=False)
    assert told()["cuda"] == (True, "Imaginary 100, 100 of 140 GiB free")
    assert told()["nvrtc"] == (False, "no compiler; pip install cuda-bindings nvidia-cuda-nvrtc")
    assert told()["device"] == (True, "campaigns train on cpu unless told otherwise")
    machine(gpu=True, compiler=True)
    assert told()["nvrtc"] == (True, "nvrtc 13: kernels for a GPU can be compiled")
    assert told()["device"] == (True, "campaigns train on cuda unless told otherwise")

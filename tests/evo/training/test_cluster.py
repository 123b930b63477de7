"""The pool for many machines, on machines that are lost, come late and answer nonsense; no Ray, no processes."""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Callable

import pytest

from evo.records import Lane
from evo.training import cluster as cluster_module
from evo.training.agent import Agent
from evo.training.cluster import ClusterError, ClusterPool, Event, Joined, Left, Replied
from evo.training.jobs import batches, fields, lane
from harness.result import Training
from harness.task import Instance, seed_bytes
from tests.evo.fake_worker import outcome

LANES = [
    Lane(f"{genome:04x}", "", Instance("tig", depth, seed_bytes(seed)), 3)
    for depth in (4, 7)
    for seed in range(6)
    for genome in range(4, 12)
]


class Scripted:
    """Workers that answer at once. ``script``: called for each job with worker and lanes, may give an event instead."""

    def __init__(self, joined: dict[int, tuple[str, str]], script: Callable[[int, list[Lane]], Event | None]) -> None:
        self.coming: deque[Event] = deque(Joined(number, *kind) for number, kind in joined.items())
        self.script, self.sent, self.dismissed, self.closed = script, [], [], False

    def events(self, seconds: float) -> list[Event]:
        found = list(self.coming)
        self.coming.clear()
        return found

    def send(self, worker: int, text: str) -> None:
        lanes = {int(position): lane(fields) for position, fields in json.loads(text)["lanes"].items()}
        self.sent.append((worker, list(lanes.values())))
        event = self.script(worker, list(lanes.values()))
        answers = [(position, outcome(**fields(each))) for position, each in lanes.items()]
        self.coming.append(event or Replied(worker, json.dumps({"answers": answers, "log": ""})))

    def dismiss(self, worker: int, reason: str) -> None:
        self.dismissed.append((worker, reason))

    def close(self) -> None:
        self.closed = True


def trained(cluster: Scripted, lanes: list[Lane] = LANES, **options) -> dict[tuple, Training]:
    with ClusterPool(cluster, settled={}, **options) as pool:
        found = {lane.key: training for lane, training in pool.train(lanes)}
    assert cluster.closed
    return found


EXPECTED = {each.key: Training.from_dict(outcome(**fields(each))) for each in LANES}


def same(found: dict[tuple, Training]) -> bool:
    return {key: vars(training) for key, training in found.items()}.__repr__() == {
        key: vars(EXPECTED[key]) for key in found
    }.__repr__() and set(found) == set(EXPECTED)


def test_lanes_survive_the_trip_as_text():
    assert [lane(json.loads(json.dumps(fields(each)))) for each in LANES] == LANES


def test_jobs_are_those_of_one_machine():
    cluster = Scripted({1: ("cpu", "cpu")}, lambda *_: None)
    assert same(trained(cluster))
    assert [lanes for _, lanes in cluster.sent] == [list(job.lanes) for job in batches(LANES, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_workers_that_are_lost_at_random_cost_nothing(seed):
    rng, last, kinds = random.Random(seed), 8, {number: f"kind {number % 2}" for number in range(8)}
    lost: Counter[str] = Counter()

    def script(worker: int, lanes: list[Lane]) -> Event | None:
        nonlocal last
        key = str(lanes)
        if rng.random() < 0.3 and lost[key] < cluster_module.LOSSES - 1:
            lost[key] += 1
            last += 1
            kinds[last] = kinds[worker]
            cluster.coming.append(Joined(last, kinds[last], "cpu"))  # another comes for it
            return Left(worker, "its node died")
        return None

    cluster = Scripted({number: (kind, "cpu") for number, kind in kinds.items()}, script)
    assert same(trained(cluster, batch=rng.choice((1, 3))))
    assert lost


def test_a_lane_that_takes_machine_after_machine_has_failed_and_all_others_have_results():
    poison, last = LANES[20], 100

    def script(worker: int, lanes: list[Lane]) -> Event | None:
        nonlocal last
        if poison not in lanes:
            return None
        last += 1
        cluster.coming.append(Joined(last, "cpu", "cpu"))
        return Left(worker, "its node died")

    cluster = Scripted({1: ("cpu", "cpu")}, script)
    found = trained(cluster, batch=16)
    failed = found.pop(poison.key)
    assert failed.status == "crashed"
    assert failed.message.startswith("its machine was lost ")
    assert all(training.status == "finished" for key, training in found.items() if key[0] != "0003")
    assert len(found) == len(LANES) - 1


def test_an_instance_belongs_to_one_kind_of_hardware():
    cluster = Scripted({1: ("old", "cpu"), 2: ("new", "cpu"), 3: ("new", "cpu"), 4: ("gpu", "cuda")}, lambda *_: None)
    many = [Lane(f"{genome:04x}", "", each.instance, 3) for each in LANES for genome in range(4, 100)]
    settled = {LANES[0].instance: "old", LANES[-1].instance: "gpu"}
    with ClusterPool(cluster, settled=settled, batch=10) as pool:
        keys = {found.key for found, _ in pool.train(many)}
        assert keys == {each.key for each in many}
        kinds = {1: "old", 2: "new", 3: "new", 4: "gpu"}
        by_instance: dict[Instance, set[str]] = {}
        for worker, lanes in cluster.sent:
            for each in lanes:
                by_instance.setdefault(each.instance, set()).add(kinds[worker])
        assert all(len(found) == 1 for found in by_instance.values())
        assert set().union(*by_instance.values()) == {"old", "new", "gpu"}
        assert {i: {pool.hardware(i)} for i in by_instance} == by_instance
        assert by_instance[LANES[0].instance] == {"old"}
        assert by_instance[LANES[-1].instance] == {"gpu"}


def test_a_small_kind_takes_no_instance_that_would_outlast_the_rest():
    workers = {1: ("slow", "cpu"), **dict.fromkeys(range(2, 40), ("fast", "cpu"))}
    one = [each for each in LANES if each.instance == LANES[0].instance]
    cluster = Scripted(workers, lambda *_: None)
    trained(cluster, [Lane(f"{genome:04x}", "", one[0].instance, 3) for genome in range(4, 100)])
    assert {worker for worker, _ in cluster.sent}.isdisjoint({1})


def test_what_a_lost_kind_had_begun_without_a_result_goes_to_another():
    def script(worker: int, lanes: list[Lane]) -> Event | None:
        return Left(worker, "gone") if worker == 1 else None

    cluster = Scripted({1: ("a", "cpu"), 2: ("b", "cpu")}, script)
    assert same(trained(cluster))


def test_what_belongs_to_a_kind_that_never_comes_is_waited_for_and_then_told(monkeypatch):
    monkeypatch.setattr(cluster_module, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(cluster_module, "WAIT_SECONDS", 0.1)
    said: list[str] = []
    cluster = Scripted({1: ("new", "cpu")}, lambda *_: None)
    with (
        pytest.raises(ClusterError, match=r"no worker for old in 0 minutes; resume when it has") as error,
        ClusterPool(cluster, settled={LANES[0].instance: "old"}, say=said.append) as pool,
    ):
        list(pool.train(LANES))
    assert error.value.exit_code == 75
    assert set(said) == {"waiting for the cluster: none of its workers can train what is left, which is for old"}


def test_nonsense_is_a_lost_worker(tmp_path):
    nonsense = iter(["", "[", "[]", '{"answers": [[0, {}]], "log": ""}', '{"answers": [], "log": ""}', "{}"])

    def script(worker: int, lanes: list[Lane]) -> Event | None:
        text = next(nonsense, None)
        if text is None:
            return None
        cluster.coming.append(Joined(worker + 1, "cpu", "cpu"))
        return Replied(worker, text)

    cluster = Scripted({1: ("cpu", "cpu")}, script)
    lanes = LANES[:1]
    found = trained(cluster, lanes, log=tmp_path / "log")
    assert len(cluster.dismissed) == cluster_module.LOSSES
    assert [training.status for training in found.values()] == ["crashed"]


def test_a_machine_that_cannot_train_is_dismissed_and_no_lane_is_blamed(tmp_path):
    def script(worker: int, lanes: list[Lane]) -> Event | None:
        return Replied(worker, json.dumps({"unusable": "no torch", "log": "no torch\n"})) if worker < 8 else None

    cluster = Scripted(dict.fromkeys(range(1, 9), ("cpu", "cpu")), script)
    assert same(trained(cluster, log=tmp_path / "log"))
    assert cluster.dismissed == [(number, "no torch") for number in range(1, 8)]
    assert (tmp_path / "log").read_text() == 7 * "no torch\n"


def test_drain_ends_what_runs_and_stop_leaves_it():
    cluster = Scripted({1: ("cpu", "cpu")}, lambda *_: None)
    seen: list[Lane] = []
    with ClusterPool(cluster, settled={}) as pool:
        for found, _ in pool.train(LANES, drain=lambda: len(seen) >= 3):
            seen.append(found)
    assert len(seen) == 4
    with ClusterPool(cluster, settled={}) as pool:
        assert not list(pool.train(LANES, stop=lambda: True))


def test_an_agent_answers_in_text_and_blames_lanes_as_one_machine_does():
    options = {"function": "tests.evo.fake_worker:misbehave", "describe": "tests.evo.fake_computer", "device": "cpu"}
    agent = Agent(json.dumps(options))
    assert json.loads(agent.hello(True))["kind"] == "cpu, fake"
    assert json.loads(agent.hello(False))["kind"] == ""
    lanes = [Lane(name, "", LANES[0].instance, 3) for name in ("exit", "0004", "shout")]
    said, log = {}, ""
    for number, each in enumerate(lanes):
        reply = json.loads(agent.work(json.dumps({"lanes": {number: fields(each)}})))
        ((position, training),) = reply["answers"]
        said[position] = training["status"], training["message"]
        log += reply["log"]
    died = "its worker died twice, at last by exit code 7"
    assert said == {0: ("crashed", died), 1: ("finished", ""), 2: ("finished", "")}
    assert "this must not reach the protocol" in log
    broken = Agent(json.dumps(options | {"function": "tests.evo.fake_worker:nonesuch"}))
    reply = json.loads(broken.work(json.dumps({"lanes": {0: fields(LANES[0])}})))
    assert reply["unusable"].startswith("worker processes do not start: AttributeError")

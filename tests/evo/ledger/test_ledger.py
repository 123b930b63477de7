"""The ledger keeps everything exactly, compares by digest, and notices damage."""

import contextlib
import math
import random
import re
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evo.ledger import backup
from evo.ledger.errors import DamagedError, LedgerError, VersionError
from evo.ledger.ledger import Ledger
from evo.ledger.schema import CHANGES, COUNTS, EVALUATIONS, VERSION
from evo.recipe.schema import Gate, Recipe
from evo.records import Checkpoint, Estimate, Purpose, Statistics, Told
from harness.result import Training
from harness.task import seed_bytes
from tests.evo import fake_worker, fakes

RECIPE = Recipe(name="x", population=6, epochs=3, task="tig", gate=Gate(instances=10, error_rate=0.4, confidence=0.5))
META = {"recipe": "name: x", "numerics": "1"}
ODD = Training(
    "diverged",
    "loss is NaN",
    3,
    None,
    [0.1, 1e-320, math.nan],
    [math.inf, -0.0],
    math.nan,
    0.1 + 0.2,
    None,
    True,
    1.5,
)


def play(ledger: Ledger, generations: int, shuffle: random.Random | None = None, seconds: float = 1.0) -> None:
    """Run the fake search with the ledger as its memory, as a campaign does."""
    search = continued(ledger)
    end = search.generation + generations
    while search.generation < end:
        request = search.ask()
        known = ledger.results(lane.key for lane in request.lanes)
        missing = [lane for lane in request.lanes if lane.key not in known]
        if shuffle:
            shuffle.shuffle(missing)
        for lane in missing:
            quality = fake_worker.digest(lane.key) % 1000 / 7
            ledger.add([(lane, replace(fakes.training(quality), seconds=seconds))], request.purpose)
        told = search.tell(ledger.results(lane.key for lane in request.lanes))
        ledger.save(told, search.checkpoint(), seconds)


def continued(ledger: Ledger) -> fakes.FakeSearch:
    return fakes.FakeSearch(RECIPE, ledger.checkpoint(), ledger.individual, observations=ledger.observations())


@pytest.fixture
def ledger(tmp_path):
    with Ledger.create(tmp_path / "ledger.sqlite", META) as ledger:
        yield ledger


def test_evaluations_come_back_bit_for_bit(ledger):
    lane = fakes.lane(RECIPE, fakes.individual(RECIPE, 0, 0), 7, 4)
    ledger.add([(lane, ODD)], Purpose.SEARCH)
    found = ledger.results([lane.key, (*lane.key[:-1], 999)])
    assert repr(found) == repr({lane.key: ODD})  # repr, because NaN equals nothing


def test_a_message_that_is_no_proper_text_is_kept_as_well_as_can_be(ledger):
    lane = fakes.lane(RECIPE, fakes.individual(RECIPE, 0, 0), 7, 4)
    ledger.add([(lane, replace(ODD, message="caf\udce9"))], Purpose.SEARCH)
    assert ledger.results([lane.key])[lane.key].message == "caf?"


def test_the_checkpoint_comes_back_as_it_was(ledger):
    assert ledger.checkpoint() == Checkpoint()
    assert ledger.past() == []
    play(ledger, 3)
    search = continued(ledger)
    assert search.checkpoint() == ledger.checkpoint()
    assert search.generation == 3
    assert len({fame.individual.hash for fame in search.hall_of_fame}) == len(search.hall_of_fame) > 2
    assert {fame.individual.generation for fame in search.hall_of_fame} <= {0, 1, 2}
    with Ledger.open_to_read(ledger.path) as reader:
        assert reader.checkpoint() == ledger.checkpoint()
        assert reader.individual(search.last[0].id) == search.last[0]
        assert [generation.number for generation in reader.past()] == [1, 2, 3]
        assert reader.past()[-1].seconds == reader.rows("SELECT count(*) FROM tells WHERE generation = 2")[0][0]


def test_observations_are_what_the_search_was_told_and_statistics_what_it_said(ledger):
    search, said = continued(ledger), []
    while search.generation < 4:
        request = search.ask()
        known = ledger.results(lane.key for lane in request.lanes)
        missing = [lane for lane in request.lanes if lane.key not in known]
        for lane in missing:
            found = fake_worker.outcome(lane.hash, lane.instance.seed.hex(), lane.instance.num_hidden_layers, 3)
            ledger.add([(lane, Training.from_dict(found))], request.purpose)
        waiting = {lane.key for lane in missing}
        assert not waiting & {(o.hash, *o.instance) for o in ledger.observations()}, "it was not told yet"
        told = search.tell(ledger.results(lane.key for lane in request.lanes))
        ledger.save(told, search.checkpoint(), 1.0)
        said += [told.statistics] if told.statistics else []
        assert {(o.hash, o.instance): o for o in ledger.observations()} == search._observed
        assert continued(ledger).evidence == search.evidence
    assert [generation.statistics for generation in ledger.past()] == said
    assert any(statistics.trials for statistics in said)
    assert any(observation.quality is None for observation in ledger.observations())


def test_shared_trainings_are_those_on_common_instances(ledger):
    every = (fakes.individual(RECIPE, 0, i) for i in range(9))
    members = list({member.hash: member for member in every}.values())[:3]
    for member, numbers in zip(members, ((1, 2, 3), (3, 2, 5), (2, 3, 9)), strict=True):
        for number in numbers:
            ledger.add([(fakes.lane(RECIPE, member, number, 4), fakes.training(number / 10))], Purpose.SEARCH)
    found = ledger.shared(member.hash for member in members)
    seeds = sorted(seed_bytes(number) for number in (2, 3))
    for member in members:
        assert [instance.seed for instance, _ in found[member.hash]] == seeds
        lanes = {fakes.lane(RECIPE, member, number, 4).instance.seed: number / 10 for number in (2, 3)}
        assert all(training.quality == lanes[instance.seed] for instance, training in found[member.hash])
    assert len(ledger.shared([members[0].hash])[members[0].hash]) == 3
    assert ledger.shared([members[0].hash, "unknown"]) == {members[0].hash: [], "unknown": []}
    assert ledger.shared([]) == {}


def test_every_tell_is_saved_and_none_is_done_twice(ledger):
    search = continued(ledger)
    request = search.ask()
    ledger.add([(lane, fakes.training(0.5)) for lane in request.lanes], request.purpose)
    ledger.save(search.tell(ledger.results(lane.key for lane in request.lanes)), search.checkpoint(), 1.0)
    assert (ledger.tells(), ledger.past()) == (1, [])
    (count,) = ledger.rows("SELECT count(*) FROM individuals")
    assert count == (RECIPE.population,)
    again = continued(ledger)
    assert again.ask().purpose is Purpose.RETEST
    assert again.ranked == search.ranked


def test_the_digest_ignores_order_and_times_and_nothing_else(tmp_path):
    digests = set()
    for case in range(3):
        with Ledger.create(tmp_path / f"{case}.sqlite", {**META, "created": str(case)}) as ledger:
            play(ledger, 3, random.Random(case) if case else None, seconds=case + 0.5)
            digests.add(ledger.digest())
    assert len(digests) == 1
    with Ledger.open_to_write(tmp_path / "0.sqlite") as ledger:
        lane = fakes.lane(RECIPE, fakes.individual(RECIPE, 0, 0), 77_777, 4)
        ledger.add([(lane, ODD)], Purpose.SEARCH)
        assert ledger.digest() not in digests


def test_an_unfinished_generation_leaves_its_evaluations_and_nothing_else(tmp_path):
    with Ledger.create(tmp_path / "a.sqlite", META) as through:
        play(through, 2)
    with Ledger.create(tmp_path / "b.sqlite", META) as stopped:
        play(stopped, 1)
        request = continued(stopped).ask()
        for lane in request.lanes[3:5]:
            quality = fake_worker.digest(lane.key) % 1000 / 7
            stopped.add([(lane, fakes.training(quality))], request.purpose)
    with (
        Ledger.open_to_write(tmp_path / "b.sqlite") as resumed,
        Ledger.open_to_read(tmp_path / "a.sqlite") as a,
    ):
        play(resumed, 1)
        assert resumed.digest() == a.digest()


def test_a_tell_is_stored_whole_or_not_at_all(ledger):
    play(ledger, 1)
    before = ledger.digest()
    members = tuple(fakes.individual(RECIPE, 1, i) for i in (0, 1, 1))  # an id taken twice
    with pytest.raises(sqlite3.IntegrityError):
        ledger.save(Told(1, Purpose.SEARCH, members, (0.5, 0.5, 0.5)), ledger.checkpoint(), 1.0)
    assert ledger.digest() == before


@pytest.mark.parametrize(
    ("lost", "tell"),
    [
        ("DELETE FROM individuals WHERE generation = 1 AND number = 2", 2),
        ("DELETE FROM individuals WHERE generation = 0", 0),
        ("DELETE FROM tells WHERE number = 1", 1),
    ],
)
def test_a_tell_of_which_rows_are_missing_is_noticed(tmp_path, lost, tell):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        play(ledger, 2)
        ledger.verify()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(lost)  # every row that is left is as it was written
    with pytest.raises(DamagedError, match=rf"damaged: a row of tells \(number {tell}\): it is not complete"):
        Ledger.open_to_write(path)


def test_no_flip_in_table_or_index_changes_the_count_of_statuses(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        play(ledger, 1)
        before = ledger.statuses()
    content = path.read_bytes()
    places = [match.start() for match in re.finditer(b'(?<!")finished', content)]  # not those of COUNTS
    assert len(places) == 2 * sum(before.values())
    for place in places:
        path.write_bytes(content[: place + 1] + b"m" + content[place + 2 :])
        with (
            Ledger.open_to_read(path) as ledger,
            pytest.raises(DamagedError, match="cannot be counted by their status"),
        ):
            ledger.statuses()


def test_the_noted_count_of_statuses_is_that_of_the_table(ledger):
    for play_on in (1, 1):
        play(ledger, play_on)
        assert ledger.count_by_status() == ledger.statuses()
    lanes = [fakes.lane(RECIPE, fakes.individual(RECIPE, 0, 0), seed, 4) for seed in (901, 902, 903)]
    ledger.add([(lanes[0], ODD)], Purpose.SEARCH)
    with pytest.raises(sqlite3.IntegrityError):
        ledger.add([(lanes[1], ODD), (lanes[0], ODD)], Purpose.SEARCH)  # that one is stored already
    ledger.add([(lanes[2], ODD)], Purpose.SEARCH)
    assert ledger.count_by_status() == ledger.statuses()
    assert ledger.count_by_status()["diverged"] == 2
    with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta WHERE key = ?", (COUNTS,))  # as an earlier evo left it
    assert ledger.count_by_status() == ledger.statuses()
    with Ledger.open_to_write(ledger.path) as again:
        again.add([(lanes[1], ODD)], Purpose.SEARCH)
        assert again.count_by_status() == again.statuses()


def test_a_newer_ledger_is_refused_untouched(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        ledger.set_meta({"schema": "9"})
        ledger._connection.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(VersionError, match=r"newer evo \(ledger version 9"):
        backup.open_or_restore(path, print)
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(1, VERSION))
def test_an_older_ledger_is_refused_untouched_and_told_why(tmp_path, version):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        ledger.set_meta({"schema": str(version)})
        ledger._connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(
        VersionError, match=rf"older evo \(ledger version {version}.*launch the recipe in another"
    ) as refused:
        backup.open_or_restore(path, print)
    assert CHANGES[VERSION] in str(refused.value)
    assert path.read_bytes() == before


def test_a_full_disk_loses_nothing(ledger):
    play(ledger, 2)
    before, pages = ledger.digest(), ledger.rows("PRAGMA page_count")[0][0]
    ledger.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="the disk is full; free space"):
        play(ledger, 20)
    ledger.rows("PRAGMA max_page_count = 1000000")
    ledger.verify()
    assert ledger.checkpoint().generation == 2
    play(ledger, 1)
    assert ledger.digest() != before


def damaged_copies(content: bytes, flips: int, lengths: range):
    rng = random.Random(0)
    for _ in range(flips):
        at = rng.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    for length in lengths:
        yield content[:length]


def record(ledger: Ledger) -> list:
    """All that the search was told and made of it, without times."""
    return [ledger.rows(f"SELECT {', '.join(columns)} FROM {table}") for table, columns in (
        ("tells", ("number", "individuals", "hall_of_fame", "state", "statistics")),
        ("individuals", ("generation", "number", "tell", "name", "genome", "parents", "fitness")),
        (f"meta WHERE key <> '{COUNTS}'", ("key", "value")),
    )]  # fmt: skip


def check_damage(tmp_path: Path, flips: int, step: int) -> None:
    """Every damaged file gives back all that is sound of it and of the copy, or else reads the same as before."""
    path = tmp_path / "run" / "ledger.sqlite"
    path.parent.mkdir()
    with Ledger.create(path, META) as ledger:
        play(ledger, 2)
        backup.rotate(ledger)
        play(ledger, 1)
        digest, told = ledger.digest(), record(ledger)
        evaluations = set(ledger.rows(EVALUATIONS.select))
    content, copy = path.read_bytes(), backup.copies(path)[0].read_bytes()
    noticed = 0
    for damaged in damaged_copies(content, flips, range(0, len(content), step)):
        for file in path.parent.iterdir():
            file.unlink()
        path.write_bytes(damaged)
        backup.copies(path)[0].write_bytes(copy)
        said: list[str] = []
        try:
            with backup.open_or_restore(path, said.append) as ledger:
                noticed += bool(said)
                if said:
                    assert "damaged" in said[0]
                    assert re.search(r"restored from .*sqlite, which gives [23] complete", said[-1])
                    play(ledger, 3 - ledger.checkpoint().generation)
                    assert record(ledger) == told
                    assert len(evaluations - set(ledger.rows(EVALUATIONS.select))) <= 3
                else:
                    assert ledger.digest() == digest
        except VersionError:  # the bit was one of the version's
            noticed += 1
    assert noticed > flips / 2  # most bits matter; some lie in unused space, or in times


def test_damage_is_noticed_and_the_copy_takes_over(tmp_path):
    check_damage(tmp_path, flips=60, step=9001)


@pytest.mark.slow
def test_damage_anywhere_is_noticed(tmp_path):
    check_damage(tmp_path, flips=1000, step=199)


def test_damage_without_a_copy_is_a_clear_error(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(LedgerError, match=r"no copy of it is good either: set .* aside"):
        backup.open_or_restore(path, print)
    with pytest.raises(DamagedError):
        Ledger.open_to_read(path)


def test_the_second_copy_serves_when_the_first_is_bad_too(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        for _ in range(2):
            play(ledger, 1)
            backup.rotate(ledger)
        ledger.set_meta({"recipe": "name: other"})
        wal = Path(f"{path}-wal").read_bytes()
    newest, _ = backup.copies(path)
    newest.write_bytes(newest.read_bytes()[:5000])
    path.unlink()
    (tmp_path / "ledger.sqlite-wal").write_bytes(wal)  # left over: it must not be applied to the copy
    said: list[str] = []
    with backup.open_or_restore(path, said.append) as ledger:
        assert ledger.checkpoint().generation == 1
        assert ledger.meta()["recipe"] == "name: x"
    assert [line.removeprefix(f"{tmp_path}/")[:20] for line in said] == [
        "ledger.sqlite: it is",
        "backup-1.sqlite: dam",
        "ledger.sqlite: resto",
    ]


def test_remnants_of_a_removed_ledger_do_not_reach_a_new_one(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        ledger.set_meta({"recipe": "name: other"})
        wal = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(wal)
    with Ledger.create(path, META) as ledger:
        assert ledger.meta()["recipe"] == "name: x"


@pytest.mark.slow
def test_a_large_ledger_opens_and_reads_quickly(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path, META) as ledger:
        recipe = RECIPE.model_copy(update={"population": 1000})
        for number in range(100):
            members = tuple(fakes.individual(recipe, number, i) for i in range(1000))
            training = fakes.training(0.5, epochs=100)
            ledger.add(
                [(fakes.lane(recipe, m, 10_000 * number + m.index, 4), training) for m in members], Purpose.SEARCH
            )
            told = Told(number, Purpose.SEARCH, members, (0.5,) * 1000, Statistics(best=Estimate(0.5, 0.1, 3)))
            state = {"population": [m.id for m in members], "fitness": [0.5] * 1000}
            start = time.monotonic()
            ledger.save(told, Checkpoint(number + 1, (), state), 1.0)
            assert time.monotonic() - start < 2
    start = time.monotonic()
    with Ledger.open_to_write(path) as ledger:
        assert ledger.checkpoint().generation == 100
    assert time.monotonic() - start < 10

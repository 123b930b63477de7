"""The pages of `evo serve` say what the ledger holds, and what `evo status`, `evo report` and `evo export` say."""

import io
import json
import re
import shutil
import zipfile
from html import unescape
from pathlib import Path

import httpx
import pytest

from benchmarks.large_ledger import Writer
from evo.campaign.folder import RunFolder
from evo.campaign.live import generations_table
from evo.campaign.runs import find_runs
from evo.campaign.status import facts, status, status_and_past
from evo.errors import UsageError
from evo.exports.formats import Format, formats
from evo.ledger.ledger import Ledger, Member
from evo.records import Estimate
from evo.report.data import collect
from evo.report.panels import shown
from evo.search.evidence import Evidence
from evo.serve import genome
from evo.serve.genomes import GenomeTable, Query
from genomes import catalogue
from genomes.compiler.lowering import lower
from tests.evo.fake_campaign import run
from tests.evo.serve.conftest import opened, served, until


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def test_the_overview_lists_all_campaigns_whatever_their_state(client, runs):
    page = text_of(client.get("/").text)
    found = status(runs / "fake")
    champion = found.statistics.champion
    assert f"fake finished task tig 6 of 6 generations, {found.trainings} trainings" in page
    assert f"champion {champion.name} {champion.estimate.mean:.3f}" in page
    assert "waiting not launched" in page
    assert "broken cannot be read" in page
    assert "damaged: its header is not that of a ledger" in page


def test_a_campaign_says_what_status_the_live_table_and_the_report_say(client, runs):
    page = client.get("/c/fake").text
    said = text_of(page)
    found, past = status_and_past(runs / "fake")
    for label, text in facts(found):
        assert f"{label} {text}".strip() in said
    table = generations_table(past, "fake")
    cells = [list(column.cells) for column in table.columns]
    for row in list(zip(*cells, strict=True))[-5:]:
        assert " ".join(filter(None, row)) in said
    with Ledger.open_to_read(RunFolder(runs / "fake").ledger) as ledger:
        panels = shown(collect(ledger))
    assert [panel.title for panel in panels] == re.findall(r"<h2>([^<]*)</h2>", page.replace("&#39;", "'"))
    pictures = [re.findall(r"<svg.*?</svg>", each, re.DOTALL) for each in (page, "".join(p.html for p in panels))]
    linked = [re.sub(r"</?a\b[^>]*>", "", picture) for picture in pictures[0]]
    assert linked == pictures[1], "the pictures are those of the report, with links"
    for panel in panels:
        section = client.get(f"/c/fake/panels/{panel.key}").text
        assert f'data-key="{panel.key}"' in section
        assert section.strip() in page


def test_kinds_of_hardware_are_shown_where_they_differ(runs, tmp_path, evo):
    path = tmp_path / "runs/fake"
    shutil.copytree(runs / "fake", path)
    with Ledger.open_to_write(RunFolder(path).ledger) as ledger:
        instances = sorted(ledger.hardware("cpu, here"), key=lambda instance: instance.seed)
        for kind, some in (("cpu, old", instances[:9]), ("cpu, <b>", instances)):  # the second keeps to what is left
            assert "each instance on one kind" not in evo("status", path)[1]
            ledger.note_hardware(dict.fromkeys(some, kind))
        assert ledger.hardware() == {each: "cpu, old" if each in instances[:9] else "cpu, <b>" for each in instances}
    told = f"each instance on one kind: {len(instances) - 9} on cpu, <b>; 9 on cpu, old"
    assert f"hardware: {told}" in evo("status", path)[1]
    assert evo("report", path)[0] == 0
    assert told in text_of(RunFolder(path).report.read_text())
    with opened(tmp_path / "runs", draws=False) as client:
        assert f"hardware {told}" in text_of(client.get("/c/fake").text)


def test_nothing_of_a_page_is_inline_or_from_elsewhere(client):
    for address in ("/", "/c/fake", "/c/fake/genomes", "/c/fake/g/g1i1", "/c/fake/compare?first=g1i1&second=adam"):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "style=" not in answer.text
        assert "<style" not in answer.text
        assert re.findall(r"<script[^>]*>([^<]*)", answer.text) == [""]
        assert not re.search(r'(src|href)="(?!/|#|\?)', answer.text)
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]


def test_what_is_not_launched_or_damaged_or_nowhere_is_said(client):
    assert "Not launched yet; begin with:" in client.get("/c/waiting").text
    assert "damaged: its header" in client.get("/c/broken").text
    assert "There is no ledger yet" in client.get("/c/waiting/genomes").text
    inside = ["panels/none", "g/g99i1", "g/x", "g/g1i1/none", "compare?first=g1i1", "compare?first=g1i1&second=nobody"]
    for address in ("/x", "/static/none", "/c/none", "/c/none/events", *(f"/c/fake/{each}" for each in inside)):
        answer = client.get(address)
        assert answer.status_code == 404, address
        assert "Not found" in answer.text
    for address in ("/c/broken/g/g1i1", "/c/waiting/g/g1i1"):
        assert client.get(address).status_code == 409


def rows_of(text: str) -> list[list[str]]:
    return [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"<tr><td.*?</tr>", text, re.DOTALL)
    ]


def test_the_table_is_filtered_sorted_and_paged(client):
    def ids(query: str) -> list[str]:
        return [re.findall(r">(g\d+i\d+)<", row[0])[0] for row in rows_of(client.get(f"/c/fake/rows{query}").text)]

    born = [f"g{generation}i{index}" for generation in range(6) for index in range(8)]
    assert ids("?sort=born&down=0") == born
    assert ids("?sort=born&down=1") == born[::-1]
    assert ids("?search=g3&sort=born&down=0") == [f"g3i{index}" for index in range(8)]
    assert ids("?first=2&last=3&sort=born&down=0") == born[16:32]
    assert set(ids("?operator=elite")) == {f"g{generation}i0" for generation in range(1, 6)}
    assert len(ids("?distinct=1")) < 48
    page = client.get("/c/fake/rows?sort=quality").text
    qualities = [float(row[1].split()[0]) for row in rows_of(page) if "±" in row[1]]
    assert qualities == sorted(qualities, reverse=True)
    assert len(qualities) > 10
    up = client.get("/c/fake/rows?sort=quality&down=0").text
    assert [float(row[1].split()[0]) for row in rows_of(up) if "±" in row[1]] == qualities[::-1]
    states = [("±" in row[1]) for row in rows_of(up)]
    assert states == sorted(states, reverse=True), "what has no estimate stands last, in either direction"
    assert all("failed" in row[1] for row in rows_of(client.get("/c/fake/rows?state=failed").text))
    assert "0 of 48 genomes" in client.get("/c/fake/rows?search=nothing").text


def test_the_table_has_pages():
    members = [Member(0, index, f"{index:x}", (), "random", f"g0i{index}") for index in range(250)]
    evidence = Evidence({f"{index:x}": Estimate(index / 250, 0.1, 3) for index in range(200)}, {}, frozenset({"c8"}))
    table = GenomeTable(members, evidence)
    first, last = table.page(Query()), table.page(Query(page=9))
    assert (first.total, first.pages, len(first.rows)) == (250, 3, 100)
    assert [row.member.index for row in first.rows] == list(range(199, 99, -1))
    assert (last.number, len(last.rows)) == (3, 50)
    assert [row.state for row in last.rows[:2]] == ["failed", "untrained"]
    assert Query.parse(dict([part.split("=") for part in Query(search="a", page=2).address()[1:].split("&")])) == Query(
        search="a", page=2
    )


def test_a_genome_has_formula_program_lineage_curves_and_downloads(client, runs):
    with Ledger.open_to_read(RunFolder(runs / "fake").ledger) as ledger:
        child = next(m for m in ledger.members() if m.generation == 3 and m.operator == "cross_genes")
        individual = ledger.individual(child.id)
        trainings = ledger.shared([child.hash])[child.hash]
    page = client.get(f"/c/fake/g/{child.id}").text
    said = text_of(page)
    assert f"made by cross_genes of {' and '.join(child.parents)}" in said
    assert "u = g" in said
    assert text_of(individual.text) in said.replace("&quot;", '"')
    assert all(f'href="/c/fake/g/{id}"' in page for id in child.parents)
    assert "theta <- theta + %" in unescape(page)
    assert f"{len(trainings)} trainings" in said
    for title in (
        "Formula",
        "Genome",
        "Program",
        "Ancestors",
        "Learning curves",
        "Quality beside the bound",
        "Trainings",
    ):
        assert f"<h2>{title}</h2>" in page
    parent = client.get(f"/c/fake/g/{child.parents[0]}").text
    assert f'href="/c/fake/g/{child.id}"' in parent, "one can go to children, too"
    for name in (name for name, format in formats().items() if not format.submits):
        assert f'href="/c/fake/g/{child.id}/{name}"' in page
        file = client.get(f"/c/fake/g/{child.id}/{name}")
        assert file.status_code == 200
        assert file.headers["content-disposition"].startswith('attachment; filename="fake_')
        assert child.id in file.text


def test_a_format_of_several_files_comes_as_an_archive(client, runs, monkeypatch):
    files = {"a.py": "one", "b/c.rs": "two"}
    monkeypatch.setattr(genome, "find_format", lambda name: Format(name, "", lambda _: files, is_folder=True))
    with zipfile.ZipFile(io.BytesIO(client.get("/c/fake/g/g1i1/yaml").content)) as archive:
        assert {name.partition("/")[2]: archive.read(name).decode() for name in archive.namelist()} == files


def test_two_genomes_are_compared(client, runs):
    page = client.get("/c/fake/compare?first=g0i1&second=g0i2").text
    said = text_of(page)
    assert "g0i1 and g0i2" in said
    assert "g0i2 less g0i1 is" in said
    assert re.search(r'<span class="gone">- delta = .*<mark>.*<span class="come">\+ delta = .*<mark>', page)
    assert "Instance by instance" in said
    assert "Both are the same." in client.get("/c/fake/compare?first=g0i1&second=g0i1").text
    assert "debias(ema(" in text_of(client.get("/c/fake/compare?first=g0i1&second=adam").text)


def test_a_program_is_shown_whole():
    program = lower(catalogue.load("adam"))
    lines = genome.program_lines(program)
    assert len(lines) == len(program.nodes) + len(program.stores) + 1
    assert lines[-1] == f"theta <- theta + %{program.update}"


def events(lines, count: int) -> dict[str, str]:
    """The next events of a stream by their names."""
    found, name = {}, ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found[name] = json.loads(line.removeprefix("data: "))
            if len(found) == count:
                break
    return found


@pytest.mark.slow
def test_a_stream_tells_what_is_committed(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("evo.serve.campaign.REST", 0)
    shutil.copytree(runs / "fake", tmp_path / "runs/fake")
    with served(tmp_path / "runs") as address, httpx.Client(timeout=60) as http:
        with http.stream("GET", f"{address}/c/fake/events") as answer:
            lines = answer.iter_lines()
            found = events(lines, 3)
            assert "6 of 6 generations" in text_of(found["facts"]["html"])
            assert found["table"] == {"version": 0}
            run("resume", tmp_path / "runs/fake", ["generations=8"])
            while "8 of 8 generations" not in text_of(found["facts"]["html"]):
                found |= events(lines, 1)
            while found["table"] == {"version": 0}:
                found |= events(lines, 1)
            keys = [key for key, _ in found["panels"]]
            assert keys[:2] == ["the-champion-over-the-campaign", "quality-by-generation"]
        until(lambda: "of 64 genomes" in http.get(f"{address}/c/fake/rows").text)


def test_commits_to_a_file_that_stood_still_are_seen(tmp_path):
    writer = Writer(RunFolder(tmp_path / "run"), 4, 9)
    writer.create()
    writer.write(1)
    assert not writer.folder.ledger.with_name("ledger.sqlite-wal").exists(), "nobody has it open"
    with opened(tmp_path, draws=False) as client:
        for number in range(15, 18):
            until(lambda number=number: f"<dd>{number} (" in client.get("/c/run").text, seconds=20)
            writer.train()


@pytest.mark.slow
def test_campaigns_that_come_are_found_and_those_that_go_are_said(runs, tmp_path):
    with opened(tmp_path, draws=False) as client:
        assert "There is no campaign" in client.get("/").text
        shutil.copytree(runs / "fake", tmp_path / "new one <b>")
        until(lambda: "/c/new-one-b" in client.get("/").text)
        until(lambda: "finished" in client.get("/c/new-one-b").text)
        shutil.rmtree(tmp_path / "new one <b>")
        until(lambda: "not launched" in client.get("/c/new-one-b").text)
        shutil.copytree(runs / "fake", tmp_path / "new one <b>")
        until(lambda: "finished" in client.get("/c/new-one-b").text)


def times_of(folder: Path) -> dict[Path, int]:
    """When each file was written, but for those that SQLite keeps beside an open database."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_looking_writes_nothing(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    before = times_of(tmp_path / "runs")
    with opened(tmp_path / "runs") as client:
        for address in ("/", "/c/fake", "/c/fake/genomes", "/c/fake/g/g1i1", "/c/fake/g/g1i1/yaml"):
            assert client.get(address).status_code == 200
    assert times_of(tmp_path / "runs") == before


def test_folders_are_found(runs, tmp_path):
    assert [each.path.name for each in find_runs([runs])] == ["broken", "fake", "waiting"]
    assert [each.path.name for each in find_runs([runs / "fake", runs])] == ["fake", "broken", "waiting"]
    with pytest.raises(UsageError, match="there is no such folder"):
        find_runs([tmp_path / "none"])

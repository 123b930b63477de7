"""Whatever is asked for, and whatever stands in a ledger: nothing is executed, written or told that was not to be."""

import asyncio
import json
import os
import re
import shutil
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest

from benchmarks.large_ledger import Writer
from evo.campaign.folder import RunFolder
from evo.errors import UsageError
from evo.ledger import codec, file
from evo.ledger.codec import CONTENT, TIMES
from evo.ledger.schema import EVALUATIONS, GENOMES, INDIVIDUALS, TELLS, Table
from evo.serve.app import Pages
from evo.serve.security import HEADERS, Access, host_names
from evo.serve.watcher import Watcher
from harness.result import Training
from tests.evo.serve.conftest import opened, until

TOKEN = "a-token-of-many-characters"
TEXTS = (  # each would do something, or stand for something else, where it is not taken as text
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'><b>",
    "</pre><script>x</script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "{% include 'base.html' %}",
    "${7*7}",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "&#60;b&#62;",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=//evil>",
    "<base href=//evil>",
    "<form action=//evil>",
    "<iframe src=//evil>",
    "<meta http-equiv=refresh content=0>",
    "\u202egnp.exe",
    "\x00\x07\x1b[2J",
    "a" * 5000,
    "\ud800",
    "line\nevent: facts\ndata: {}\n\n",
    "');DROP TABLE genomes;--",
    "' OR 1=1 --",
    "%3Cscript%3E",
    "\\u003cscript\\u003e",
    "<details open ontoggle=alert(1)>",
    "<math><mtext><script>x</script>",
    "$(touch /tmp/evo-was-here)",
    "`id`",
    "../../etc/passwd",
    "<a href=javascript:alert(1)>x</a>",
    'style="fill: red"',
)
SECRET = "the-secret-of-another-folder"


def test_there_are_two_hundred_hostile_inputs():
    assert len(TEXTS) * 3 + len(PATHS) + len(QUERIES) + len(HOSTS) + len(TOKENS) + len(METHODS) >= 200


# --- what stands in a ledger ------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """A page as a browser reads it: elements with their attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def check_harmless(page: str) -> Reader:
    """Nothing in a page runs, loads or leads elsewhere; there is the one script of ours."""
    found = Reader(page)
    names = [name for name, _ in found.elements]
    assert names.count("script") == page.count('<script src="/static/live.js" defer></script>') <= 1
    assert not {"iframe", "base", "object", "embed", "img", "style", "math"} & set(names)
    for name, attributes in found.elements:
        assert not [each for each in attributes if each.startswith("on") or each in ("style", "http-equiv", "ontoggle")]
        for key in ("href", "src", "action"):
            assert re.match(r"/(?!/)|#|\?", attributes.get(key) or "/"), (name, attributes)
    return found


def rewrite(connection, table: Table, change) -> None:
    """Change the rows of a table as whoever wrote the file could, checksums too."""
    rows = [table.fields(row) for row in connection.execute(table.select).fetchall()]
    connection.execute(f"DELETE FROM {table.name}")
    for number, row in enumerate(rows):
        values = change(number, row)
        times = [values.pop(name) for name in [column.split()[0] for column in table.times]]
        values.pop("checksum")
        connection.execute(table.insert, table.row(*values.values(), times=times))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A campaign whose every text is hostile: names, operators, statuses, messages, reasons, the champion's name."""
    path = tmp_path_factory.mktemp("hostile") / "<b>run"
    writer = Writer(RunFolder(path), len(TEXTS), 9)
    writer.create()
    writer.write(2)
    text = [each.encode(errors="replace").decode() for each in TEXTS]

    def individual(number, row):
        return row | {"name": text[number % len(text)], "operator": text[(number + 7) % len(text)]}

    def evaluation(number, row):
        failed = Training("diverged", text[number % len(text)], 1, None, [1.0], [1.0], None, 0.16, None, None, 0.5)
        fields = dict(zip((*CONTENT, *TIMES), codec.to_row(failed, (*CONTENT, *TIMES)), strict=True))
        return row | fields if number % 3 == 0 else row

    def tell(number, row):
        statistics = json.loads(row["statistics"])
        trial = {"challenger": "g1i1", "rivals": ["g0i1"], "gains": [0.1], "count": 3, "promoted": True}
        statistics["trials"] = [trial | {"reason": each} for each in text]
        statistics["champion"] |= {"name": text[number], "expr": text[number + 1]}
        statistics["baselines"] |= dict.fromkeys(text)
        return row | {"statistics": json.dumps(statistics)}

    connection = file.connect(writer.folder.ledger)
    connection.execute("PRAGMA foreign_keys = OFF")
    for table, change in ((INDIVIDUALS, individual), (EVALUATIONS, evaluation), (TELLS, tell)):
        rewrite(connection, table, change)
    connection.close()
    (path.parent / "secret.txt").write_text(SECRET)
    return path


def test_whatever_stands_in_a_ledger_is_text(hostile):
    with opened(hostile.parent) as client:
        key = client.get("/").text.split('href="/c/')[1].split('"')[0]
        until(lambda: "genomes" in client.get(f"/c/{key}/rows").text)
        until(lambda: "What each operator led to" in client.get(f"/c/{key}").text)
        pages = [client.get(f"/c/{key}{each}").text for each in ("", "/genomes", "/rows?sort=operator", "/g/g1i1")]
        found = [check_harmless(page) for page in (client.get("/").text, *pages)]
        text = " ".join(each.text for each in found)
        for each in TEXTS:
            if each.isprintable() and len(each) < 1000:
                assert each in text, "it is shown, as text"
        assert "{{ 7 * 7 }}" in text
        name = client.get(f"/c/{key}/g/g1i1/yaml").headers["content-disposition"]
        assert re.fullmatch(r'attachment; filename="[A-Za-z0-9_]+\.yaml"', name)


def test_an_event_is_one_line(hostile):
    async def first(watcher: Watcher) -> list[str]:
        pages = Pages(watcher)
        stream = pages._events(lambda: {"facts": {"html": pages._facts(watcher.campaigns[0])}})
        found = [await anext(stream) for _ in range(2)]
        await stream.aclose()
        return found

    with Watcher([hostile]) as watcher:
        until(lambda: watcher.campaigns[0].is_known)
        _, event = asyncio.run(first(watcher))
    assert event.count("\n") == 3
    assert event.startswith("event: facts\ndata: {")
    check_harmless(json.loads(event.splitlines()[1].removeprefix("data: "))["html"])


# --- what is asked for ------------------------------------------------------------------------------------------------

PATHS = [
    *(
        f"{start}{up}{name}"
        for start, up, name in product(
            ("/static/", "/c/", "/c/run/panels/", "/"),
            ("../", "..%2f", "%2e%2e/", "..%5c", "....//"),
            ("secret.txt", "out/ledger.sqlite"),
        )
    ),
    "/c/run/g/g1i1/../../../secret.txt",
    "/c/run/g/g1i1/..%2f..%2fsecret.txt",
    "//evil/",
    "/\\evil",
    "/c/run/g/g" + "9" * 400,
    "/c/run/g/g1i1;ls",
    "/c/run/g/%00",
    "/static/%00",
    "/static/serve.css%00.js",
    "/static//etc/passwd",
    "/c//",
    "/c/%2e",
    "/c/run/g/g-1i-1",
    "/c/run/g/g1i1/" + "x" * 3000,
    "/.git/config",
    "/c/run/out/ledger.sqlite",
]
QUERIES = [
    *(
        f"/c/run/rows?{key}={quote(value, errors='replace')}"
        for key, value in product(
            ("page", "sort", "search", "first"), ("-1", "1e9", "9" * 30, "' OR 1=1 --", "<script>", "\x00", "١")
        )
    ),
    "/c/run/compare?first=../../secret.txt&second=adam",
    "/c/run/compare?first=<script>&second=<b>",
    "/c/run/rows?page=" + "9" * 5000,
    "/c/run/compare?first=%00&second=%ff",
    "/c/run/rows?" + "&".join(f"search={k}" for k in range(500)),
    "/?token=<script>",
    "/c/run/compare?first=g0i0&second=/etc/passwd",
    "/c/run/compare?first=g0i0&second=secret.yaml",
]
HOSTS = (
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example:8642",
    "",
    "10.0.0.5",
    "[::2]",
    "localhost@evil.example",
    "127.0.0.1, evil.example",
    "0.0.0.0.nip.io",
    "xn--lcalhost-d5a",
    "localhost/..",
)
TOKENS = ("", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é" * 20, "\x00", quote(TOKEN) + "%00", "null", "undefined")
METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")


@pytest.fixture(scope="module")
def guarded(runs, tmp_path_factory):
    """A client of a page beside whose campaigns there is a secret."""
    (runs / "secret.txt").write_text(SECRET)
    (runs / "secret.yaml").write_text(SECRET)
    with opened(runs) as client:
        until(lambda: "of 48 genomes" in client.get("/c/fake/rows").text)
        yield client


def test_no_path_and_no_query_leads_out(guarded, runs):
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
    for address in (*PATHS, *QUERIES):
        answer = guarded.get(address.replace("/run/", "/fake/"))
        assert answer.status_code in (200, 404), (address, answer.status_code)
        assert SECRET not in answer.text
        assert "root:" not in answer.text
        assert b"SQLite format" not in answer.content
        assert HEADERS.items() <= dict(answer.headers).items()
        check_harmless(answer.text)
    after = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if not path.name.endswith(("-wal", "-shm"))}
    assert after == before
    assert not os.path.exists("/tmp/evo-was-here")


def test_texts_in_addresses_are_text(guarded):
    for text in TEXTS:
        shown = quote(text, errors="replace")
        for address in (
            f"/c/fake/genomes?search={shown}&operator={shown}",
            f"/c/{quote(text, safe='', errors='replace')}",
        ):
            check_harmless(guarded.get(address).text)


def test_only_own_host_names_are_answered(guarded):
    for host in HOSTS:
        assert guarded.get("/", headers={"host": host}).status_code == 421, host
    for host in ("localhost", "127.0.0.1:9999", "[::1]:8642", "LOCALHOST"):
        assert guarded.get("/", headers={"host": host}).status_code == 200, host
    access = Access("0.0.0.0", TOKEN, host_names(["evo.example"]))
    assert all(map(access.admits_host, ("evo.example", "192.168.1.7:8642", "[fe80::1]", "localhost")))
    assert not any(map(access.admits_host, ("evil.example", "evo.example.evil", "")))


def test_only_reading_is_answered(guarded):
    for method in METHODS:
        assert guarded.request(method, "/").status_code == 405
    assert guarded.head("/").text == ""


def test_without_the_token_nothing_is_shown(runs):
    with opened(runs, Access("0.0.0.0", TOKEN), draws=False) as client:
        for address in ("/", "/c/fake", "/c/fake/events", "/static/live.js", "/c/fake/g/g1i1/yaml", "/none"):
            answer = client.get(address)
            assert answer.status_code == 401
            assert "fake" not in answer.text
        for token in TOKENS:
            assert client.get("/", params={"token": token}).status_code == 401
            assert client.get("/", headers={"authorization": b"Bearer " + token.encode()}).status_code == 401
            assert client.get("/", headers={"cookie": f"evo_token={quote(token)}"}).status_code == 401
        answer = client.get("/c/fake", params={"token": TOKEN, "a": "<b>"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/c/fake?a=%3Cb%3E")
        assert "HttpOnly; SameSite=Strict" in answer.headers["set-cookie"]
        assert TOKEN not in answer.headers["set-cookie"].partition(";")[2]
        assert client.get("/c/fake").status_code == 200, "the cookie is kept"
        client.cookies.clear()
        assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        odd = client.get("//evil.example/%0d%0aset-cookie:x", params={"token": TOKEN})
        assert re.fullmatch(r"/[a-z][a-z./-]*", odd.headers["location"])


def test_other_addresses_want_a_token():
    for host in ("0.0.0.0", "::", "192.168.1.7", "evo.example"):
        with pytest.raises(UsageError, match="ask them for a token"):
            Access(host)
        assert Access(host, TOKEN)
    assert Access("127.0.0.1"), Access("::1")
    for token in ("short", "é" * 30, "with\nline" * 3):
        with pytest.raises(UsageError, match="at least 16 characters"):
            Access("0.0.0.0", token)


def test_a_genome_that_cannot_be_read_is_said(hostile, tmp_path):
    shutil.copytree(hostile, tmp_path / "run")
    connection = file.connect(tmp_path / "run/out/ledger.sqlite")
    text = "genome: 1\nname: <script>\nlr: [oops"
    rewrite(connection, GENOMES, lambda _, row: row | {"text": text})
    connection.close()
    with opened(tmp_path) as client:
        page = client.get("/c/run/g/g1i1")
        assert page.status_code == 409
        check_harmless(page.text)
        until(lambda: "cannot be shown" in client.get("/c/run").text)

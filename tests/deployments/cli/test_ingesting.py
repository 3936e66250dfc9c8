"""The commands of what comes in, as a shell sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app

POLICY = """
version: 1
name: shop
rules: [{name: all}]
ingest:
  rules:
    - {name: nothing twice, tier: exact, action: reject}
    - {name: look, tier: near, action: ask}
"""


@pytest.fixture
def run(library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "CATALOG__URI": str(tmp_path / "catalog"),
        "EMBEDDING__MODEL": str(library.model),
        "EMBEDDING__POOLING": "cls",
        "EMBEDDING__DEVICE": "cpu",
        "EMBEDDING__DECODERS": "1",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", value)
    (tmp_path / "policy.yaml").write_text(POLICY)

    def call(*words: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    return call


def test_an_upload_from_the_shell(run, library, tmp_path) -> None:
    one = library.add("one.png", 1)
    same = library.add("same.bmp", 1)
    put = ("ingest", "--policy", tmp_path / "policy.yaml", "--source", "gate://shop")
    assert run(*put, "4711", one, "--tag", "label=shoes").startswith("4711: add")
    said = json.loads(run(*put, "4712", same, "--json", code=4))
    assert (said["decision"], said["rule"], said["asset_id"]) == ("reject", "nothing twice", "")
    assert said["match"]["key"] == "4711"
    run("ingest", "put", "list", one, "--source", "gate://shop")  # a key may have any name
    listed = json.loads(run("ingest", "list", "--all", "--json"))
    assert [(row["key"], row["decision"]) for row in listed] == [
        ("4711", "add"),
        ("4712", "reject"),
        ("list", "add"),
    ]
    assert "no question is open" in run("ingest", "list")


def test_a_question_is_settled_from_the_shell(run, library, tmp_path) -> None:
    from tests.conftest import blobs

    one = library.add("one.png", 1)
    near = library.write("near.png", blobs(1).crop((8, 6, 152, 114)))
    put = ("ingest", "--policy", tmp_path / "policy.yaml", "--source", "gate://shop")
    run(*put, "a", one)
    told = run(*put, "b", near, code=4)
    assert told.startswith("b: ask")
    question = run("ingest", "list").split()[0]
    assert f"dam-dedup ingest answer {question} add" in told
    assert "added as" in run("ingest", "answer", question, "add", "--by", "anna")
    assert "no question is open" in run("ingest", "list")


def test_the_blocklist_from_the_shell(run, library) -> None:
    bad = library.add("bad.png", 1)
    words = ("--reason", "taken down", "--rule", "rights", "--by", "anna")
    entry = run("blocklist", "add", bad, *words).split()[0]
    told = run("ingest", "x", bad, "--source", "gate://shop")
    assert "alert: rights: gate://shop/x against blocklist entry" in told
    assert "equal bytes" in run("alerts")
    assert json.loads(run("alerts", "--json"))[0]["entry_id"].startswith(entry)
    assert "taken down (anna)" in run("blocklist", "list")
    run("blocklist", "remove", entry, "--by", "ben")
    assert "empty" in run("blocklist", "list")
    assert "taken off by ben" in run("blocklist", "list", "--removed")


def test_events_from_the_shell(run, library, tmp_path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"Event": "s3:TestEvent"}')
    assert run("events", body, "--source", library.folder) == ""
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "theirs"}, "object": {"key": "a.png"}},
    }
    body.write_text(json.dumps({"Records": [record]}))
    assert "refused: 1 of bucket theirs" in run("events", body, "--source", library.folder, code=1)
    run("events", code=2)
    run("events", body, "--queue", "https://x/y", code=2)

"""The commands of merging, as a person and as a script calls them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from deployments.cli.main import main

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x28\x00\x00\x00\x1e"
HOSTILE = "k/new\nline \x1b[2J\u202egpj.png"
POLICY = """
version: 1
name: commands
minimum_age_hours: 0
caps: {share: 1.0}
rules:
  - {name: all, keeper: [{prefix: [k/]}], action: quarantine}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def site(make_site: Any) -> Any:
    made = make_site("plain")
    for seed, key in enumerate(("k/one.png", HOSTILE, "k/three.png")):
        made.put(key, PNG + bytes([seed]), {"agency": "north"} if seed == 2 else {})
        made.put(
            key.replace("k/", "d/"),
            PNG + bytes([seed]),
            {"agency": "south"} if seed == 2 else {"agency": "x"},
        )
    made.list()
    return made


@pytest.fixture
def run(
    site: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> Run:
    """Runs the program: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY)
    s3 = site.settings.s3
    for name, value in {
        "CATALOG__URI": site.settings.catalog.uri,
        "S3__ENDPOINT_URL": s3.endpoint_url,
        "S3__PATH_STYLE": "true",
        "S3__REGION": s3.region,
        "EMBEDDING__MODEL": site.settings.embedding.model,
        "EMBEDDING__POOLING": "cls",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", str(value))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_access_key.get_secret_value())

    def run(*words: str, typed: str = "", safe: bool = True) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dam-dedup", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        try:
            main()
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        for text in (out, err) if safe else (err,):
            assert "\x1b[2J" not in text
            assert "\u202e" not in text
            assert "Traceback" not in text
        return code, out, err

    return run


def good(answer: tuple[int, str, str]) -> Any:
    """The JSON that a command printed."""
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)


def test_from_plan_to_undo(run: Run, site: Any) -> None:
    code, out, _ = run("plan")
    assert (code, out) == (0, "no plan yet; make one with: dam-dedup plan make --policy FILE\n")
    assert good(run("plan", "list", "--json")) == []
    assert run("merge", "latest")[0] == 1
    made = good(run("plan", "make", "--policy", "policy.yaml", "--json"))
    plan = made["plan"]
    ids = {group["keeper"]: group["group_id"] for group in made["groups"]}
    assert set(ids) == {"k/one.png", HOSTILE, "k/three.png"}
    assert {group["state"] for group in made["groups"]} == {"waiting"}
    (listed,) = good(run("plan", "list", "--json"))
    assert listed["plan_id"] == plan
    for words in (("plan",), ("plan", "list")):
        _, out, _ = run(*words)
        assert out.startswith(plan)
        assert "3 groups" in out
    _, out, _ = run("plan", "show", "latest", "--full")
    assert r"keep k/new\nline \x1b[2J\u202egpj.png" in out
    assert "to decide: " in out
    assert f"dam-dedup approve {plan} --by NAME" in out
    assert good(run("plan", "show", plan[:5], "--json"))["hash"] == made["hash"]

    # approve
    assert run("approve", plan)[0] == 2, "--by is required"
    code, out, _ = run("approve", plan, "--by", "anna", "--groups", ids["k/three.png"])
    assert code == 1
    assert "not decided" in out
    assert "--accept-questions" in out
    code, out, _ = run("approve", plan, "--by", "anna", "-g", f"{ids[HOSTILE]},{ids['k/one.png']}")
    assert code == 0
    assert out.count("approved") == 2
    assert f"dam-dedup merge {plan} [--dry-run]" in out
    run("reject", plan, "--by", "ben", "--comment", "no\n\x1b[2J")
    assert {one["decision"] for one in good(run("approve", plan, "--by", "x", "--json"))} == {
        "approve",
        "reject",
    }
    code, out, _ = run("approve", plan, "--by", "anna", "-g", ids["k/three.png"])
    assert code == 1, "it was rejected before"
    assert "rejected" in out
    assert "decided before, by ben" in out

    # merge
    before = site.snapshot(ours=True)
    code, out, _ = run("merge", plan, "--dry-run")
    assert code == 0
    assert "2 would merge" in out
    dry = good(run("merge", plan, "--dry-run", "--json"))
    assert [one["state"] for one in dry["groups"]] == ["would merge", "would merge"]
    assert site.snapshot(ours=True) == before
    site.put("d/one.png", PNG + b"somebody else's")
    code, out, _ = run("merge", plan, "--by", "cleo")
    assert code == 1
    assert "1 refused" in out
    assert "'d/one.png' is not what it was" in out
    assert "1 merged" in out
    assert f"dam-dedup undo {plan} --by NAME" in out
    code, out, _ = run("merge", plan, "--json")
    assert code == 1
    assert {one["state"] for one in json.loads(out)["groups"]} == {"refused", "already merged"}

    # quarantine, audit, savings
    (entry,) = good(run("quarantine", "list", "--json"))
    assert entry["key"] == HOSTILE.replace("k/", "d/")
    assert entry["state"] == "kept"
    code, out, _ = run("quarantine", "list", plan)
    assert (code, out.count("\n")) == (0, 1)
    assert r"d/new\nline" in out
    assert run("quarantine", "empty", "--by", "anna")[1] == "nothing there\n"
    code, _, err = run("quarantine", "empty", "--early", "--by", "anna")
    assert (code, "needs one plan's id" in err) == (1, True)
    code, _, err = run("quarantine", "empty", plan, "--early", "--by", "anna", typed="yes\n")
    assert code == 1
    assert "nothing was removed" in err
    dry = good(run("quarantine", "empty", plan, "--early", "--by", "anna", "--dry-run", "--json"))
    assert [one["key"] for one in dry] == [entry["key"]]
    assert good(run("audit", "--savings", "--json"))["total"]["quarantined"] > 0
    assert "in quarantine" in run("audit", "--savings")[1]
    events = good(run("audit", "--json"))
    assert {"approve", "reject", "done copy", "done delete"} <= {one["what"] for one in events}
    _, out, _ = run("audit")
    assert len(out.splitlines()) == len(events), "a line each, whatever the keys and comments"
    _, out, _ = run("audit", "--csv", safe=False)  # for programs
    assert out.startswith("at,what,by,channel,plan_id,group_id,number,key,detail\n")

    # undo
    assert run("undo", plan)[0] == 2
    assert "would undo" in run("undo", plan, "--by", "anna", "--dry-run")[1]
    undone = good(run("undo", f"{plan}/{ids[HOSTILE][:8]}", "--by", "anna", "--json"))
    assert {one["state"] for one in undone} == {"undone"}
    assert run("undo", plan, "--by", "anna")[:2] == (0, "nothing to undo\n")
    now = site.snapshot(ours=True)
    now["d/one.png"] = before["d/one.png"]
    # The copy stays for an hour: a request that is still on its way must find something left.
    (copy,) = [key for key in now if key.startswith(".dam-dedup/quarantine/")]
    assert now.pop(copy) == now[HOSTILE.replace("k/", "d/")]
    assert now == before

    # again, merged, something else at the key: undo says so by its exit code
    made = good(run("plan", "make", "--policy", "policy.yaml", "--again", "--json"))
    again = made["plan"]
    run("approve", again, "--by", "anna", "-g", ids[HOSTILE])
    assert run("merge", again)[0] == 0
    site.put(HOSTILE.replace("k/", "d/"), PNG + b"anew")
    code, out, _ = run("undo", again, "--by", "anna")
    assert code == 1
    assert "left" in out
    assert r"another object is at 'd/new\nline" in out
    code, out, _ = run(
        "quarantine", "empty", again, "--early", "--by", "anna", "--confirm", again, "--json"
    )
    assert (code, json.loads(out)) == (0, []), "what could not go back is no longer ours to remove"


def test_policy_commands(run: Run, site: Any, tmp_path: Any) -> None:
    code, out, _ = run("policy", "check", "policy.yaml")
    assert code == 0
    assert "all: exact, near -> quarantine" in out
    assert good(run("policy", "check", "policy.yaml", "--json"))["name"] == "commands"
    (tmp_path / "wrong.yaml").write_text(POLICY.replace("action: quarantine", "action: burn"))
    (tmp_path / "where.yaml").write_text(POLICY.replace("name: all,", 'name: all, where: "x = 1",'))
    for name, words in (
        ("wrong.yaml", "wrong.yaml:7"),
        ("where.yaml", "rule all"),
        ("nowhere.yaml", "cannot read"),
    ):
        code, out, err = run("policy", "check", name)
        assert (code, out) == (2, "")
        assert words in err
    made = good(run("plan", "make", "--policy", "policy.yaml", "--again", "--json"))
    group = next(one for one in made["groups"] if one["keeper"] == "k/three.png")
    explained = good(
        run("policy", "explain", group["group_id"][:9], "--policy", "policy.yaml", "--json")
    )
    assert explained["keeper"] == "k/three.png"
    assert explained["questions"]
    code, out, _ = run("policy", "explain", group["group_id"][:9], "--policy", "policy.yaml")
    assert code == 0
    assert "quarantine (rule all)" in out
    for start in ("zz", "g"):
        code, _, err = run("policy", "explain", start, "--policy", "policy.yaml")
        assert code == 1, "none, and several"
        assert f"no group '{start}', or several that begin so" in err
    code, out, _ = run("policy", "explain", group["group_id"])
    assert code == 0
    assert "report" in out, "without a policy nothing is done"


def test_verdict_command(run: Run, tmp_path: Any) -> None:
    code, out, _ = run("verdict", "k/one.png", HOSTILE, "distinct", "--by", "anna")
    assert (code, out) == (0, "1 recorded; the next scan keeps to it\n")
    text = f'left,right,verdict\nk/one.png,"{HOSTILE}",linked\nk/one.png,k/three.png,distinct\n'
    (tmp_path / "said.csv").write_text(text)
    assert good(run("verdict", "said.csv", "--by", "anna", "--json")) == {"recorded": 2}
    code, out, _ = run("verdict", "-", "--by", "anna", typed=text)
    assert out == "2 recorded; the next scan keeps to them\n"
    (tmp_path / "empty.csv").write_text("left,right,verdict\na,b,\n")
    for words, told in (
        (("k/one.png", HOSTILE, "same"), "'same' is none of"),
        (("k/one.png", "no\x1b[2J.png", "linked"), "knows no picture"),
        (("k/one.png", HOSTILE), "is none of"),
        (("empty.csv",), "no row has a verdict"),
    ):
        code, _, err = run("verdict", *words, "--by", "anna")
        assert code == 1
        assert told in err
    assert run("verdict", "nowhere.csv", "--by", "anna")[0] == 2
    assert "--by" in run("verdict", "k/one.png", HOSTILE, "linked")[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plan", "show", "nope"), "there is no plan 'nope'"),
        (("approve", "nope", "--by", "a"), "there is no plan 'nope'"),
        (("merge", "nope"), "there is no plan 'nope'"),
        (("undo", "no\x1b[2Jpe", "--by", "a"), "there is no plan"),
        (("quarantine", "list", "nope"), "there is no plan 'nope'"),
        (("plan", "make", "--keeper", "x"), "write GROUP=KEY"),
    ],
)
def test_mistakes(run: Run, words: tuple[str, ...], told: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.startswith("dam-dedup: ")
    assert told in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("plan", "before anything is done"),
        ("plan make", "--again"),
        ("plan show", "--full"),
        ("approve", "--accept-questions"),
        ("reject", "not planned again"),
        ("merge", "--dry-run"),
        ("undo", "PLAN/GROUP/NUMBER"),
        ("verdict", "columns left, right and verdict"),
        ("audit", "--savings"),
        ("policy check", "line and key"),
        ("policy explain", "Nothing is"),
        ("quarantine list", "until when"),
        ("quarantine empty", "cannot be undone"),
    ],
)
def test_help(run: Run, words: str, told: str) -> None:
    code, out, _ = run(*words.split(), "--help")
    assert code == 0
    assert told in " ".join(out.split())

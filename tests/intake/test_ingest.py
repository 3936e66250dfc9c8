"""Uploads: what a policy decides, what is kept of it, and that no two of one picture both pass."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.errors import AnalysisError, AssetChangedError, CatalogError, PolicyError, SettingsError
from tasks.intake.alerts import Alert, read_alerts
from tasks.intake.analyze import Analyzer, analysis_json
from tasks.intake.blocklist import block, list_blocked
from tasks.intake.check import Checker
from tasks.intake.ingest import Admission, admit, answer, decide, list_questions, read_admissions
from tasks.intake.update import update_asset
from tasks.merging.rules.ingest_policy import Admit, Ingest, IngestPolicy, IngestRule
from tasks.records import Analysis, Finding, Tier
from tasks.session import open_catalog, open_source
from tasks.settings import Settings, load_settings
from tests.conftest import blobs
from tests.scan.test_prove import invoice

SHOP = "gate://shop"


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def policy(*rules: dict[str, Any], **words: str) -> IngestPolicy:
    made = tuple(IngestRule(**{"name": str(n)} | rule) for n, rule in enumerate(rules))
    return IngestPolicy(policy="test", ingest=Ingest(rules=made, **words))


REJECT = policy({"action": "reject"})


class Door:
    """Uploads to a collection."""

    def __init__(self, settings: Settings, analyzer: Analyzer) -> None:
        self.settings, self.analyzer, self.checker = settings, analyzer, Checker(settings)

    def analysis(self, image: Image.Image | bytes) -> Analysis:
        data = image if isinstance(image, bytes) else png(image)
        (found,) = self.analyzer.analyze([data])
        assert isinstance(found, Analysis)
        return found

    def put(self, key: str, image: Any, policy: IngestPolicy, **given: Any) -> Admission:
        given = {"source": SHOP} | given
        return admit(self.settings, self.analysis(image), self.checker, key, policy=policy, **given)

    def keys(self) -> list[str]:
        return (
            open_catalog(self.settings)
            .read("assets", ["key"], "removed_at IS NULL")["key"]
            .to_list()
        )


@pytest.fixture
def uploads(library, tmp_path: Path):
    settings = load_settings(
        catalog={"uri": str(tmp_path / "catalog")},
        embedding={"model": str(library.model), "pooling": "cls", "device": "cpu", "decoders": 1},
    )
    with Analyzer(settings) as analyzer:
        yield Door(settings, analyzer)


def test_without_rules_everything_is_added_and_matches_are_told(uploads) -> None:
    assert uploads.put("a", blobs(1), policy()).decision == "add"
    second = uploads.put("b", blobs(1), policy())
    assert (second.decision, second.reason) == ("add", "no rule applies")
    assert [one.key for one in second.checked.found] == ["a"]
    assert uploads.keys() == ["a", "b"]


def test_a_rejected_upload_leaves_only_its_record(uploads) -> None:
    first = uploads.put("a", blobs(1), REJECT)
    again = uploads.put("b", png(blobs(1), "BMP"), REJECT)
    assert (again.decision, again.added, again.match.key) == ("reject", False, "a")
    assert "equal pixels" in again.reason or "same pixels" in again.reason
    assert uploads.keys() == ["a"]
    rows = read_admissions(uploads.settings)
    assert rows["decision"].to_list() == ["add", "reject"]
    row = rows.row(1, named=True)
    assert (row["rule"], row["policy"], row["channel"]) == ("0", REJECT.label, "cli")
    assert (row["match_asset"], row["score"], row["tier"]) == (first.asset_id, 1.0, "exact")
    assert row["sha256"] != rows["sha256"][0]
    assert row["content"] == rows["content"][0]


def test_an_object_that_changed_since_it_was_analysed_is_not_entered(uploads, library) -> None:
    library.add("a.png", 1)
    image = (library.folder / "a.png").read_bytes()
    here = {"source": str(library.folder)}
    with pytest.raises(AssetChangedError):
        uploads.put("a.png", image, REJECT, etag="another", **here)
    assert uploads.keys() == []
    assert read_admissions(uploads.settings).is_empty()
    etag = open_source(here["source"], uploads.settings).probe("a.png").etag
    assert uploads.put("a.png", image, REJECT, etag=etag, **here).added


def test_the_same_upload_again_is_no_match_of_itself(uploads) -> None:
    first = uploads.put("a", blobs(1), REJECT)
    again = uploads.put("a", blobs(1), REJECT)
    assert (again.decision, again.asset_id) == ("add", first.asset_id)
    assert uploads.keys() == ["a"]


def test_tiers_and_filters_choose_the_rule(uploads) -> None:
    rules = policy(
        {"tier": "exact", "where": "tags.approved = 'yes'", "action": "reject"},
        {"tier": "exact", "action": "link"},
        {"tier": "near", "action": "ask"},
    )
    uploads.put("approved", blobs(1), rules, tags={"approved": "yes"})
    uploads.put("draft", blobs(2), rules)
    assert uploads.put("x", blobs(1), rules).decision == "reject"
    linked = uploads.put("y", blobs(2), rules)
    assert (linked.decision, linked.added, linked.rule) == ("link", True, "1")
    cropped = uploads.put("z", blobs(1).crop((12, 9, 150, 112)), rules)
    assert (cropped.decision, cropped.match.tier) == ("ask", "near")
    assert uploads.keys() == ["approved", "draft", "y"]
    said = open_catalog(uploads.settings).read(
        "verdicts", ["left_key", "right_key", "verdict", "by"]
    )
    assert {said["left_key"][0], said["right_key"][0]} == {"draft", "y"}
    assert said.row(0)[2:] == ("linked", f"policy {rules.label}")


def test_overwriting_replaces_the_entry_that_is_there(uploads) -> None:
    rules = policy({"action": "overwrite"})
    first = uploads.put("a", blobs(1), rules, tags={"old": "yes"})
    other = uploads.put(
        "b", png(blobs(1).resize((320, 240)), "JPEG", quality=95), rules, tags={"new": "yes"}
    )
    assert (other.decision, other.asset_id) == ("overwrite", first.asset_id)
    rows = open_catalog(uploads.settings).read("assets", ["key", "width", "tags"])
    assert rows.row(0) == ("a", 320, '{"new": "yes"}') or json.loads(rows["tags"][0]) == {
        "new": "yes"
    }
    assert (rows.height, rows["width"][0]) == (1, 320)


def shot(time: str, fraction: str, quality: int) -> bytes:
    exif = Image.Exif()
    exif[0x8769] = {0x9003: time, 0x9291: fraction}
    return png(blobs(1), "JPEG", quality=quality, exif=exif.tobytes())


@pytest.mark.parametrize(
    ("time", "fraction", "decision"),
    [
        ("2026:01:02 03:04:05", "25", "reject"),
        ("2026:01:02 03:04:05", "75", "ask"),
        ("2026:01:02 03:04:08", "25", "ask"),
        ("2026:01:02 04:04:05", "25", "reject"),  # a clock set to another zone
    ],
)
def test_another_shot_of_the_same_is_asked_about(uploads, time, fraction, decision) -> None:
    uploads.put("a", shot("2026:01:02 03:04:05", "25", 92), REJECT)
    second = uploads.put("b", shot(time, fraction, 70), REJECT)
    assert second.decision == decision
    assert ("another shot" in second.reason) == (decision == "ask")


@pytest.mark.parametrize("action", ["reject", "link", "overwrite"])
def test_nobody_acts_on_a_near_match_whose_originals_were_not_compared(uploads, action) -> None:
    rules, crop = policy({"tier": "near", "action": action}), blobs(1).crop((12, 9, 150, 112))
    blind = replace(uploads.analysis(blobs(1)), original=None)  # came as a document, without a file
    update_asset(uploads.settings, blind, "a", source=SHOP)
    asked = uploads.put("b", crop, rules)
    assert (asked.decision, asked.match.tier) == ("ask", "near")
    assert "the file of 'a' cannot be read again: are they the same?" in asked.reason
    update_asset(uploads.settings, uploads.analysis(blobs(1)), "a", source=SHOP)
    assert uploads.put("c", crop, rules).decision == action


@pytest.mark.parametrize("action", ["reject", "overwrite"])
def test_another_number_in_small_print_is_another_document(uploads, action) -> None:
    """No thumbnail shows which number it is; both originals are at hand, and tell."""
    rules = policy({"tier": "exact", "action": action}, {"tier": "near", "action": action})
    uploads.put("0417", invoice("0417"), rules)
    second = uploads.put("0418", invoice("0418"), rules)
    assert (second.decision, second.added) == ("add", True)
    assert uploads.put("0417 again", png(invoice("0417"), "BMP"), rules).decision == action
    assert "0418" in set(uploads.keys())


def test_objects_are_never_overwritten(uploads, library) -> None:
    library.add("a.png", 1)
    rules = policy({"action": "overwrite"})
    with pytest.raises(PolicyError, match="gate:// collections only"):
        uploads.put("a.png", blobs(1), rules, source=str(library.folder))
    assert read_admissions(uploads.settings).is_empty()


def test_a_file_that_is_there_is_entered_and_need_not_be_read_by_a_scan(uploads, library) -> None:
    path = library.add("a.png", 1)
    done = uploads.put("a.png", path.read_bytes(), REJECT, source=str(library.folder))
    assert done.added
    outcome = library.scan()
    assert (outcome.summary.counts["read"], outcome.summary.counts["added"]) == (0, 0)


def test_questions_are_kept_and_settled_once(uploads) -> None:
    rules = policy({"action": "ask"})
    uploads.put("a", blobs(1), rules)
    one = uploads.put("b", blobs(1), rules, tags={"label": "shoes"}, name="b.png")
    two = uploads.put("c", blobs(1), rules)
    assert uploads.keys() == ["a"]
    assert list_questions(uploads.settings)["key"].to_list() == ["b", "c"]
    with pytest.raises(SettingsError, match="--by"):
        answer(uploads.settings, one.id, "add", by=" ")
    with pytest.raises(SettingsError, match="add or reject"):
        answer(uploads.settings, one.id, "maybe", by="anna")  # type: ignore[arg-type]
    entered = answer(uploads.settings, one.id[:12], "add", by="anna")
    assert answer(uploads.settings, two.id, "reject", by="ben") == ""
    assert uploads.keys() == ["a", "b"]
    row = open_catalog(uploads.settings).read("assets", ["key", "asset_id", "label", "name"]).row(1)
    assert row == ("b", entered, "shoes", "b.png")
    assert list_questions(uploads.settings).is_empty()
    with pytest.raises(CatalogError, match="0 open questions"):
        answer(uploads.settings, one.id, "reject", by="anna")
    rows = read_admissions(uploads.settings)
    assert rows.tail(2).select("decision", "answer_to", "by").rows() == [
        ("add", one.id, "anna"),
        ("reject", two.id, "ben"),
    ]


def test_a_question_that_was_tampered_with_is_not_answered(uploads, monkeypatch) -> None:
    rules = policy({"action": "ask"})
    uploads.put("a", blobs(1), rules)
    forged = analysis_json(uploads.analysis(blobs(1)), uploads.settings) | {"size": 7}
    with monkeypatch.context() as patch:
        patch.setattr("tasks.intake.ingest.analysis_json", lambda *_: forged)
        asked = uploads.put("b", blobs(1), rules)
    with pytest.raises(AnalysisError):
        answer(uploads.settings, asked.id, "add", by="anna")
    assert uploads.keys() == ["a"]
    assert list_questions(uploads.settings).height == 1


def test_the_blocklist_is_asked_at_every_upload(uploads) -> None:
    block(
        uploads.settings,
        uploads.analysis(blobs(1)),
        reason="taken down",
        rule="rights",
        by="anna",
        name="bad.png",
    )
    strict = policy(blocked="reject", resembling="ask")
    equal = uploads.put("a", blobs(1), strict)
    assert (equal.decision, equal.rule, equal.alerts[0].relation) == (
        "reject",
        "rights",
        "equal bytes",
    )
    like = uploads.put("b", png(blobs(1).resize((140, 105)), "JPEG", quality=90), strict)
    assert (like.decision, like.alerts[0].relation, like.alerts[0].certain) == (
        "ask",
        "resembles",
        False,
    )
    assert uploads.keys() == []
    told = uploads.put("c", blobs(1), policy())
    assert (told.decision, len(told.alerts)) == ("add", 1)
    alerts = read_alerts(open_catalog(uploads.settings))
    assert alerts["relation"].to_list() == ["equal bytes", "resembles"]  # one for each content
    assert alerts["channel"].unique().to_list() == ["cli"]
    assert list_blocked(uploads.settings)["name"].to_list() == ["bad.png"]


def finding(tier: str, asset: str = "x") -> Finding:
    return Finding(asset, asset, SHOP, 0.9, tier, "c", "verified", "{}", "cropped", "", {})


_TIERS = st.sampled_from([tier.value for tier in Tier])
_RULES = st.lists(st.builds(dict, tier=_TIERS, action=st.sampled_from(list(Admit))), max_size=4)


@given(_RULES, st.lists(_TIERS, max_size=4))
def test_the_first_rule_that_a_match_satisfies_decides(rules, tiers) -> None:
    said = decide(policy(*rules), [finding(tier) for tier in tiers], {}, [])
    wanted = next((rule["action"] for rule in rules if rule["tier"] in tiers), Admit.ADD)
    assert said.action is wanted
    assert (said.match is None) == (not any(rule["tier"] in tiers for rule in rules))


@pytest.mark.parametrize("action", list(Admit))
def test_the_blocklist_only_ever_makes_it_stricter(action) -> None:
    alert = Alert(
        "blocklist",
        "r",
        "e",
        "why",
        "s",
        "k",
        "c",
        "blocklist",
        "n",
        "c2",
        "equal bytes",
        1.0,
        "equal bytes",
    )
    rules = {"tier": "near", "action": action}
    for word in ("reject", "ask", "add"):
        said = decide(policy(rules, blocked=word), [finding("near")], {}, [alert])
        if "reject" in (word, action):
            assert said.action is Admit.REJECT
        elif "ask" in (word, action):
            assert said.action is Admit.ASK
        else:
            assert said.action is action


# ---- all at once -----------------------------------------------------------------------------

UPLOADS = """
import json, sys, threading
from tasks.intake.analyze import Analyzer
from tasks.intake.check import Checker
from tasks.merging.rules.ingest_policy import Ingest, IngestPolicy, IngestRule
from tasks.intake.ingest import admit
from tasks.settings import load_settings

catalog, model, folder, name = sys.argv[1:]
settings = load_settings(catalog={"uri": catalog},
    embedding={"model": model, "pooling": "cls", "device": "cpu", "decoders": 1})
rules = IngestPolicy(policy="test", ingest=Ingest(rules=(IngestRule(name="r", action="reject"),)))
from pathlib import Path
files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
with Analyzer(settings) as analyzer:
    analyses = analyzer.analyze(files)
checker = Checker(settings)
said = []
print("ready", flush=True)
sys.stdin.readline()
work = [(n, analysis) for n in range(5) for analysis in enumerate(analyses)]
lock = threading.Lock()

def upload(thread):
    while True:
        with lock:
            if not work:
                return
            round, (at, analysis) = work.pop()
        done = admit(settings, analysis, checker, f"{name}-{round}-{at}", source="gate://shop",
                     policy=rules)
        with lock:
            said.append((at, done.decision))

threads = [threading.Thread(target=upload, args=(n,)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(said))
"""


@pytest.mark.long
def test_200_uploads_of_20_pictures_from_two_processes_leave_20_assets(uploads, tmp_path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(20):
        (folder / f"{seed:02}.png").write_bytes(png(blobs(seed)))
    command = [
        sys.executable,
        "-c",
        UPLOADS,
        uploads.settings.catalog.uri,
        uploads.settings.embedding.model,
        str(folder),
    ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, name], **pipes) for name in ("one", "two")]
    try:
        assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
        for process in both:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate(timeout=240)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    said = [tuple(row) for text in told for row in json.loads(text)]
    assert len(said) == 200
    assert Counter(said) == {
        **{(at, "add"): 1 for at in range(20)},
        **{(at, "reject"): 9 for at in range(20)},
    }
    catalog = open_catalog(uploads.settings)
    assert catalog.count("assets") == 20
    assert catalog.duplicate_keys() == {}
    assert read_admissions(uploads.settings).height == 200


def test_identical_uploads_from_threads_of_one_process(uploads) -> None:
    analysis = uploads.analysis(blobs(1))
    start = threading.Barrier(8)
    said = []

    def upload(number: int) -> None:
        start.wait()
        done = admit(
            uploads.settings, analysis, uploads.checker, f"k{number}", source=SHOP, policy=REJECT
        )
        said.append(done.decision)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(said) == {"add": 1, "reject": 7}

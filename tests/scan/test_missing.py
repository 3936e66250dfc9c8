"""A scan that misses much waits, reads it again, and is no success while it stays missing."""

from __future__ import annotations

import json

import pytest

from flows.order import run_scan
from tasks.errors import IncompleteScanError, SourceError, TransientSourceError
from tasks.requests import ScanRequest
from tasks.session import open_catalog
from tasks.sources.local import LocalSource

PICTURES = 12


@pytest.fixture
def waits(library, monkeypatch) -> list[float]:
    """A library of pictures with copies, and the pauses that its scans made."""
    for seed in range(PICTURES // 2):
        library.add(f"{seed}.png", seed)
        library.add(f"{seed}.bmp", seed)
    pauses: list[float] = []
    monkeypatch.setattr("flows.order.time.sleep", pauses.append)
    monkeypatch.setenv("DAM_DEDUP_SOURCE__RETRY_PAUSES", "30,120")
    return pauses


class Outage:
    """Storage that fails for these keys until a number of pauses was made."""

    def __init__(self, monkeypatch, pauses, keys, ends, error=TransientSourceError):
        self._pauses, self._keys, self._ends, self._error = pauses, keys, ends, error
        for name in ("probe", "read"):
            real = getattr(LocalSource, name)
            monkeypatch.setattr(LocalSource, name, self._around(name, real))

    def _around(self, name, real):
        def call(source, key, *rest):
            if len(self._pauses) < self._ends and key in self._keys.get(name, ()):
                raise self._error(f"cannot {name} {key}: SlowDown")
            return real(source, key, *rest)

        return call


def states(outcome) -> list[str]:
    return (
        open_catalog(outcome.scan.settings).read("scans", ["started", "state"])["state"].to_list()
    )


@pytest.mark.parametrize("hidden", ["probe", "read"])
def test_what_fails_in_passing_is_read_after_a_pause(library, waits, monkeypatch, hidden):
    keys = {f"{seed}.png" for seed in range(5)}
    Outage(monkeypatch, waits, {hidden: keys}, ends=1)
    outcome = library.scan()
    assert waits == [30]
    assert outcome.summary.coverage.scanned == PICTURES
    assert outcome.summary.groups.height == PICTURES // 2
    assert outcome.summary.counts["read"] == PICTURES, "the reads of all tries together"
    assert states(outcome) == ["finished"]
    outcome.check()


def test_what_stays_missing_fails_the_scan_and_keeps_its_report(library, waits, monkeypatch):
    mails = []
    monkeypatch.setattr("tasks.reporting.deliver.send", lambda _, mail: mails.append(mail) or [])
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", "owner@example.test")
    Outage(monkeypatch, waits, {"probe": {"0.png", "1.png"}, "read": {"2.png", "3.png"}}, ends=9)
    outcome = library.scan()
    assert waits == [30, 120]
    assert states(outcome) == ["incomplete: 4 of 12 images"]
    assert outcome.summary.coverage.failed == {"storage_error": 4}
    assert outcome.summary.groups.height == 2, "what was read is compared"
    assert mails == []
    with pytest.raises(IncompleteScanError, match=f"4 of 12 images.*{outcome.scan.id}"):
        outcome.check()
    kept = library.place / "reports" / outcome.scan.id
    assert json.loads((kept / "groups.json").read_text())["counts"]["missing"] == 4
    assert "INCOMPLETE: the storage did not show 4 images." in (kept / "report.html").read_text()

    waits += [0.0] * 9  # the storage is well again
    healed = library.scan()
    assert healed.summary.coverage.scanned == PICTURES
    assert set(healed.summary.groups["state"]) == {"new"}, "nobody was told of any before"
    assert len(mails) == 1


def test_its_report_can_be_made_again_by_its_name_and_is_not_the_latest(
    library, waits, monkeypatch
):
    from tasks.errors import CatalogError
    from tasks.reporting.summarize import last_scan

    Outage(monkeypatch, waits, {"read": {f"{n}.png" for n in range(4)}}, ends=9)
    outcome = library.scan()
    settings = outcome.scan.settings
    assert last_scan(settings, outcome.scan.id)[0].id == outcome.scan.id
    with pytest.raises(CatalogError, match="no finished scan"):
        last_scan(settings)


def test_a_few_are_told_and_no_more(library, waits, monkeypatch):
    Outage(monkeypatch, waits, {"read": {"0.png"}, "probe": {"1.png", "2.png"}}, ends=9)
    outcome = library.scan()
    assert waits == []
    assert outcome.summary.coverage.failed == {"storage_error": 3}
    assert states(outcome) == ["finished"]


def test_what_the_storage_refuses_for_good_is_not_waited_for(library, waits, monkeypatch):
    keys = {f"{seed}.png" for seed in range(5)}
    Outage(monkeypatch, waits, {"probe": keys, "read": keys}, ends=9, error=SourceError)
    outcome = library.scan()
    assert waits == []
    assert outcome.summary.coverage.failed == {"unreadable": 5}
    assert states(outcome) == ["finished"]


def test_the_share_is_a_setting(library, waits, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_SOURCE__MISSING_SHARE", "0.5")
    Outage(monkeypatch, waits, {"read": {f"{n}.png" for n in range(5)}}, ends=9)
    assert states(library.scan()) == ["finished"]


# ---- preflight --------------------------------------------------------------------------------


@pytest.fixture
def unstarted(library, monkeypatch):
    """A library of one picture, no stage of whose scan may begin."""
    library.add("a.png", 1)
    monkeypatch.setattr("flows.order.begin_scan", lambda *_: pytest.fail("a stage began"))
    return library


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DAM_DEDUP_MERGE__POLICY", "/nowhere/policy.yaml", "cannot read the policy /nowhere"),
        ("DAM_DEDUP_DELIVERY__BUCKET", "s3://no-such-bucket/x", "cannot write to s3://no-such"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_before_the_first_stage(
    unstarted, monkeypatch, variable, value, said
):
    monkeypatch.setenv("DAM_DEDUP_S3__ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(Exception, match=said):
        unstarted.scan()


def test_all_that_is_wrong_is_told_at_once(unstarted, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_MERGE__POLICY", "/nowhere/policy.yaml")
    with pytest.raises(Exception, match=r"(?s)the policy /nowhere.*also:.*/nowhere/model"):
        unstarted.scan(model="/nowhere/model")


def test_a_mail_server_that_is_down_stops_no_scan(library, monkeypatch, caplog):
    library.add("a.png", 1)
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", "owner@example.test")
    monkeypatch.setenv("DAM_DEDUP_MAIL__PORT", "9")
    monkeypatch.setenv("DAM_DEDUP_MAIL__HOST", "127.0.0.1")
    assert states(library.scan()) == ["finished"]
    assert "the mail of this scan will not go out" in caplog.text


def test_a_bucket_that_takes_reports_is_known_and_left_as_it_was(s3, library, monkeypatch):
    library.add("a.png", 1)
    bucket = s3.bucket()
    seen = {}

    def look(scan, *_):
        seen.update(s3.client.list_objects_v2(Bucket=bucket))
        raise RuntimeError("far enough")

    monkeypatch.setattr("flows.order.begin_scan", look)
    from tasks.preflight import DELIVERY
    from tasks.settings import load_settings

    settings = load_settings(delivery={"bucket": f"s3://{bucket}/reports", "folder": None})
    settings = settings.model_copy(update={"s3": s3.settings})
    assert DELIVERY.at(settings) == f"s3://{bucket}/reports: writable"
    with pytest.raises(RuntimeError, match="far enough"):
        run_scan(ScanRequest(source=str(library.folder)), settings)
    assert seen["KeyCount"] == 0

"""The order of a scan: turns, and what a lost mail leaves."""

import threading
import time

import pytest

from tasks.errors import CatalogBusyError, FilterError
from tasks.queries.scans import UNTOLD
from tasks.session import open_catalog
from tasks.settings import load_settings


@pytest.fixture
def mailed(library, monkeypatch):
    """A library with a pair, whose scans mail to a port where nobody listens."""
    monkeypatch.setenv("DAM_DEDUP_MAIL__TO", "admin@example.test")
    monkeypatch.setenv("DAM_DEDUP_MAIL__HOST", "127.0.0.1")
    monkeypatch.setenv("DAM_DEDUP_MAIL__PORT", "9")
    monkeypatch.setenv("DAM_DEDUP_MAIL__TLS", "none")
    library.add("a.png", 1)
    library.add("b.bmp", 1)
    return library


@pytest.mark.long
def test_news_that_no_mail_told_is_told_by_the_next_scan(mailed):
    first = mailed.scan()
    assert not first.mailed
    assert {receipt.name for receipt in first.receipts} >= {"report.html", "groups.json"}
    scans = open_catalog(first.scan.settings).read("scans", ["scan_id", "state"])
    assert scans["state"].to_list() == [UNTOLD]
    assert mailed.scan().summary.has_news


def test_scans_of_one_catalog_take_turns(library):
    library.add("a.png", 1)
    settings = library.scan().scan.settings
    done = threading.Event()

    def scan() -> None:
        library.scan()
        done.set()

    with open_catalog(settings).turn(0):
        other = threading.Thread(target=scan)
        other.start()
        time.sleep(1.0)
        assert not done.is_set(), "it waits"
    other.join(timeout=60)
    assert done.is_set(), "and goes on"


def test_a_scan_does_not_wait_for_ever_and_a_wrong_filter_not_at_all(library, monkeypatch):
    library.add("a.png", 1)
    settings = library.scan().scan.settings
    monkeypatch.setenv("DAM_DEDUP_CATALOG__SCAN_WAIT_SECONDS", "0")
    assert load_settings().catalog.scan_wait_seconds == 0
    with open_catalog(settings).turn(0):
        with pytest.raises(CatalogBusyError):
            library.scan()
        with pytest.raises(FilterError):
            library.scan(where="nonsense = 1")

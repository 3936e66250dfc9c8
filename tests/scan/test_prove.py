"""Prove: originals are compared at full size before a pair counts as the same picture."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

import tasks.queries.matches as matches
import tasks.scan.prove as prove
from reports.words import proof_words
from tasks.errors import ImageError, SourceError
from tasks.queries.comparison import Comparer
from tasks.queries.matches import read_pairs
from tasks.records import Kind
from tasks.session import open_catalog
from tasks.sources.local import LocalSource


def invoice(number: str) -> Image.Image:
    """A table of small numbers, one of them the invoice's: no thumbnail of 384 pixels shows which.

    The number is at (0.62, 0.64) of the page.
    """
    page = Image.new("RGB", (1400, 1400), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(9)
    numbers = np.random.default_rng(5).integers(1000, 9999, (38, 11))
    for row in range(38):
        for column in range(11):
            text = number if (row, column) == (24, 7) else str(numbers[row, column])
            draw.text((70 + 112 * column, 70 + 34 * row), text, "#202020", font)
    return page


def answers(outcome) -> pl.DataFrame:
    catalog = open_catalog(outcome.scan.settings)
    return read_pairs(catalog, outcome.scan, outcome.summary.space)


def pairs_of(outcome) -> dict[tuple[str, str], tuple[str, str]]:
    """Tier and evidence in words of each pair of assets."""
    rows = outcome.summary.pairs.select("left", "right", "tier", "changes").rows()
    return {(left, right): (tier, said) for left, right, tier, said in rows}


def proofs_in(outcome) -> pl.DataFrame:
    catalog = open_catalog(outcome.scan.settings)
    return catalog.read("proofs", ["left", "right", "verdict", "bytes", "excess", "box", "at"])


@pytest.fixture(scope="module")
def papers(make_stock):
    """Two invoices that differ in a digit, and each one's JPEG."""

    def fill(stock):
        for number in ("0417", "0418"):
            stock.write(f"{number}.png", invoice(number))
            stock.write(f"{number}.jpg", invoice(number), quality=85)
        stock.outcome = stock.scan()

    return make_stock(fill)


def test_another_invoice_is_taken_back_and_its_place_is_told(papers):
    pairs = pairs_of(papers.outcome)
    told = answers(papers.outcome)
    across = told.filter(pl.col("proof") == "reads")
    assert across.height >= 1
    assert across["claim"].min() >= 0.7  # the thumbnails could not tell the two apart
    assert across["score"].max() < 0.7
    for left, right in (("0417.png", "0418.png"), ("0417.jpg", "0418.jpg")):
        assert (left, right) not in pairs
    box = proofs_in(papers.outcome).filter(verdict="reads")["box"].to_list()[0]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    assert (x, y) == pytest.approx((0.62, 0.64), abs=0.03)
    groups = papers.outcome.summary.members.group_by("group_id").agg(pl.col("key").sort())
    assert sorted(groups["key"].to_list()) == [
        ["0417.jpg", "0417.png"],
        ["0418.jpg", "0418.png"],
    ]


def test_a_pages_copy_is_exact_once_it_was_read(papers):
    pairs = pairs_of(papers.outcome)
    assert pairs["0417.jpg", "0417.png"][0] == "exact"
    mine = answers(papers.outcome).filter(pl.col("proof") == "same")
    assert mine["claim"].max() < 0.95 <= mine["score"].min()


def test_what_was_done_is_counted_and_told(papers):
    counts = papers.outcome.summary.counts
    proofs = proofs_in(papers.outcome)
    assert counts["proven"] == proofs.height
    assert counts["lifted"] == 2
    assert counts["taken_back"] == proofs.filter(verdict="reads").height
    assert counts["not_proven"] == 0
    said = proof_words(counts)[0]
    assert f"{counts['proven']} pairs proven on originals" in said
    assert f"{counts['taken_back']} taken back" in said
    # Pairs that share a file are proven one after the other, so that hardly one is read twice.
    sizes = [path.stat().st_size for path in papers.folder.iterdir()]
    assert sum(sizes) <= counts["proof_bytes"] < 2 * sum(sizes)


def test_the_next_scan_reads_nothing_and_says_the_same(papers, tmp_path, monkeypatch):
    lent = papers.lend(tmp_path)
    monkeypatch.setattr(LocalSource, "read", None)
    for kind in (Kind.INCREMENTAL, Kind.FULL):
        outcome = lent.scan(kind)
        assert outcome.summary.counts["proven"] == 0
        assert pairs_of(outcome) == pairs_of(papers.outcome)
        assert outcome.summary.groups["state"].to_list() == ["known", "known"]


def test_only_what_is_new_is_proven(library):
    for seed in (1, 2):
        library.add(f"{seed}.png", seed)
        library.add(f"{seed}.jpg", seed)
    assert library.scan().summary.counts["proven"] == 2
    library.add("3.png", 3)
    library.add("3.jpg", 3)
    assert library.scan().summary.counts["proven"] == 1
    library.add("1.jpg", 1, quality=60)  # another content, so another proof
    outcome = library.scan()
    assert outcome.summary.counts["proven"] == 1
    assert {tier for tier, _ in pairs_of(outcome).values()} == {"exact"}
    assert library.scan().summary.counts["proven"] == 0


def test_equal_bytes_need_no_proof(library):
    library.write("a.png", invoice("0417"))
    (library.folder / "b.png").write_bytes((library.folder / "a.png").read_bytes())
    outcome = library.scan()
    assert outcome.summary.counts["proven"] == outcome.summary.counts["not_proven"] == 0
    assert pairs_of(outcome)["a.png", "b.png"] == ("exact", "same bytes")


def test_what_cannot_be_fetched_is_near_and_tried_again(library, monkeypatch):
    library.add("a.png", 1)
    library.add("a.jpg", 1)
    read = LocalSource.read
    calls = []

    def gone(self, *args):
        calls.append(args[0])
        if len(calls) > 2:  # the first two are what embed reads
            raise SourceError("the archive is closed")
        return read(self, *args)

    monkeypatch.setattr(LocalSource, "read", gone)
    outcome = library.scan()
    assert pairs_of(outcome)["a.jpg", "a.png"][0] == "near"
    assert outcome.summary.counts["not_proven"] == 1
    assert "not proven at full size" in proof_words(outcome.summary.counts)[0]
    monkeypatch.setattr(LocalSource, "read", read)
    assert pairs_of(library.scan())["a.jpg", "a.png"][0] == "exact"


@pytest.mark.long
def test_what_cannot_be_compared_waits_for_a_full_scan(library, monkeypatch):
    library.add("a.png", 1)
    library.add("a.jpg", 1)

    def fails(*_):
        raise ImageError("timeout", "not decoded in 20 s")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.embedding.decoder.DecoderPool.compare", fails)
        outcome = library.scan()
    assert pairs_of(outcome)["a.jpg", "a.png"][0] == "near"
    assert proofs_in(outcome)["verdict"].to_list() == ["unreadable"]
    assert pairs_of(library.scan())["a.jpg", "a.png"][0] == "near"
    assert pairs_of(library.scan(Kind.FULL))["a.jpg", "a.png"][0] == "exact"


@pytest.mark.long
def test_a_kill_in_the_middle_is_gone_on_from(library, monkeypatch):
    for seed in range(6):
        library.add(f"{seed}.png", seed)
        library.add(f"{seed}.jpg", seed)
    monkeypatch.setattr(prove, "_WRITE_ROWS", 2)
    compare, done = Comparer._one, []

    def dies(self, pair):
        done.append(pair)
        if len(done) > 4:
            raise KeyboardInterrupt
        return compare(self, pair)

    with monkeypatch.context() as patch:
        patch.setattr(Comparer, "_one", dies)
        with pytest.raises(KeyboardInterrupt):
            library.scan()
    outcome = library.scan()
    assert 0 < outcome.summary.counts["proven"] < 6
    assert proofs_in(outcome).height == 6
    assert {tier for tier, _ in pairs_of(outcome).values()} == {"exact"}


def test_what_is_laid_over_a_photograph_stays_near(library):
    """Its thumbnails tell of the banner; the originals tell no more, and take nothing back."""
    rng = np.random.default_rng(1)
    grid = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    photo = Image.fromarray(grid).resize((1000, 800), Image.Resampling.BICUBIC)
    marked = photo.copy()
    draw = ImageDraw.Draw(marked)
    draw.rectangle((40, 40, 300, 120), "white")
    draw.text((60, 50), "SALE", "black", ImageFont.load_default(60))
    library.write("photo.png", photo)
    library.write("photo sale.jpg", marked, quality=90)
    outcome = library.scan()
    (pair,) = pairs_of(outcome).values()
    assert pair[0] == "near"
    assert "something added or covered" in pair[1]
    assert outcome.summary.counts["proven"] == 1


def test_later_stages_take_the_matches_that_prove_settled(library, monkeypatch):
    """Settling them takes as long as all else that group does, and at a million assets minutes."""
    library.add("a.png", 1)
    library.add("a.jpg", 1)
    library.add("b.png", 2)
    read, real = [], matches.read_pairs
    monkeypatch.setattr(matches, "read_pairs", lambda *its: (read.append(1), real(*its))[1])
    outcome = library.scan()
    assert not read
    its = open_catalog(outcome.scan.settings), outcome.scan, outcome.summary.space
    kept = matches.read_matches(*its)
    assert kept.height == 1
    matches._latest.keep(("", "", "", ()), kept.clear())
    assert matches.read_matches(*its).equals(kept), "those that the catalog has"
    assert read == [1]

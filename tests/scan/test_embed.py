"""Embed: each image is read once, and what fails is told."""

from __future__ import annotations

import itertools

import polars as pl
import pytest

import tasks.scan.embed
from tasks.errors import ImageError, SourceError, TransientSourceError
from tasks.queries.byte_budget import ByteBudget
from tasks.records import Kind
from tasks.scan.embed import DecoderPool
from tasks.session import open_catalog
from tasks.sources.local import LocalSource


@pytest.fixture
def decoded(monkeypatch) -> list[bytes]:
    """The files that decoders were given."""
    given: list[bytes] = []
    real = DecoderPool.decode

    def decode(pool, data):
        given.append(data)
        return real(pool, data)

    monkeypatch.setattr(DecoderPool, "decode", decode)
    return given


def work(outcome) -> tuple[int, int]:
    return outcome.summary.counts["read"], outcome.summary.counts["embedded"]


def fill(library, count: int = 4) -> None:
    for seed in range(count):
        library.add(f"p{seed}.png", seed)


def test_a_second_scan_reads_nothing(library):
    fill(library)
    assert work(library.scan()) == (4, 4)
    assert work(library.scan()) == (0, 0)
    assert work(library.scan(Kind.FULL)) == (0, 0)


def test_equal_bytes_and_equal_pixels_are_embedded_once(library):
    fill(library, 3)
    library.add("p0 again.png", 0)
    assert work(library.scan()) == (4, 3)
    library.add("copy/p1.png", 1)
    library.add("p1.bmp", 1)
    assert work(library.scan()) == (2, 0)


def test_a_changed_file_is_read_again(library):
    fill(library)
    before = library.scan().summary
    library.add("p2.png", 77)
    library.add("p3.png", 3)  # the same picture, saved again
    after = library.scan()
    assert work(after) == (2, 1)
    assert after.summary.coverage.scanned == before.coverage.scanned == 4


@pytest.mark.long
def test_a_removed_and_returned_file_costs_one_read_at_most(library):
    fill(library)
    library.scan()
    path = library.folder / "p1.png"
    path.rename(path.with_name("p1.hidden"))
    (library.folder / "p1.hidden").rename(library.folder.parent / "p1.hidden")
    assert library.scan().summary.coverage.seen == 3
    (library.folder.parent / "p1.hidden").rename(path)
    again = library.scan()
    assert again.summary.coverage.scanned == 4
    assert again.summary.counts["embedded"] == 0


def test_a_broken_image_waits_for_new_bytes(library, decoded):
    fill(library, 2)
    whole = (library.folder / "p0.png").read_bytes()
    library.write("bad.png", whole[:400])
    first = library.scan().summary
    assert sum(first.coverage.failed.values()) == 1
    assert first.coverage.outcomes["key"].to_list() == ["bad.png"]
    assert first.coverage.outcomes["message"][0]
    decoded.clear()
    assert library.scan().summary.coverage.failed == first.coverage.failed
    assert library.scan(Kind.FULL).summary.coverage.failed == first.coverage.failed
    assert decoded == []
    library.write("bad.png", whole)
    assert library.scan().summary.coverage.failed == {}
    assert decoded == [whole]


@pytest.mark.parametrize(
    ("error", "reason"), [(TransientSourceError, "storage_error"), (SourceError, "unreadable")]
)
def test_a_storage_error_is_tried_again(library, monkeypatch, error, reason):
    fill(library, 3)
    real = LocalSource.read

    def read(source, key, etag, limit):
        if key == "p1.png":
            raise error("the disk said no")
        return real(source, key, etag, limit)

    with monkeypatch.context() as patch:
        patch.setattr(LocalSource, "read", read)
        first = library.scan()
    assert first.summary.coverage.failed == {reason: 1}
    assert first.summary.coverage.outcomes["message"].to_list() == ["the disk said no"]
    again = library.scan()
    assert work(again) == (1, 1)
    assert again.summary.coverage.failed == {}


def test_a_reader_of_another_version_tries_failures_again(library, decoded, monkeypatch):
    library.write("bad.png", b"\x89PNG\r\n\x1a\n cut")
    library.add("good.png", 1)
    library.scan()
    decoded.clear()
    monkeypatch.setattr("tasks.queries.readings.READER_VERSION", 10_000)
    library.scan()
    assert decoded == [b"\x89PNG\r\n\x1a\n cut"]


def test_limits_are_told_by_name(library):
    fill(library, 2)
    size = (library.folder / "p1.png").stat().st_size
    library.write("p1.png", (library.folder / "p1.png").read_bytes() + bytes(200_000))
    outcome = library.scan(limits={"bytes": size + 100_000})
    assert outcome.summary.coverage.failed == {"too_many_bytes": 1}
    assert "DAM_DEDUP_LIMITS__BYTES" in outcome.summary.coverage.outcomes["message"][0]
    again = library.scan(limits={"bytes": size + 300_000})
    assert again.summary.coverage.failed == {}, "the remedy it names works"


def test_coverage_adds_up(library):
    fill(library, 4)
    library.write("empty.png", b"")
    library.write("p0.xmp", b"<r><title>one</title></r>")
    library.write("notes.txt", b"no image")
    library.write("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    library.write("cut.jpg", b"\xff\xd8\xff\xe0 cut")
    outcome = library.scan(where="size < 100000 AND name <> 'p3.png'")
    coverage = outcome.summary.coverage
    assert coverage.adds_up
    assert (coverage.seen, coverage.scanned) == (9, 3)
    assert coverage.failed == {"truncated": 1}
    assert coverage.skipped == {
        "filtered": 1,
        "format_svg": 1,
        "not_an_image": 1,
        "sidecar": 1,
        "zero_bytes": 1,
    }
    assert coverage.outcomes.height == 6


@pytest.mark.parametrize("where", ["width > 100", "height = 120 AND mode = 'RGB'"])
def test_a_filter_on_what_only_a_reading_tells(library, where):
    fill(library, 2)
    library.add("p0.bmp", 0)
    library.add("small.png", 5, width=80)
    outcome = library.scan(where=where)
    assert outcome.summary.coverage.scanned == 3
    assert outcome.summary.coverage.skipped == {"filtered": 1}
    assert outcome.summary.groups.height == 1
    library.add("small.png", 5)  # now it is large enough
    assert library.scan(where=where).summary.coverage.scanned == 4


def test_a_filter_keeps_the_rest_unread(library):
    fill(library, 4)
    assert work(library.scan(where="name IN ('p0.png', 'p1.png')")) == (2, 2)
    assert work(library.scan()) == (2, 2)


def test_another_model_has_its_own_vectors(library, make_model):
    fill(library, 3)
    first = library.scan()
    other = make_model(1)
    second = library.scan(model=other)
    assert work(second) == (3, 3)
    assert first.summary.space.id != second.summary.space.id
    catalog = open_catalog(second.scan.settings)
    assert catalog.count("spaces") == 2
    for outcome in (first, second):
        assert len(catalog.known_contents(outcome.summary.space.id)) == 3
    assert work(library.scan()) == (0, 0)


def test_what_was_learned_of_an_image_is_in_the_catalog(library):
    fill(library, 1)
    outcome = library.scan()
    row = open_catalog(outcome.scan.settings).read(
        "assets", ["key", "width", "height", "mode", "content", "sha256", "failed"]
    )
    assert row.select("key", "width", "height", "mode", "failed").rows() == [
        ("p0.png", 160, 120, "RGB", None)
    ]
    thumbnails = open_catalog(outcome.scan.settings).read_keys(
        "thumbnails", ["content", "jpeg"], row["content"]
    )
    assert thumbnails["jpeg"][0].startswith(b"\xff\xd8\xff")


def test_a_scan_that_died_while_reading_goes_on(library, monkeypatch):
    fill(library, 6)
    real = tasks.scan.embed._read_all

    def three_of_all(*args):
        yield from itertools.islice(real(*args), 3)
        raise RuntimeError("power cut")

    monkeypatch.setattr("tasks.scan.embed._WRITE_ROWS", 2)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.scan.embed._read_all", three_of_all)
        with pytest.raises(RuntimeError, match="power cut"):
            library.scan()
    after = library.scan()
    assert after.summary.coverage.scanned == 6
    assert 3 <= work(after)[0] <= 4, "what was written before is not read again"


def test_the_byte_budget_always_lets_one_through():
    budget = ByteBudget(10)
    with budget.spend(1000):
        assert budget._spent == 1000
    with budget.spend(4), budget.spend(6):
        assert budget._spent == 10
    assert budget._spent == 0


def test_no_images_at_all(library):
    library.write("notes.txt", b"no image")
    summary = library.scan().summary
    assert summary.groups.is_empty()
    assert isinstance(summary.pairs, pl.DataFrame)
    assert summary.coverage.adds_up


def test_an_image_without_a_vector_is_reported_and_stops_nothing(library, monkeypatch):
    library.add("good.png", 1)
    library.add("odd.png", 2)
    from tasks.embedding.vision import VisionEmbedder

    real = VisionEmbedder.embed

    def embed(self, pixels, **options):
        vectors = real(self, pixels, **options)
        if len(vectors) > 1:
            vectors[-1] = float("nan")
        return vectors

    monkeypatch.setattr(VisionEmbedder, "embed", embed)
    outcome = library.scan()
    assert outcome.summary.coverage.failed == {"no_vector": 1}
    assert outcome.summary.coverage.scanned == 1
    assert (outcome.summary.counts["read"], outcome.summary.counts["embedded"]) == (1, 1)


def test_a_busy_machines_failures_are_tried_again_by_a_full_scan(library, monkeypatch):
    library.add("slow.png", 1)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.scan.embed.DecoderPool.decode", timed_out)
        assert library.scan().summary.coverage.failed == {"timeout": 1}
    assert library.scan().summary.coverage.failed == {"timeout": 1}, "not by every scan"
    assert library.scan(Kind.FULL).summary.coverage.failed == {}


def timed_out(self, data):
    raise ImageError("timeout", "on purpose")

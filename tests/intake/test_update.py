"""Update: one image into the catalog, as a scan would have put it there."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from flows.order import run_scan
from tasks.errors import (
    AssetChangedError,
    AssetGoneError,
    ModelError,
    SettingsError,
    SourceError,
)
from tasks.intake.analyze import Analyzer
from tasks.intake.check import Checker
from tasks.intake.update import remove_assets, update_asset
from tasks.records import CheckQuestion, Kind
from tasks.requests import ScanRequest
from tasks.session import open_catalog, open_source
from tasks.settings import load_settings
from tests.conftest import blobs


def encoded(seed: int, kind: str = "PNG", **options) -> bytes:
    body = io.BytesIO()
    blobs(seed).save(body, kind, **options)
    return body.getvalue()


@pytest.fixture
def here(library):
    embedding = {"model": str(library.model), "pooling": "cls", "device": "cpu", "decoders": 1}
    place = library.folder.parent
    return load_settings(
        embedding=embedding,
        catalog={"uri": str(place / "catalog")},
        delivery={"folder": place / "reports"},
        source={"uri": str(library.folder)},
    )


@pytest.fixture
def analyses(here):
    def make(*files: bytes):
        with Analyzer(here) as analyzer:
            return analyzer.analyze(files)

    return make


def rows_of(settings, *columns: str):
    return open_catalog(settings).read("assets", ["key", *columns])


def versions_of(settings) -> dict[str, int]:
    catalog = open_catalog(settings)
    return {name: catalog.version(name) for name in catalog._list()}


@pytest.mark.long
def test_the_next_scan_reads_nothing_again_and_finds_what_a_scan_of_its_own_finds(
    library, here, analyses
):
    library.add("a.png", 1)
    library.write("b.jpg", encoded(1, "JPEG", quality=60))
    library.add("c.png", 3)
    library.write("a.xmp", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    names = ["a.png", "b.jpg", "c.png"]
    found = analyses(*((library.folder / name).read_bytes() for name in names))
    for name, analysis in zip(names, found, strict=True):
        update_asset(here, analysis, name)
    columns = [
        "source",
        "prefix",
        "name",
        "extension",
        "etag",
        "size",
        "last_modified",
        "format",
        "sidecars",
        "revision",
        "read_revision",
        "reader",
        "content",
        "sha256",
        "phash",
        "width",
        "quality",
        "flags",
        "exif",
        "skipped",
        "failed",
    ]
    before = rows_of(here, *columns)
    outcome = library.scan(Kind.FULL)
    assert outcome.summary.counts["read"] == 0
    assert outcome.summary.counts["added"] == 1, "the sidecar alone"
    images = rows_of(here, *columns).filter(rows_of(here)["key"] != "a.xmp")
    assert images.equals(before)
    own = library.scan(Kind.FULL, catalog="other")
    assert own.summary.counts["read"] == 3
    assert own.summary.pairs.equals(outcome.summary.pairs)
    assert outcome.summary.groups.height == 1


def test_the_same_update_again_writes_nothing(library, here, analyses):
    library.add("a.png", 1)
    (analysis,) = analyses((library.folder / "a.png").read_bytes())
    first = update_asset(here, analysis, "a.png")
    mine = {"source": "gate://shop", "tags": {"label": "shoes"}, "metadata": {"Agency": "north"}}
    other = update_asset(here, analysis, "1", **mine)
    before = versions_of(here)
    assert update_asset(here, analysis, "a.png") == first
    assert update_asset(here, analysis, "1", **mine) == other
    assert versions_of(here) == before
    update_asset(here, analysis, "1", **mine | {"tags": {"label": "boots"}})
    assert rows_of(here, "label").filter(key="1")["label"].to_list() == ["boots"]
    assert open_catalog(here).duplicate_keys() == {}


def test_an_object_that_is_not_what_was_analysed_is_refused(library, here, analyses):
    library.add("a.png", 1)
    data = (library.folder / "a.png").read_bytes()
    other = bytearray(data)
    other[-1] ^= 1
    (analysis,) = analyses(data)
    etag = open_source(str(library.folder), here).probe("a.png").etag
    with pytest.raises(AssetGoneError):
        update_asset(here, analysis, "b.png")
    with pytest.raises(AssetChangedError):
        update_asset(here, analysis, "a.png", etag="something else")
    wrong = replace(analysis, picture=replace(analysis.picture, sha256="0" * 64))
    with pytest.raises(AssetChangedError):
        update_asset(here, wrong, "a.png")
    library.write("note.png", b"no picture, " + bytes(analysis.size - 12))
    with pytest.raises(SourceError, match="no image"):
        update_asset(here, analysis, "note.png")
    with pytest.raises(SourceError):
        update_asset(here, analysis, "../outside.png")
    assert rows_of(here).is_empty()
    update_asset(here, analysis, "a.png", etag=f'"{etag}"')
    assert rows_of(here)["key"].to_list() == ["a.png"]


def test_nobody_tells_what_an_object_shows(library, here, analyses):
    """An analysis that is forged, or truly made of other bytes, never becomes an object's."""
    library.add("victim.png", 1, width=320)
    library.add("decoy.png", 2)
    data = (library.folder / "victim.png").read_bytes()
    decoy = (library.folder / "decoy.png").read_bytes()
    truth, other = analyses(data, decoy)
    forged = replace(
        other, picture=replace(other.picture, sha256=truth.picture.sha256), size=len(data)
    )
    update_asset(here, forged, "victim.png")
    row = rows_of(here, "sha256", "content", "phash", "width").row(0, named=True)
    assert (row["sha256"], row["content"]) == (truth.picture.sha256, truth.picture.content)
    assert row["width"] == 320
    vectors = open_catalog(here).known_contents(truth.space.id).to_list()
    assert vectors == [truth.picture.content], "the decoy's vector is nowhere"
    # Other bytes of the same size, and the object's own ETag: what a sealed document can be.
    (padded,) = analyses(decoy + bytes(len(data) - len(decoy)))
    assert padded.size == truth.size
    etag = open_source(str(library.folder), here).probe("victim.png").etag
    with pytest.raises(AssetChangedError):
        update_asset(here, padded, "victim.png", etag=etag)
    assert rows_of(here, "content")["content"].to_list() == [truth.picture.content]


@pytest.mark.parametrize("key", ["", "a" * 1025, "a\x00b", "\ud800"])
def test_keys_that_no_store_has_are_refused(here, analyses, key):
    (analysis,) = analyses(encoded(1))
    with pytest.raises(SettingsError):
        update_asset(here, analysis, key, source="gate://shop")


@pytest.mark.parametrize(
    "source", ["gate://", "gate://a/b", "gate://a b", "gate://" + "a" * 65, "gate://..%2f", "x://y"]
)
def test_collections_have_simple_names(here, analyses, source):
    (analysis,) = analyses(encoded(1))
    with pytest.raises(SettingsError):
        update_asset(here, analysis, "1", source=source)


@pytest.mark.long
def test_a_collection_is_scanned_filtered_and_reported_like_any_source(here, analyses):
    files = [encoded(1), encoded(1, "JPEG", quality=60), encoded(2), encoded(3)]
    for number, analysis in enumerate(analyses(*files)):
        update_asset(
            here,
            analysis,
            f"id/{number}",
            source="gate://shop",
            name=f"Shoe {number}.JPG",
            tags={"label": "shoes" if number < 3 else "hats"},
            metadata={"Agency": "north"},
        )
    request = {"kind": Kind.FULL, "source": "gate://shop"}
    outcome = run_scan(ScanRequest(**request), here)
    summary = outcome.summary
    assert summary.counts["read"] == summary.counts["added"] == summary.counts["removed"] == 0
    assert (summary.coverage.seen, summary.coverage.scanned) == (4, 4)
    assert summary.pairs.select("left", "right").rows() == [("id/0", "id/1")]
    assert {receipt.name for receipt in outcome.receipts} >= {"report.html"}
    chosen = "label = 'shoes' and metadata.agency = 'north' and extension = 'jpg'"
    again = run_scan(ScanRequest(**request, where=chosen, refresh_metadata=True), here).summary
    assert (again.coverage.scanned, again.groups.height) == (3, 1)
    checked = Checker(here).check_asset("id/1", CheckQuestion(source="gate://shop"))
    assert [one.key for one in checked.found] == ["id/0"]
    facts = checked.found[0].facts
    assert (facts["name"], facts["tags"]["label"]) == ("Shoe 0.JPG", "shoes")


def test_removed_assets_are_found_no_more_and_may_come_back(here, analyses):
    one, two = analyses(encoded(1), encoded(1, "BMP"))
    for key, analysis in (("1", one), ("2", two), ("3", two)):
        update_asset(here, analysis, key, source="gate://shop")
    update_asset(here, one, "1", source="gate://other")
    checker, question = Checker(here), CheckQuestion(source="gate://shop")
    assert checker.check(one, question).total == 3
    assert remove_assets(here, "gate://shop", ["2", "nobody"]) == 1
    assert [found.key for found in checker.check(one, question).found] == ["1", "3"]
    assert remove_assets(here, "gate://shop", []) == 0
    assert remove_assets(here, "gate://shop", None) == 2
    assert checker.check(one, question).total == 0
    assert checker.check(one, CheckQuestion(source="gate://other")).total == 1
    update_asset(here, two, "2", source="gate://shop")
    assert [found.key for found in checker.check(one, question).found] == ["2"]
    for source in ("s3://bucket", str(here.source.uri), "gate:/x", ""):
        with pytest.raises(SettingsError):
            remove_assets(here, source, None)


def test_a_collection_analysed_in_another_space_is_told_and_not_lost(
    library, here, analyses, make_model
):
    (analysis,) = analyses(encoded(1))
    update_asset(here, analysis, "1", source="gate://shop")
    before = rows_of(here, "content", "sha256", "read_revision")
    other = here.model_copy(
        update={"embedding": here.embedding.model_copy(update={"model": str(make_model(7))})}
    )
    with pytest.raises(ModelError, match="send them again"):
        run_scan(ScanRequest(source="gate://shop"), other)
    assert rows_of(here, "content", "sha256", "read_revision").equals(before)


def test_an_object_of_a_bucket(library, here, analyses, s3):
    bucket = s3.bucket()
    settings = here.model_copy(
        update={
            "s3": s3.settings,
            "source": here.source.model_copy(update={"uri": f"s3://{bucket}/in"}),
        }
    )
    data = encoded(1)
    put = s3.client.put_object(
        Bucket=bucket,
        Key="in/a.png",
        Body=data,
        Tagging="label=shoes",
        Metadata={"agency": "north"},
    )
    (analysis,) = analyses(data)
    update_asset(settings, analysis, "in/a.png", etag=put["ETag"])
    update_asset(settings, analysis, "in/a.png")
    with pytest.raises(SettingsError, match="not below"):
        update_asset(settings, analysis, "out/a.png")
    row = rows_of(settings, "label", "source", "etag", "metadata").row(0, named=True)
    assert (row["label"], row["source"], row["etag"]) == ("shoes", f"s3://{bucket}", put["ETag"])
    summary = run_scan(ScanRequest(), settings).summary
    assert (summary.counts["read"], summary.coverage.scanned) == (0, 1)


def test_the_default_sources_prefix_counts_in_a_check(library, here, analyses, s3):
    bucket, data, copy = s3.bucket(), encoded(1), encoded(1, "JPEG", quality=60)
    whole = here.model_copy(
        update={
            "s3": s3.settings,
            "source": here.source.model_copy(update={"uri": f"s3://{bucket}"}),
        }
    )
    for key, body in (("in/a.png", data), ("in/b.jpg", copy), ("out/c.jpg", copy)):
        s3.client.put_object(Bucket=bucket, Key=key, Body=body)
    run_scan(ScanRequest(), whole)
    inside = whole.model_copy(
        update={"source": here.source.model_copy(update={"uri": f"s3://{bucket}/in"})}
    )
    for settings, found in ((inside, ["in/b.jpg"]), (whole, ["in/b.jpg", "out/c.jpg"])):
        checked = Checker(settings).check_asset("in/a.png", CheckQuestion())
        assert [one.key for one in checked.found] == found

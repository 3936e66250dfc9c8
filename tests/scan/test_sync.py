from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.catalog import schema
from tasks.errors import AssetGoneError, SourceError, TransientSourceError
from tasks.queries.objects import look_at
from tasks.records import Probe
from tasks.reporting.summarize import measure_coverage
from tasks.requests import ScanRequest
from tasks.scan.begin import begin_scan
from tasks.scan.sync import SyncCounts, diff, sync_assets
from tasks.session import open_catalog, open_source, pa_table, scope_sql
from tasks.settings import load_settings
from tasks.sources.s3 import S3Source
from tasks.summary import Coverage

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
 <rdf:RDF><rdf:Description xmp:{name}="{value}"/></rdf:RDF></x:xmpmeta>"""


def picture(kind: str = "JPEG", colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, kind)
    return file.getvalue()


def xmp(name: str, value: str) -> bytes:
    return XMP.format(name=name, value=value).encode()


class Dam:
    """A bucket and what a catalog knows of it."""

    def __init__(self, s3: Any, place: Path) -> None:
        self.client = s3.client
        self.bucket = s3.bucket()
        self._s3 = s3.settings
        self._catalog = {"uri": str(place / "catalog")}
        self.set()

    def set(self, **parts: Any) -> None:
        chosen = load_settings(**{"catalog": self._catalog, **parts})
        self.settings = chosen.model_copy(update={"s3": self._s3})

    def put(self, *keys: str, body: bytes | None = None, **options: Any) -> None:
        body = picture() if body is None else body
        for key in keys:
            self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **options)

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def sync(self, prefix: str = "", **request: Any) -> SyncCounts:
        request = {"source": f"s3://{self.bucket}/{prefix}", **request}
        self.scan = begin_scan(ScanRequest(**request), self.settings)
        return sync_assets(self.scan)

    def known(self, *columns: str, live: bool = True) -> dict[str, Any]:
        """Key to the value (or values) of the columns."""
        where = "removed_at IS NULL" if live else ""
        frame = open_catalog(self.settings).read("assets", ["key", *columns], where)
        return {key: rest[0] if len(rest) == 1 else rest for key, *rest in frame.iter_rows()}

    def coverage(self, seen: int) -> Coverage:
        return measure_coverage(open_catalog(self.settings), self.scan, seen)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Away from the settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DAM_DEDUP_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def dam(s3: Any, tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch) -> Dam:
    for module in ("sources.s3", "session"):  # a client is slower to make than any of this
        monkeypatch.setattr(f"tasks.{module}.client_for", lambda _: s3.client)
    return Dam(s3, tmp_path)


def counts(found: SyncCounts) -> tuple[int, ...]:
    return (found.seen, found.added, found.changed, found.removed, found.unchanged)


def test_added_changed_removed_and_back_again(dam: Dam) -> None:
    dam.put("a.jpg", "b.jpg", "c.jpg")
    assert counts(dam.sync()) == (3, 3, 0, 0, 0)
    assert counts(dam.sync()) == (3, 0, 0, 0, 3)
    before = dam.known("revision", "etag")

    dam.put("b.jpg", body=picture(colour="blue"))
    dam.remove("c.jpg")
    dam.put("d.jpg")
    assert counts(dam.sync()) == (3, 1, 1, 1, 1)
    after = dam.known("revision", "etag")
    assert set(after) == {"a.jpg", "b.jpg", "d.jpg"}
    assert after["a.jpg"] == before["a.jpg"]
    assert after["b.jpg"][0] != before["b.jpg"][0]
    assert dam.known("etag", live=False)["c.jpg"] == before["c.jpg"][1]  # nothing is forgotten

    dam.put("c.jpg")
    assert counts(dam.sync()) == (4, 1, 0, 0, 3)
    assert dam.known("revision", "etag")["c.jpg"] == before["c.jpg"]
    assert counts(dam.sync()) == (4, 0, 0, 0, 4)


def test_what_was_read_outlives_a_sync(dam: Dam) -> None:
    dam.put("a.jpg")
    dam.sync()
    write_content(dam, "a.jpg")
    dam.sync(refresh_metadata=True)
    dam.remove("a.jpg")
    dam.sync()
    dam.put("a.jpg")
    dam.sync()
    assert dam.known("content") == {"a.jpg": "c0ffee"}


def write_content(dam: Dam, key: str) -> None:
    catalog = open_catalog(dam.settings)
    rows = [{"asset_id": dam.known("asset_id")[key], "content": "c0ffee"}]
    with catalog.writing():
        catalog.upsert("assets", pa_table(rows, schema.READING))


def test_the_same_bytes_written_again_keep_their_revision(dam: Dam) -> None:
    dam.put("a.jpg", Tagging="label=old")
    dam.sync()
    before = dam.known("revision", "last_modified")["a.jpg"]
    time.sleep(1.1)  # a listing's times are whole seconds
    dam.put("a.jpg", Tagging="label=new")
    assert counts(dam.sync()) == (1, 0, 1, 0, 0)
    after = dam.known("revision", "last_modified", "label")["a.jpg"]
    assert after[0] == before[0]  # so its pixels are not read again
    assert after[1] > before[1]
    assert after[2] == "new"


def test_formats_are_told_by_content(dam: Dam) -> None:
    dam.put("png.jpg", body=picture("PNG"))
    dam.put("webp", body=picture("WEBP"))
    dam.put("sub/dir/TIFF.JPEG", body=picture("TIFF"))
    dam.sync()
    assert dam.known("format", "extension", "prefix", "name", "skipped") == {
        "png.jpg": ["png", "jpg", "", "png.jpg", None],
        "sub/dir/TIFF.JPEG": ["tiff", "jpeg", "sub/dir/", "TIFF.JPEG", None],
        "webp": ["webp", "", "", "webp", None],
    }


def test_what_is_no_image_is_skipped_with_a_reason(dam: Dam) -> None:
    dam.put("empty.jpg", "folder/", body=b"")
    dam.put("text.jpg", body=b"no picture")
    dam.put("brochure.jpg", body=b"%PDF-1.7 ")
    dam.put("logo.svg", body=b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')
    dam.put("a.xmp", body=xmp("Rating", "5"))
    dam.put("ok.jpg")
    seen = dam.sync().seen
    reasons = {
        "a.xmp": "sidecar",
        "brochure.jpg": "format_pdf",
        "empty.jpg": "zero_bytes",
        "folder/": "folder",
        "logo.svg": "format_svg",
        "text.jpg": "not_an_image",
    }
    assert dam.known("skipped") == {**reasons, "ok.jpg": None}
    coverage = dam.coverage(seen)
    assert coverage.skipped == dict.fromkeys(sorted(reasons.values()), 1)
    assert coverage.failed == {"not_read": 1}
    assert coverage.adds_up
    listed = coverage.outcomes.select("key", "reason").sort("key").rows()
    assert listed == sorted({**reasons, "ok.jpg": "not_read"}.items())


def test_coverage_adds_up_with_a_filter(dam: Dam) -> None:
    dam.put("a.jpg", "b.jpg", Tagging="label=in")
    dam.put("c.jpg", Tagging="label=out")
    dam.put("d.jpg")  # no label: neither in nor out for SQL, but filtered all the same
    dam.put("text.jpg", body=b"no picture", Tagging="label=in")
    dam.put("gone.jpg")
    dam.sync()
    dam.remove("gone.jpg")
    seen = dam.sync(where="label = 'in' OR label = 'x'").seen
    write_content(dam, "a.jpg")
    coverage = dam.coverage(seen)
    assert (coverage.seen, coverage.scanned) == (5, 1)
    assert coverage.skipped == {"filtered": 2, "not_an_image": 1}
    assert coverage.failed == {"not_read": 1}
    assert coverage.adds_up
    filtered = coverage.outcomes.filter(pl.col("reason") == "filtered")["key"]
    assert sorted(filtered) == ["c.jpg", "d.jpg"]
    assert not dam.coverage(seen + 1).adds_up


def test_sidecars_come_change_and_go(dam: Dam) -> None:
    dam.put("s/a.jpg", "s/a.png", "s/b.jpg", "ab.jpg")
    dam.put("s/a.xmp", body=xmp("Rating", "5"))
    dam.put("s/b.jpg.XMP", body=xmp("Label", "keep"))
    assert counts(dam.sync()) == (6, 6, 0, 0, 0)

    def attached() -> dict[str, Any]:
        found = dam.known("sidecars", "sidecar_xmp")
        return {k: (v[0], json.loads(v[1])) for k, v in found.items() if "xmp" not in k.lower()}

    assert attached() == {
        "ab.jpg": ([], {}),
        "s/a.jpg": (["s/a.xmp"], {"rating": "5"}),
        "s/a.png": (["s/a.xmp"], {"rating": "5"}),
        "s/b.jpg": (["s/b.jpg.XMP"], {"label": "keep"}),
    }
    revision = dam.known("revision")["s/a.jpg"]

    dam.put("s/a.jpg.xmp", body=xmp("Label", "later"))
    assert counts(dam.sync()) == (7, 1, 1, 0, 5)
    assert attached()["s/a.jpg"] == (["s/a.jpg.xmp", "s/a.xmp"], {"label": "later", "rating": "5"})
    assert attached()["s/a.png"] == (["s/a.xmp"], {"rating": "5"})

    dam.put("s/a.xmp", body=xmp("Rating", "1 of 5"))
    assert dam.sync().changed == 3
    assert attached()["s/a.png"] == (["s/a.xmp"], {"rating": "1 of 5"})

    dam.remove("s/a.xmp", "s/a.jpg.xmp", "s/b.jpg.XMP")
    assert counts(dam.sync()) == (4, 0, 3, 3, 1)
    assert attached() == dict.fromkeys(["ab.jpg", "s/a.jpg", "s/a.png", "s/b.jpg"], ([], {}))
    assert dam.known("revision")["s/a.jpg"] == revision


def test_a_pattern_of_pictures_does_not_leave_out_their_sidecars(dam: Dam) -> None:
    """It did: what they say was never read, and a merge of the picture was refused for ever."""
    dam.set(source={"include": ["*.jpg"]})
    dam.put("a.jpg", "b.jpg", "c.png")
    for key in ("a.xmp", "b.jpg.XMP", "c.xmp"):
        dam.put(key, body=xmp("Rating", "5"))
    assert dam.sync().seen == 4
    found = dam.known("sidecars")
    assert found["a.jpg"] == ["a.xmp"]
    assert found["b.jpg"] == ["b.jpg.XMP"]


def test_a_broken_sidecar_does_not_lose_the_asset(
    dam: Dam, caplog: pytest.LogCaptureFixture
) -> None:
    dam.put("a.jpg")
    dam.put("a.xmp", body=b"<not xml")
    dam.sync()
    assert dam.known("sidecars", "sidecar_xmp", "skipped")["a.jpg"] == [["a.xmp"], "{}", None]
    assert "sidecars that could not be read: 1" in caplog.text


def test_labels_come_from_tags_then_from_metadata(dam: Dam) -> None:
    dam.set(source={"label_keys": ["label", "category"]})
    dam.put("both.jpg", Tagging="label=tag&category=no", Metadata={"label": "metadata"})
    dam.put("second.jpg", Tagging="category=second", Metadata={"label": "metadata"})
    dam.put("metadata.jpg", Tagging="other=x", Metadata={"Category": "third"})
    dam.put("none.jpg")
    dam.sync()
    labels = {"both.jpg": "tag", "metadata.jpg": "third", "none.jpg": None, "second.jpg": "second"}
    assert dam.known("label") == labels
    tags = {key: json.loads(text) for key, text in dam.known("tags").items()}
    assert tags["both.jpg"] == {"label": "tag", "category": "no"}
    assert tags["none.jpg"] == {}


def test_a_changed_tag_is_seen_when_asked_for(dam: Dam) -> None:
    dam.put("a.jpg", Tagging="label=old")
    dam.sync()
    new = {"TagSet": [{"Key": "label", "Value": "new"}]}
    dam.client.put_object_tagging(Bucket=dam.bucket, Key="a.jpg", Tagging=new)
    assert counts(dam.sync()) == (1, 0, 0, 0, 1)  # a listing does not show it
    assert dam.known("label") == {"a.jpg": "old"}
    assert counts(dam.sync(refresh_metadata=True)) == (1, 0, 1, 0, 0)
    assert dam.known("label") == {"a.jpg": "new"}


def test_tags_that_may_not_be_read_are_not_taken_for_none(dam: Dam) -> None:
    dam.set(source={"label_keys": ["label"]})
    dam.put("embargoed.jpg", Tagging="embargo=yes")
    dam.put("free.jpg")
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:GetObjectTagging"],
        "Resource": [f"arn:aws:s3:::{dam.bucket}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    dam.client.put_bucket_policy(Bucket=dam.bucket, Policy=policy)

    def chosen(**request: Any) -> tuple[list[str], dict[str, int]]:
        seen = dam.sync(**request).seen
        catalog = open_catalog(dam.settings)
        inside = scope_sql(dam.scan, open_source(dam.scan.source, dam.settings))
        keys = catalog.read("assets", ["key"], inside)["key"].sort().to_list()
        return keys, dam.coverage(seen).skipped

    for fq in ("-tags.embargo:yes", "-label:x", "label:x OR -tags.embargo:yes"):
        assert chosen(fq=[fq]) == ([], {"tags_unread": 2}), fq
    assert chosen(where="tags.embargo IS NULL") == ([], {"tags_unread": 2})
    assert chosen()[0] == ["embargoed.jpg", "free.jpg"]  # no filter asks for them
    assert counts(dam.sync()) == (2, 0, 0, 0, 2)

    dam.client.delete_bucket_policy(Bucket=dam.bucket)
    assert chosen(fq=["-tags.embargo:yes"]) == (["free.jpg"], {"filtered": 1})
    assert counts(dam.sync()) == (2, 0, 0, 0, 2)


def test_what_is_archived_is_read_once_it_is_restored(
    dam: Dam, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = {"a.jpg", "b.jpg"}
    classes = dict.fromkeys(["a.jpg", "b.jpg"], "GLACIER") | {"c.jpg": "STANDARD"}
    restored: set[str] = set()
    list_pages, probe = S3Source.list_pages, S3Source.probe

    def listed(self: S3Source) -> Any:
        for page in list_pages(self):
            yield [
                replace(one, storage_class=classes[one.key], restored=one.key in restored)
                for one in page
            ]

    def probed(self: S3Source, key: str) -> Probe:
        found = probe(self, key)
        return replace(found, head=b"") if key in archived else found

    monkeypatch.setattr(S3Source, "list_pages", listed)
    monkeypatch.setattr(S3Source, "probe", probed)
    dam.put(*classes)
    dam.sync()
    shut = {"a.jpg": "archived", "b.jpg": "archived", "c.jpg": None}
    assert dam.known("skipped") == shut
    assert counts(dam.sync()) == (3, 0, 0, 0, 3)

    restored.add("a.jpg")  # for some days
    classes["b.jpg"] = "STANDARD_IA"  # copied out of the archive by its owner: for good
    classes["c.jpg"] = "DEEP_ARCHIVE"  # by a lifecycle rule: nothing but its class is another
    archived.clear()
    assert counts(dam.sync()) == (3, 0, 2, 0, 1)
    assert dam.known("skipped") == dict.fromkeys(shut)
    assert dam.known("storage_class") == classes
    assert counts(dam.sync()) == (3, 0, 0, 0, 3)


def test_an_event_sets_the_storage_class(dam: Dam) -> None:
    dam.put("a.jpg")
    source = S3Source(f"s3://{dam.bucket}", dam.settings.s3, dam.client)
    assert look_at(source, "a.jpg", dam.settings)["storage_class"] == "STANDARD"


def test_include_and_exclude(dam: Dam) -> None:
    dam.put("a/1.jpg", "a/2.JPG", "a/thumbs/3.jpg", "b/4.jpg")
    dam.sync()
    dam.set(source={"include": ["a/*.jpg"], "exclude": ["*/thumbs/*"]})
    found = dam.sync()
    assert counts(found) == (1, 0, 0, 3, 1)
    assert set(dam.known()) == {"a/1.jpg"}
    assert dam.coverage(found.seen).adds_up


def test_one_prefix_does_not_bury_another(dam: Dam) -> None:
    dam.put("a/1.jpg", "b/1.jpg", "b/2.jpg")
    assert counts(dam.sync("a/")) == (1, 1, 0, 0, 0)
    assert counts(dam.sync("b/")) == (2, 2, 0, 0, 0)
    dam.remove("b/2.jpg")
    found = dam.sync("b/")
    assert counts(found) == (1, 0, 0, 1, 1)
    assert dam.coverage(found.seen).adds_up
    assert set(dam.known()) == {"a/1.jpg", "b/1.jpg"}
    assert counts(dam.sync()) == (2, 0, 0, 0, 2)  # the whole bucket knows them both


def test_one_bucket_does_not_bury_another(dam: Dam, s3: Any) -> None:
    dam.put("a.jpg")
    dam.sync()
    dam.bucket = s3.bucket()
    assert counts(dam.sync()) == (0, 0, 0, 0, 0)
    assert set(dam.known()) == {"a.jpg"}


def test_our_own_reports_and_catalog_are_no_assets(dam: Dam) -> None:
    dam.set(
        catalog={"uri": f"s3://{dam.bucket}/our/catalog"},
        delivery={"bucket": f"s3://{dam.bucket}/reports/"},
    )
    dam.put("reports/a.jpg", "reports-of-others/a.jpg", "our/a.jpg")
    assert counts(dam.sync()) == (2, 2, 0, 0, 0)
    assert counts(dam.sync()) == (2, 0, 0, 0, 2)
    assert set(dam.known()) == {"our/a.jpg", "reports-of-others/a.jpg"}


def test_our_own_folders_are_no_assets(tmp_path: Path, alone: None) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    chosen = load_settings(catalog={"uri": "var/catalog"}, delivery={"folder": "var/reports"})
    (tmp_path / "var" / "reports").mkdir(parents=True)
    (tmp_path / "var" / "reports" / "b.jpg").write_bytes(picture())
    scan = begin_scan(ScanRequest(source="."), chosen)
    assert counts(sync_assets(scan)) == (1, 1, 0, 0, 0)


def folder_of(tmp_path: Path) -> tuple[Path, Callable[[], dict[str, Any]]]:
    """A folder, and what a sync of it leaves in the catalog: key to why it is skipped."""
    folder = tmp_path / "photos"
    folder.mkdir()
    chosen = load_settings(catalog={"uri": str(tmp_path / "catalog")})

    def sync() -> dict[str, Any]:
        sync_assets(begin_scan(ScanRequest(source=str(folder)), chosen))
        rows = open_catalog(chosen).read("assets", ["key", "skipped"], "removed_at IS NULL")
        return dict(rows.sort("key").iter_rows())

    return folder, sync


def test_links_to_one_file_are_no_duplicates(tmp_path: Path, alone: None) -> None:
    folder, sync = folder_of(tmp_path)
    (folder / "m.jpg").write_bytes(picture())
    (folder / "hard.jpg").hardlink_to(folder / "m.jpg")
    (folder / "a-soft.jpg").symlink_to("m.jpg")
    (folder / "copy.jpg").write_bytes(picture())
    links = {"a-soft.jpg": "link", "copy.jpg": None, "hard.jpg": None, "m.jpg": "link"}
    assert sync() == sync() == links
    (folder / "hard.jpg").unlink()
    assert sync() == {"a-soft.jpg": "link", "copy.jpg": None, "m.jpg": None}


def test_assets_of_a_folder_that_cannot_be_entered_are_not_gone(
    tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sync = folder_of(tmp_path)
    (folder / "closed").mkdir()
    (folder / "closed" / "a.jpg").write_bytes(picture())
    (folder / "b.jpg").write_bytes(picture())
    both = {"b.jpg": None, "closed/a.jpg": None}
    assert sync() == both
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", guarded)
        assert sync() == both
    (folder / "closed" / "a.jpg").unlink()
    assert sync() == {"b.jpg": None}


def test_a_listing_that_lost_most_is_not_believed(tmp_path: Path, alone: None) -> None:
    folder = tmp_path / "dam"
    folder.mkdir()
    for n in range(150):
        (folder / f"{n}.txt").write_text("x")

    def sync(**source: Any) -> SyncCounts:
        chosen = load_settings(source=source)
        return sync_assets(begin_scan(ScanRequest(source=str(folder)), chosen))

    def live() -> int:
        return open_catalog(load_settings()).count("assets", "removed_at IS NULL")

    sync()
    for n in range(120):
        (folder / f"{n}.txt").unlink()
    (folder / "new.txt").write_text("x")
    with pytest.raises(SourceError, match=r"31 objects .* 150; nothing .*MINIMUM_LISTING=0"):
        sync()
    assert (live(), open_catalog(load_settings()).count("assets")) == (150, 150)
    assert counts(sync(minimum_listing=0)) == (31, 1, 0, 120, 30)
    assert live() == 31


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    """Has something happen between the listing and the probe of an object."""

    def arrange(happen: Callable[[str], None]) -> None:
        def meddled(source: S3Source, key: str) -> Probe:
            happen(key)
            return probe(source, key)

        monkeypatch.setattr(S3Source, "probe", meddled)

    probe = S3Source.probe
    return arrange


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssetGoneError, "gone"),
        (TransientSourceError, "storage_error"),
        (SourceError, "unreadable"),
    ],
)
def test_what_cannot_be_probed_is_skipped_and_looked_at_again(
    dam: Dam, meddle: Any, error: type[Exception], reason: str
) -> None:
    def fail(key: str) -> None:
        if key == "a.jpg":
            raise error("on purpose")

    dam.put("a.jpg", "b.jpg")
    meddle(fail)
    found = dam.sync()
    assert dam.known("skipped") == {"a.jpg": reason, "b.jpg": None}
    coverage = dam.coverage(found.seen)
    assert (coverage.skipped | coverage.failed)[reason] == 1
    assert (reason in coverage.failed) == (reason != "gone"), "a refusal is no skip"
    meddle(str)
    assert counts(dam.sync()) == (2, 0, 1, 0, 1)
    assert dam.known("skipped") == {"a.jpg": None, "b.jpg": None}
    assert dam.sync().unchanged == 2


def test_what_is_replaced_after_the_listing_is_known_as_it_is(dam: Dam, meddle: Any) -> None:
    new = picture("PNG", "blue")
    dam.put("a.jpg")
    meddle(lambda key: dam.put(key, body=new))
    dam.sync()
    meddle(str)
    etag = dam.client.head_object(Bucket=dam.bucket, Key="a.jpg")["ETag"]
    assert dam.known("format", "etag", "size")["a.jpg"] == ["png", etag, len(new)]
    revision = dam.known("revision")
    dam.sync()
    assert dam.known("revision") == revision


# ---- diff ------------------------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)
facts = st.fixed_dictionaries(
    {
        "etag": st.sampled_from(["", "e1", "e2"]),
        "size": st.integers(0, 2),
        "last_modified": st.integers(0, 2).map(lambda days: START + timedelta(days)),
    }
)
ids = st.sampled_from("abcdefgh")
known_facts = st.tuples(facts, st.booleans())
LISTED = {
    "asset_id": pl.String,
    "key": pl.String,
    "etag": pl.String,
    "size": pl.Int64,
    "last_modified": pl.Datetime("us", "UTC"),
    "storage_class": pl.String,
}
KNOWN = {**LISTED, "removed_at": pl.Datetime("us", "UTC")}


def rows(frame: pl.DataFrame) -> dict[str, Any]:
    return {row["asset_id"]: row for row in frame.iter_rows(named=True)}


@settings(max_examples=100, deadline=None)
@given(
    now=st.dictionaries(ids, facts),
    before=st.dictionaries(ids, known_facts),
    everything=st.booleans(),
)
def test_diff_is_what_differs_and_nothing_else(
    now: dict[str, Any], before: dict[str, Any], everything: bool
) -> None:
    listed = pl.DataFrame(
        [{"asset_id": name, "key": name, **row} for name, row in now.items()], schema=LISTED
    )
    known = pl.DataFrame(
        [
            {"asset_id": name, "key": name, **row, "removed_at": START if removed else None}
            for name, (row, removed) in before.items()
        ],
        schema=KNOWN,
    )
    added, changed, removed = (rows(part) for part in diff(listed, known, everything=everything))

    live = {name: row for name, (row, removed) in before.items() if not removed}
    both = set(now) & set(live)
    assert set(added) == set(now) - set(live)
    assert set(changed) == {name for name in both if everything or now[name] != live[name]}
    assert set(removed) == set(live) - set(now)

    applied = rows(known)
    for name, row in {**added, **changed}.items():
        applied[name] = {**row, "removed_at": None}
    for name in removed:
        applied[name]["removed_at"] = START
    again = diff(listed, pl.DataFrame(list(applied.values()), schema=KNOWN))
    assert [part.height for part in again] == [0, 0, 0]


def test_a_source_that_lets_nothing_be_read_changes_nothing(dam: Dam, meddle: Any) -> None:
    names = [f"{number}.jpg" for number in range(25)]
    dam.put(*names)

    def refuse(key: str) -> None:
        raise SourceError("AccessDenied")

    meddle(refuse)
    with pytest.raises(SourceError, match="none of them be read"):
        dam.sync()
    assert dam.known("skipped") == {}
    meddle(str)
    assert dam.sync().added == 25

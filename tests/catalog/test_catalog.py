from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import polars as pl
import pyarrow as pa
import pytest

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.delivery.folder import write_documents
from tasks.errors import CatalogBusyError, CatalogError
from tasks.records import Document
from tasks.session import pa_table

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

UPSERT = """
import sys, time
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.session import pa_table

folder, name = sys.argv[1:]
catalog = Catalog(folder)
open(f"{folder}.{name}.ready", "w").close()
sys.stdin.readline()
rows = [{"asset_id": f"{n:03}", "source": name} for n in range(200)]
for _ in range(2):
    with catalog.writing(60):
        catalog.upsert("assets", pa_table(rows, schema.LISTING))
"""
HOLD = """
import sys, time
from tasks.catalog.catalog import Catalog

with Catalog(sys.argv[1]).writing(10):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(str(tmp_path / "catalog"))


def listing(*rows: dict[str, Any]) -> pa.Table:
    return pa_table(list(rows), schema.LISTING)


def upsert(catalog: Catalog, *rows: dict[str, Any], **options: Any) -> int:
    with catalog.writing():
        return catalog.upsert("assets", listing(*rows), **options)


def assets(catalog: Catalog, *columns: str) -> list[tuple[Any, ...]]:
    return catalog.read("assets", ["asset_id", *columns]).rows()


def test_upsert_twice_is_upsert_once(catalog: Catalog) -> None:
    rows = [{"asset_id": str(n), "key": f"k{n}", "last_modified": NOON} for n in range(3)]
    assert upsert(catalog, *rows) == 3
    before = catalog.read("assets", schema.ASSETS.names)
    upsert(catalog, *rows)
    assert catalog.read("assets", schema.ASSETS.names).equals(before)
    assert before["last_modified"].to_list() == [NOON] * 3


def test_a_table_of_some_columns_leaves_the_others_alone(catalog: Catalog) -> None:
    upsert(catalog, {"asset_id": "a", "key": "k", "tags": '{"x": "1"}', "sidecars": ["s"]})
    with catalog.writing():
        reading = {"asset_id": "a", "sha256": "f00", "phash": 2**64 - 1, "flags": ["flat"]}
        catalog.upsert("assets", pa_table([reading], schema.READING))
        catalog.upsert(
            "assets", pa_table([{"asset_id": "a", "removed_at": NOON}], schema.TOMBSTONE)
        )
    columns = ["key", "sidecars", "sha256", "phash", "flags", "removed_at"]
    assert assets(catalog, *columns) == [("a", "k", ["s"], "f00", 2**64 - 1, ["flat"], NOON)]


def test_only_new_leaves_existing_rows_alone(catalog: Catalog) -> None:
    upsert(catalog, {"asset_id": "a", "key": "old"})
    upsert(catalog, {"asset_id": "a", "key": "new"}, {"asset_id": "b", "key": "new"}, only_new=True)
    assert assets(catalog, "key") == [("a", "old"), ("b", "new")]


@pytest.mark.parametrize("known", [False, True])
def test_a_key_that_comes_twice_is_written_once_as_it_came_last(
    catalog: Catalog, known: bool
) -> None:
    if known:
        upsert(catalog, {"asset_id": "a", "key": "0"})
    twice = [{"asset_id": key, "key": str(n), "tags": "{}"} for n in (1, 2) for key in ("a", "b")]
    assert upsert(catalog, *twice) == 2
    assert assets(catalog, "key") == [("a", "2"), ("b", "2")]
    assert catalog.count("assets") == 2


def test_writing_needs_the_lease(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="writing"):
        catalog.upsert("assets", listing({"asset_id": "a"}))
    with pytest.raises(CatalogError, match="writing"):
        catalog.delete_keys("assets", ["a"])
    assert catalog.count("assets") == 0


def test_the_lease_may_be_entered_inside_itself(catalog: Catalog) -> None:
    with catalog.writing():
        with catalog.writing(0):
            pass
        catalog.upsert("assets", listing({"asset_id": "a"}))
    assert catalog.count("assets") == 1


def test_a_thread_enters_again_by_another_object_and_other_threads_wait(catalog: Catalog) -> None:
    inside = []

    def other() -> None:
        with pytest.raises(CatalogBusyError), Catalog(catalog.uri).writing(0.1):
            inside.append("in")
        with pytest.raises(CatalogError, match="writing"):
            catalog.upsert("assets", listing({"asset_id": "b"}))  # not this thread's lease

    with catalog.writing():
        with Catalog(catalog.uri).writing(0):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        catalog.upsert("assets", listing({"asset_id": "a"}))
    assert inside == []
    assert catalog.count("assets") == 1


def test_the_lease_is_given_up_after_an_error(catalog: Catalog) -> None:
    with pytest.raises(ZeroDivisionError), catalog.writing():
        raise ZeroDivisionError
    with Catalog(catalog.uri).writing(0):
        pass
    with pytest.raises(CatalogError, match="writing"):
        catalog.upsert("assets", listing({"asset_id": "a"}))


def test_reads_are_sorted_and_complete(catalog: Catalog) -> None:
    keys = [f"{n:04}" for n in range(1500)]
    upsert(catalog, *[{"asset_id": key, "key": key[::-1]} for key in reversed(keys)])
    assert catalog.read("assets", ["asset_id"])["asset_id"].to_list() == keys
    assert catalog.read("assets", ["asset_id"], order=None, where="key < '1'").height == 150
    by_key = catalog.read("assets", ["asset_id", "key"], order="key")["key"]
    assert by_key.to_list() == sorted(key[::-1] for key in keys)
    found = catalog.read_keys("assets", ["asset_id"], [*keys, "no such key", keys[0]])
    assert found["asset_id"].to_list() == keys


def test_a_table_that_was_never_written_reads_as_empty(catalog: Catalog) -> None:
    frame = catalog.read("groups", ["group_id", "score"])
    assert frame.is_empty()
    assert frame.schema == {"group_id": pl.String, "score": pl.Float32}
    assert catalog.read_keys("assets", ["asset_id"], ["a"]).columns == ["asset_id"]
    assert catalog.count("groups") == 0
    assert catalog.known_contents("none").is_empty()


def test_json_columns_are_text_and_are_searched(catalog: Catalog) -> None:
    upsert(catalog, {"asset_id": "a", "tags": '{"agency": "n\\"ö"}'}, {"asset_id": "b"})
    assert assets(catalog, "tags") == [("a", '{"agency":"n\\"ö"}'), ("b", None)]
    assert catalog.count("assets", "json_get_string(tags, 'agency') = 'n\"ö'") == 1


def test_a_wrong_query_names_the_table(catalog: Catalog) -> None:
    upsert(catalog, {"asset_id": "a"})
    with pytest.raises(CatalogError, match="cannot read assets"):
        catalog.read("assets", ["asset_id"], "nosuch = 1")


def test_delete_keys(catalog: Catalog) -> None:
    keys = ["it's", "b", *(str(n) for n in range(1200))]
    upsert(catalog, *[{"asset_id": key} for key in keys])
    with catalog.writing():
        catalog.delete_keys("assets", [key for key in keys if key != "b"])
        catalog.delete_keys("groups", ["never written"])
    assert assets(catalog) == [("b",)]


def test_doubled_keys_are_seen(catalog: Catalog) -> None:
    upsert(catalog, {"asset_id": "a"}, {"asset_id": "b"})
    assert catalog.duplicate_keys() == {}
    lancedb.connect(catalog.uri).open_table("assets").add(
        pa_table([{"asset_id": "a"}, {"asset_id": "a"}], schema.ASSETS)
    )
    assert Catalog(catalog.uri).duplicate_keys() == {"assets": 2}
    assert catalog.duplicate_keys() == {"assets": 2}
    upsert(catalog, {"asset_id": "c"})
    assert catalog.duplicate_keys(written=True) == {"assets": 2}
    assert catalog.duplicate_keys(written=True) == {"assets": 2}, "until it was found whole"


def test_only_written_tables_are_looked_at_for_doubled_keys(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    upsert(catalog, {"asset_id": "a"})
    with catalog.writing():
        catalog.upsert("verdicts", pa_table([{"verdict_id": "b"}], schema.VERDICTS))
    assert catalog.duplicate_keys() == {}
    upsert(catalog, {"asset_id": "b"})
    read, real = [], catalog.read_arrow
    monkeypatch.setattr(
        catalog, "read_arrow", lambda name, *rest: (read.append(name), real(name, *rest))[1]
    )
    assert catalog.duplicate_keys(written=True) == {}
    assert read == ["assets"]
    assert catalog.duplicate_keys(written=True) == {}
    assert read == ["assets"], "looked at once"


def test_a_rebuild_keeps_the_rows_and_makes_the_indexes(catalog: Catalog) -> None:
    for part in range(4):
        upsert(
            catalog,
            *[
                {"asset_id": f"{part}-{n}", "key": str(n), "size": n, "last_modified": NOON}
                for n in range(50)
            ],
        )
    before = catalog.read("assets", schema.ASSETS.names)
    with catalog.writing():
        assert "assets" in catalog.tidy(rebuild=True)
    assert catalog.read("assets", schema.ASSETS.names).equals(before)
    table = lancedb.connect(catalog.uri).open_table("assets")
    indexed = {column for index in table.list_indices() for column in index.columns}
    assert indexed == set(schema.INDEXES["assets"])
    assert "asset_id" not in indexed  # with one, keys could double
    assert table.stats()["fragment_stats"]["num_fragments"] == 1
    upsert(catalog, {"asset_id": "0-0", "key": "0", "size": 7}, {"asset_id": "new", "size": 8})
    assert catalog.count("assets", "size IN (7, 8)") == 2 * 4 + 2  # of each part, and the two


def test_tidy_leaves_tables_of_few_fragments_alone(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        upsert(catalog, {"asset_id": str(n)})
    assert catalog.tidy() == []
    monkeypatch.setattr("tasks.catalog.catalog._FRAGMENTS", 3)
    assert catalog.tidy() == ["assets"]
    assert assets(catalog) == [("0",), ("1",), ("2",), ("3",)]


def test_who_tidies_often_copies_only_what_has_grown(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.catalog.catalog._FRAGMENTS", 1)
    monkeypatch.setattr("tasks.catalog.catalog._VERY_MANY", 4)
    upsert(catalog, *({"asset_id": str(n)} for n in range(20)))
    upsert(catalog, {"asset_id": "x"})
    assert catalog.tidy(only_grown=True) == [], "20 of 21 rows lie together"
    upsert(catalog, *({"asset_id": f"y{n}"} for n in range(6)))
    assert catalog.tidy(only_grown=True) == ["assets"]
    for n in range(4):
        upsert(catalog, {"asset_id": f"z{n}"})
    assert catalog.tidy(only_grown=True) == ["assets"], "very many fragments"
    assert catalog.count("assets") == 31


def test_a_rebuild_does_not_write_large_rows_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 200_000
    for name in ("a", "b"):
        row = {"content": name, "jpeg": os.urandom(size)}
        with catalog.writing():
            catalog.upsert("thumbnails", pa_table([row], schema.THUMBNAILS))
    with catalog.writing():
        assert "thumbnails" not in catalog.tidy(rebuild=True)
    files = Path(catalog.uri, "thumbnails.lance", "data").iterdir()
    assert sum(file.stat().st_size for file in files) < 1.2 * 2 * size
    monkeypatch.setattr("tasks.catalog.catalog._FRAGMENTS", 1)
    with catalog.writing():
        assert "thumbnails" in catalog.tidy(rebuild=True), "where reads would suffer"
    assert catalog.read("thumbnails", ["content"])["content"].to_list() == ["a", "b"]


def test_vectors_have_a_table_of_their_own(catalog: Catalog) -> None:
    name = catalog.vectors_table("s1", 4)
    assert catalog.vectors_table("s1", 4) == name
    rows = pa.table(
        {"content": ["c2", "c1"], "vector": [[0.5] * 4] * 2}, schema=schema.embeddings(4)
    )
    with catalog.writing():
        catalog.upsert(name, rows)
    assert Catalog(catalog.uri).known_contents("s1").to_list() == ["c1", "c2"]


@pytest.mark.parametrize("name", ["images", "about"])
def test_a_foreign_lancedb_folder_is_refused(tmp_path: Path, name: str) -> None:
    db = lancedb.connect(tmp_path)
    db.create_table(name, pa.table({"x": [1]}))
    with pytest.raises(CatalogError, match="not a dam-dedup catalog"):
        Catalog(str(tmp_path))
    assert db.list_tables().tables == [name]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CatalogError, match=r"cannot open the catalog .*file/catalog"):
        Catalog(str(tmp_path / "file" / "catalog"))


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_two_processes_leave_no_doubled_key(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    Catalog(str(folder))
    writers = [start(UPSERT, str(folder), name) for name in ("a", "b")]
    until = time.monotonic() + 60
    while len(list(tmp_path.glob("*.ready"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    for writer in writers:  # both have opened the empty catalog
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    catalog = Catalog(str(folder))
    assert catalog.count("assets") == 200
    assert catalog.duplicate_keys() == {}
    assert catalog.read("assets", ["source"])["source"].n_unique() == 1


def test_a_writer_shuts_others_out_until_it_is_killed(catalog: Catalog) -> None:
    holder = start(HOLD, catalog.uri)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(CatalogBusyError, match="DAM_DEDUP_CATALOG__BUSY_SECONDS"),
            catalog.writing(0.3),
        ):
            pass
    finally:
        holder.kill()  # SIGKILL: it cannot give anything back itself
        holder.communicate()
    assert upsert(catalog, {"asset_id": "a"}) == 1


def test_tables_made_meanwhile_are_seen_by_a_writer(catalog: Catalog) -> None:
    other = Catalog(catalog.uri)
    upsert(other, {"asset_id": "a", "key": "k"})
    with catalog.writing():
        assert assets(catalog, "key") == [("a", "k")]
        catalog.upsert("assets", listing({"asset_id": "b", "key": "k"}))
    assert assets(other, "key") == [("a", "k"), ("b", "k")]


# ---- the past ----------------------------------------------------------------------------------


def test_a_view_of_the_past_stays_as_it_was(catalog):
    upsert(catalog, {"asset_id": "1", "source": "old"})
    versions = catalog.versions(["assets", "calibrations"])
    assert versions["calibrations"] == 0, "no such table yet"
    upsert(catalog, {"asset_id": "1", "source": "new"}, {"asset_id": "2", "source": "new"})
    with catalog.writing():
        catalog.upsert("calibrations", pa_table([{"calibration_id": "c"}], schema.CALIBRATIONS))
        catalog.tidy(rebuild=True)

    view, lost = catalog.at(versions)
    assert lost == []
    assert view.read("assets", ["asset_id", "source"]).rows() == [("1", "old")]
    assert view.read("calibrations", ["calibration_id"]).is_empty()
    assert catalog.count("assets") == 2
    assert catalog.count("calibrations") == 1, "the catalog itself is where it was"
    with pytest.raises(CatalogError, match="outside"):
        view.upsert("assets", listing({"asset_id": "3"}))


def test_a_version_that_is_gone_is_named(catalog):
    upsert(catalog, {"asset_id": "1", "source": "old"})
    view, lost = catalog.at({"assets": 999})
    assert lost == ["assets"]
    assert view.count("assets") == 1


# ---- what a killed process leaves ------------------------------------------------------------


A_PAIR = pa_table([{"pair_id": "p"}], pa.schema([schema.TABLES["pairs"].field("pair_id")]))


def half_made(catalog: Catalog, name: str, inside: str) -> None:
    """A table as a process leaves it that dies, or runs out of disk, before its first version."""
    folder = Path(catalog.uri) / f"{name}.lance"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / inside).mkdir(parents=True)


@pytest.mark.parametrize("inside", ["", "_versions", "_transactions"])
def test_a_table_that_was_not_made_to_its_end_is_made_by_the_next_writer(
    catalog: Catalog, inside: str
) -> None:
    upsert(catalog, {"asset_id": "a"})
    half_made(catalog, "pairs", inside)
    half_made(catalog, "vectors_x", inside)
    again = Catalog(catalog.uri)
    assert again.count("pairs") == 0
    assert again.read("pairs", ["pair_id"]).is_empty()
    assert again.read_keys("pairs", ["pair_id"], ["p"]).is_empty()
    assert again.version("pairs") == 0
    assert again.known_contents("x").is_empty()
    assert list(again.stream("pairs", ["pair_id"], "", 10)) == []
    assert again.duplicate_keys() == {}
    with again.writing():
        again.delete_keys("pairs", ["p"])
        again.delete_where("pairs", "true")
        again.tidy(rebuild=True)
        assert again.upsert("pairs", A_PAIR) == 1
        again.vectors_table("x", 4)
    assert Catalog(catalog.uri).read("pairs", ["pair_id"])["pair_id"].to_list() == ["p"]
    assert Catalog(catalog.uri).count("vectors_x") == 0
    assert again.count("assets") == 1


@pytest.mark.parametrize("inside", ["", "_versions", "_transactions"])
def test_a_catalog_whose_first_moments_were_interrupted_opens(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / "new"
    (folder / "about.lance" / inside).mkdir(parents=True)
    catalog = Catalog(str(folder))
    upsert(catalog, {"asset_id": "a"})
    assert Catalog(str(folder)).count("assets") == 1


def test_an_engine_that_cannot_make_a_table_says_what_to_do(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("lance error: No space left on device (os error 28), /root/x.rs:1:2")

    monkeypatch.setattr(catalog._db, "create_table", full)
    with catalog.writing(), pytest.raises(CatalogError, match=r"No space left.*free space"):
        catalog.upsert("pairs", A_PAIR)
    monkeypatch.undo()
    with catalog.writing():
        assert catalog.upsert("pairs", A_PAIR) == 1


def test_a_new_catalog_and_new_reports_are_for_nobody_else(tmp_path: Path) -> None:
    Catalog(str(tmp_path / "new"))
    write_documents(tmp_path / "reports", [Document("a.html", "text/html", b"x")])
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes[tmp_path / "new"] == modes[tmp_path / "reports"] == 0o700
    assert modes[tmp_path / "reports" / "a.html"] == 0o600

"""An older catalog becomes one of this release, wherever the process is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lancedb
import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.catalog.migrations import MIGRATIONS, run
from tasks.errors import CatalogBusyError, CatalogError
from tasks.sources.s3 import client_for, storage_options
from tests.catalog.old_release import OldRelease, rows_of, unpack

#: What schema 3 calls the tables and columns of schema 2, as people were told (docs/upgrades.md).
TABLES = {
    "cells": "centroids",
    "homes": "assignments",
    "across": "cross_filters",
    "screened": "screening_progress",
    "notices": "last_events",
}
MEASURED = {
    "best": "recall_at_1",
    "sample": "sample_size",
    "ranked": "compared_share",
    "neighbours": "list_length",
}
COLUMNS: dict[str, dict[str, str]] = {
    "cells": {
        "cells_id": "centroids_id",
        "count": "trained_on",
        "centres": "centroids",
        **MEASURED,
    },
    "homes": {"home_id": "assignment_id", "cells": "lists"},
    "across": {"across": "reference_filter"},
    "screened": {
        "screen_id": "progress_id",
        "against": "screened_against",
        "upto": "up_to_entry",
    },
    "notices": {"notice_id": "asset_id"},
    "searches": MEASURED,
    "reports": {"facts": "provenance", "notes": "plan_notes", "tables": "table_versions"},
    "decisions": {"door": "channel"},
    "verdicts": {"door": "channel"},
    "alerts": {"door": "channel"},
    "admissions": {"door": "channel", "answers": "answer_to"},
    "blocklist": {"plain": "featureless"},
}


class Killed(BaseException):
    """As a SIGKILL: nothing catches it."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> OldRelease:
    return unpack(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def before(old: OldRelease) -> dict[str, list[Any]]:
    return rows_of(old.catalog)


def expected(before: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The rows of the old catalog under the new names."""
    found = {}
    for table, rows in before.items():
        new = COLUMNS.get(table, {})
        named = [tuple((new.get(name, name), value) for name, value in row) for row in rows]
        found[TABLES.get(table, table)] = sorted(named, key=str)
    del found["about"]
    return found


def told(rows: dict[str, list[Any]]) -> dict[str, Any]:
    (row,) = rows["about"]
    return dict(row)


def migrated(uri: str | Path, options: dict[str, str] | None = None) -> dict[str, list[Any]]:
    """The rows of a catalog that is at rest in schema 3, ``about`` left out."""
    rows = rows_of(uri, options)
    state = told(rows)
    assert (state["schema_version"], state["migrating_from"], state["stage"]) == (3, None, None)
    del rows["about"]
    return rows


def command(*words: str, uri: Path) -> str:
    """What ``dam-dedup`` prints on standard output."""
    done = CliRunner().invoke(app, [*words, "--catalog", str(uri)])
    assert done.exit_code == 0, done.output
    return done.stdout


def start(*words: str, uri: Path) -> subprocess.Popen[bytes]:
    """``dam-dedup`` as a process of its own."""
    root = str(Path(__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAM_DEDUP_")}
    return subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", *words, "--catalog", str(uri)],
        env=kept | {"PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_each_version_has_its_migration() -> None:
    versions = [one.version for one in MIGRATIONS]
    assert versions == list(range(3, schema.SCHEMA_VERSION + 1))


def test_a_migrated_table_has_the_form_of_one_made_new(old: OldRelease, tmp_path: Path) -> None:
    uri = old.copy(tmp_path / "c")
    Catalog(str(uri))
    db = lancedb.connect(uri)
    for name in db.list_tables(limit=1000).tables:
        wanted = schema.TABLES.get(name) or (schema.ABOUT if name == "about" else None)
        if wanted is None:  # vectors
            continue
        made = lancedb.connect(tmp_path / "new").create_table(name, schema=wanted).schema
        assert db.open_table(name).schema.names == made.names, name
        for one in made:
            there = db.open_table(name).schema.field(one.name)
            assert (there.type, there.nullable, there.metadata) == (
                one.type,
                one.nullable,
                one.metadata,
            ), (name, one.name)


def test_opening_an_older_catalog_migrates_it(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path
) -> None:
    assert set(COLUMNS) <= set(before), "the old catalog holds a row of all that is changed"
    assert all(before[name] for name in COLUMNS)
    uri = old.copy(tmp_path / "c")
    catalog = Catalog(str(uri))
    assert catalog.up_to_date
    assert migrated(uri) == expected(before)
    assert catalog.duplicate_keys() == {}
    again = Catalog(str(uri))
    assert again.pending() == []
    assert again.standing.release == run.this_release()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path
) -> None:
    uri = old.copy(tmp_path / "c")

    def files() -> dict[str, str]:
        return {
            str(path.relative_to(uri)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in uri.rglob("*")
            if path.is_file()
        }

    untouched = files()
    out = command("catalog", "migrate", "--dry-run", uri=uri)
    assert "schema 2 to 3" in out
    for name, new in TABLES.items():
        assert f"copy {name} to {new} ({len(before[name])} row" in out
    assert "rename columns of decisions: door -> channel" in out
    assert "nothing was written" in out
    shown = json.loads(command("catalog", "show", "--json", uri=uri))
    assert (shown["schema"], shown["up_to_date"]) == (2, False)
    assert shown["tables"] == {name: len(rows) for name, rows in before.items()}
    assert "a migration is due" in command("catalog", "show", uri=uri)
    assert files() == untouched

    done = json.loads(command("catalog", "migrate", "--json", uri=uri))["done"]
    assert done == [f"schema 2 to 3: {MIGRATIONS[0].title}"]
    assert migrated(uri) == expected(before)
    assert "nothing to do" in command("catalog", "migrate", uri=uri)
    shown = json.loads(command("catalog", "show", "--json", uri=uri))
    assert (shown["schema"], shown["up_to_date"], shown["stage"]) == (3, True, None)


@pytest.mark.parametrize(
    "step", [7, pytest.param(1, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_killed_between_any_two_writes_and_opened_again(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path, step: int
) -> None:
    changed = {*COLUMNS, "about"}  # the others are not touched, and take time to copy
    rows = {name: rows for name, rows in before.items() if name in changed}
    writes = 0

    def count() -> None:
        nonlocal writes
        writes += 1

    whole = old.copy(tmp_path / "whole", changed)
    run.migrate(lancedb.connect(whole), "whole", 3, count)
    assert migrated(whole) == expected(rows)
    assert writes > 3 * len(COLUMNS)
    old_rows = {row for name in COLUMNS for row in map(str, rows[name])}
    for number in range(0, writes, step):
        uri, left = old.copy(tmp_path / str(number), changed), number

        def kill() -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1

        with pytest.raises(Killed):
            run.migrate(lancedb.connect(uri), "killed", 3, kill)
        found = rows_of(uri)
        if told(found).get("stage") != "clean":  # whatever is changed is still there as it was
            there = {row for rows in found.values() for row in map(str, rows)}
            assert old_rows <= there or told(found)["stage"] is None, number
        Catalog(str(uri))
        assert migrated(uri) == expected(rows), number


@pytest.mark.parametrize(
    "sign",
    [
        "centroids.lance",
        *(
            pytest.param(sign, marks=pytest.mark.long)
            for sign in (
                "screening_progress.lance/data",
                "reports_before_migration.lance",
                "admissions_before_migration.lance/_versions",
                "blocklist_before_migration.lance/_versions",
            )
        ),
    ],
)
def test_a_real_process_killed_for_good(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path, sign: str
) -> None:
    for number in range(5):  # the process may be done before the signal comes
        uri = old.copy(tmp_path / str(number))
        process = start("catalog", "migrate", uri=uri)
        until = time.monotonic() + 60
        while process.poll() is None and not (uri / sign).exists() and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            break
    else:
        pytest.fail("no process was still at work when it was killed")
    Catalog(str(uri))
    assert migrated(uri) == expected(before)


def test_nothing_is_copied_from_a_table_that_is_being_removed(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path
) -> None:
    uri = old.copy(tmp_path / "c")
    db = lancedb.connect(uri)

    def kill() -> None:
        if run.read_standing(lancedb.connect(uri), "c").stage == "clean":
            raise Killed

    with pytest.raises(Killed):
        run.migrate(db, "killed", 3, kill)
    for name in ("homes", "screened", "decisions_before_migration"):
        lancedb.connect(uri).open_table(name).delete("true")  # as if half of its files were gone
    Catalog(str(uri))
    assert migrated(uri) == expected(before)


def test_a_table_of_which_only_the_folder_was_made_is_made_anew(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path
) -> None:
    uri = old.copy(tmp_path / "c")
    for name in ("centroids", "decisions_before_migration"):
        (uri / f"{name}.lance" / "data").mkdir(parents=True)
        (uri / f"{name}.lance" / "data" / "half.lance").write_bytes(b"x")
    Catalog(str(uri))
    assert migrated(uri) == expected(before)


def test_a_table_that_the_old_release_only_began_to_make_stands_in_no_way(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path
) -> None:
    uri = old.copy(tmp_path / "c")
    for name in ("homes", "alerts"):
        shutil.rmtree(uri / f"{name}.lance")
        (uri / f"{name}.lance" / "data").mkdir(parents=True)
    Catalog(str(uri))
    wanted = expected(before)
    del wanted["assignments"], wanted["alerts"]
    assert migrated(uri) == wanted
    assert not (uri / "homes.lance").exists()


def test_what_cannot_be_finished_is_kept_and_carried_on(
    old: OldRelease, before: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = old.copy(tmp_path / "c")
    real = run.migrate

    def full(*given: Any) -> list[str]:
        calls = 0

        def check() -> None:
            nonlocal calls
            calls += 1
            if calls == 9:
                raise OSError(28, "No space left on device")

        return real(*given[:-1], check)

    monkeypatch.setattr(run, "migrate", full)
    with pytest.raises(CatalogError, match=r"No space left.*kept.*open it again"):
        Catalog(str(uri))
    looked_at = Catalog(str(uri), migrate=False)
    assert (looked_at.standing.migrating_from, looked_at.standing.stage) == (2, "copy")
    assert looked_at.standing.version == 3, "which the first release refuses"
    assert "not finished" in looked_at.pending()[0]
    monkeypatch.setattr(run, "migrate", real)
    Catalog(str(uri))
    assert migrated(uri) == expected(before)


def test_a_migration_waits_for_scans_and_writers(old: OldRelease, tmp_path: Path) -> None:
    uri = str(old.copy(tmp_path / "c"))
    looked_at = Catalog(uri, migrate=False)
    with looked_at.turn(0), pytest.raises(CatalogBusyError):
        Catalog(uri, migrate=False).migrate(wait=0.1)
    assert told(rows_of(uri))["schema_version"] == 2


def newer(uri: str, version: int = 4) -> None:
    """What a newer release leaves in ``about``."""
    about = lancedb.connect(uri).open_table("about")
    about.update(values={"schema_version": version, "release": "9.1.0"})


def test_a_catalog_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "c")
    Catalog(uri)
    newer(uri)
    found = rows_of(uri)
    said = (
        r"written by dam-dedup 9\.1\.0 with schema 4, newer than this release: this is dam-dedup "
        rf"{re.escape(run.this_release())}, which knows schema 2 to 3\. Nothing was changed\. "
        r"Install the newer release again, or name another catalog"
    )
    with pytest.raises(CatalogError, match=said):
        Catalog(uri)
    with pytest.raises(CatalogError, match=said):  # to look at it, too: its form is not known
        Catalog(uri, migrate=False)
    assert rows_of(uri) == found


def test_a_release_that_is_still_running_does_not_write_to_a_newer_catalog(tmp_path: Path) -> None:
    catalog = Catalog(str(tmp_path / "c"))
    newer(catalog.uri)
    with pytest.raises(CatalogError, match=r"newer than this release"), catalog.writing(0):
        pytest.fail("it may write")


def test_a_catalog_older_than_any_migration_is_refused(tmp_path: Path) -> None:
    Catalog(str(tmp_path / "c"))
    newer(str(tmp_path / "c"), 1)
    with pytest.raises(CatalogError, match=r"has schema 1, older than any.*Scan into a new"):
        Catalog(str(tmp_path / "c"))


@pytest.mark.long
def test_on_s3_killed_in_the_middle_and_opened_again(
    s3: Any, old: OldRelease, before: dict[str, list[Any]]
) -> None:
    bucket, options = s3.bucket(), storage_options(s3.settings)
    for path in old.catalog.rglob("*"):
        if path.is_file():
            key = f"cat/{path.relative_to(old.catalog)}"
            s3.client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    uri, client = f"s3://{bucket}/cat", client_for(s3.settings)
    looked_at = Catalog(uri, options, client, migrate=False)
    assert any("copy cells to centroids" in line for line in looked_at.pending())
    for last in (3, 14, 25):
        left = last

        def kill() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed

        db = lancedb.connect(uri, storage_options=options)
        with pytest.raises(Killed):
            run.migrate(db, uri, 3, kill)
    assert Catalog(uri, options, client).up_to_date
    assert migrated(uri, options) == expected(before)

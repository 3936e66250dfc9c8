"""A backup that is made while a scan writes, restored, and used to undo."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from tasks.catalog.backup import copy_catalog
from tasks.catalog.catalog import Catalog
from tasks.errors import CatalogError
from tasks.merging.recover import recover
from tasks.session import open_catalog
from tests.merging.conftest import encoded, picture, png
from tests.merging.test_late_hands import POLICY
from tests.merging.test_verdicts import groups


def at(site: Any, folder: Path) -> Any:
    """The same bucket with another catalog."""
    catalog = site.settings.catalog.model_copy(update={"uri": str(folder)})
    return type(site)(site.s3, site.bucket, site.settings.model_copy(update={"catalog": catalog}))


def merged(site: Any, seed: int) -> Any:
    for prefix in "kd":
        site.put(f"{prefix}/{seed}.png", png(seed), {"word": prefix}, ContentType="image/png")
    site.list()
    plan = site.plan(policy=POLICY % ('"k/"', "quarantine"))
    site.approve(plan)
    assert site.merge(plan).complete
    return plan


def test_a_backup_is_restored_and_undoes(make_site: Any, tmp_path: Path) -> None:
    """One merge before the backup, and one after it, which the bucket tells of."""
    site = make_site("plain")
    first = merged(site, 1)
    secret = Path(site.settings.catalog.uri) / ".seal.key"
    secret.write_bytes(bytes(32))
    run = CliRunner()
    words = ["--catalog", site.settings.catalog.uri]
    done = run.invoke(app, ["backup", str(tmp_path / "kept"), *words])
    assert done.exit_code == 0, done.output
    second = merged(site, 2)
    shutil.rmtree(site.settings.catalog.uri)
    done = run.invoke(app, ["restore", str(tmp_path / "kept"), *words])
    assert done.exit_code == 0, done.output
    assert secret.read_bytes() == bytes(32)
    assert {one.state for one in site.undo(first.id)} == {"undone"}
    recover(site.settings, f"s3://{site.bucket}")
    assert {one.state for one in site.undo(second.id)} == {"undone"}
    assert site.keys() == ["d/1.png", "d/2.png", "k/1.png", "k/2.png"]
    assert site.tags("d/1.png") == {"word": "d"}


@pytest.mark.long
def test_a_backup_while_a_scan_writes_is_of_one_moment(
    make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("plain")
    for number in range(6):
        for copy in "ab":
            site.put(f"{copy}{number}.png", encoded(picture(number)), ContentType="image/png")
    kept = tmp_path / "kept"
    made: list[dict[str, int]] = []
    upsert = Catalog.upsert
    thread = threading.Thread(
        target=lambda: made.append(copy_catalog(open_catalog(site.settings), str(kept)))
    )

    def watched(self: Catalog, name: str, *args: Any, **options: Any) -> int:
        if name.startswith("vectors_") and thread.ident is None:
            thread.start()  # it waits for the writer, and copies while the scan goes on
        return upsert(self, name, *args, **options)

    monkeypatch.setattr(Catalog, "upsert", watched)
    site.scan()
    thread.join(timeout=120)
    assert made, "the backup came to its end"
    copied = open_catalog(at(site, kept).settings)
    assert copied.duplicate_keys() == {}
    assert copied.tables() == made[0]
    original = open_catalog(site.settings)
    assert copied.count("groups") <= original.count("groups")
    for name in copied.tables():
        kinds = [one.table(name).schema for one in (copied, original)]
        assert kinds[0].equals(kinds[1], check_metadata=True), name
    restored = at(site, kept)
    restored.scan()
    assert groups(restored) == groups(site)


def test_nothing_is_written_over(make_site: Any, tmp_path: Path) -> None:
    site = make_site("plain")
    merged(site, 1)
    catalog = open_catalog(site.settings)
    with pytest.raises(CatalogError, match="not empty"):
        copy_catalog(catalog, site.settings.catalog.uri)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "note.txt").touch()
    with pytest.raises(CatalogError, match="not empty"):
        copy_catalog(catalog, str(tmp_path / "there"))


def test_half_a_backup_is_no_catalog(
    make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site("plain")
    merged(site, 1)
    kept = tmp_path / "kept"
    from tasks.catalog import backup

    real, copied = backup.copy_table, []

    def full(target: Any, table: Any, name: str, *rest: Any) -> None:
        if len(copied) == 5:
            raise OSError(28, "No space left on device")
        copied.append(name)
        real(target, table, name, *rest)

    monkeypatch.setattr(backup, "copy_table", full)
    with pytest.raises(CatalogError, match="no whole copy"):
        copy_catalog(open_catalog(site.settings), str(kept))
    done = CliRunner().invoke(app, ["restore", str(kept), "--catalog", str(tmp_path / "new")])
    assert done.exit_code != 0
    assert not (tmp_path / "new" / "about.lance").exists()


@pytest.mark.long
def test_a_catalog_on_s3_is_backed_up_to_a_folder_and_back(make_site: Any, tmp_path: Path) -> None:
    from tasks.sources.s3 import storage_options

    site = make_site("plain")
    plan = merged(site, 1)
    place = f"s3://{site.s3.bucket()}/kept"
    copy_catalog(open_catalog(site.settings), place, storage_options(site.settings.s3))
    catalog = site.settings.catalog.model_copy(update={"uri": place})
    there = site.settings.model_copy(update={"catalog": catalog})
    copy_catalog(open_catalog(there), str(tmp_path / "back"))
    assert {one.state for one in at(site, tmp_path / "back").undo(plan.id)} == {"undone"}

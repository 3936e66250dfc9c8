"""A copy of a catalog, true to one moment, made while scans and merges go on; and back again.

The writer's lease is held only to note which version each table has, between two writes of anybody.
The rows of these versions are then copied at leisure. Versions stay for a week, so that nothing
which is written or tidied up meanwhile changes the copy. ``about`` is copied last: what was not
copied to its end is refused as a catalog.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lancedb

from tasks.catalog.catalog import Catalog
from tasks.catalog.migrations.changes import copy_table, table_names
from tasks.errors import CatalogError

_ABOUT = "about"
#: What lies beside the tables, and is as much of the catalog as they are.
_BESIDE = (".seal.key",)


def copy_catalog(
    catalog: Catalog, to: str, storage_options: Mapping[str, str] | None = None, wait: float = 600.0
) -> dict[str, int]:
    """Copy a catalog as it is at this moment.

    Args:
        catalog: the catalog, of this release's form.
        to: an empty or new folder, or ``s3://bucket/prefix`` below which there is nothing.
        storage_options: of the destination, on S3.
        wait: seconds, for a writer that is at work.

    Returns:
        Table to the number of its rows.

    Raises:
        CatalogBusyError: when somebody writes for longer than ``wait`` seconds.
        CatalogError: when there is something at the destination, or it cannot be written.
    """
    on_s3 = to.startswith("s3://")
    try:
        if not on_s3:
            Path(to).mkdir(parents=True, exist_ok=True, mode=0o700)
        target: Any = lancedb.connect(to, storage_options=dict(storage_options or {}) or None)
        there = table_names(target)
    except Exception as error:
        raise CatalogError(f"cannot write to {to}: {error}") from error
    if there or (not on_s3 and any(Path(to).iterdir())):
        raise CatalogError(f"{to} is not empty: name a place where there is nothing")
    with catalog.writing(wait):
        names = [name for name in catalog.tables() if name != _ABOUT]
        versions = catalog.versions([*names, _ABOUT])
    view, lost = catalog.at(versions)
    if lost:
        raise CatalogError(f"{', '.join(lost)} were tidied away in this moment: try again")
    done = {}
    try:
        for name in [*names, _ABOUT]:
            table = view.table(name)
            copy_table(target, table, name, {}, lambda: None)
            done[name] = int(table.count_rows())
        _copy_beside(catalog.uri, to)
    except CatalogError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise CatalogError(
            f"cannot copy the catalog {catalog.uri} to {to}: {str(error)[:300]}; what is there is "
            "no whole copy: remove it, and try again"
        ) from error
    return done


def _copy_beside(one: str, other: str) -> None:
    if one.startswith("s3://") or other.startswith("s3://"):
        return  # docs/merging.md says what to copy by hand
    for name in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(Path(one) / name, Path(other) / name)

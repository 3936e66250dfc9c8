"""Runs migrations, and knows where a catalog stands between them.

The one row of the table ``about`` says it. At rest ``stage`` is null. A migration first sets
``schema_version`` to where it leads, ``migrating_from`` and the stage ``copy``, in one commit: from
then on an older release refuses the catalog. When every change is applied the stage becomes
``clean``, and when what was kept is removed it becomes null again. Whoever opens the catalog after
a kill goes on at that stage. Nothing is removed in the stage ``copy``, and nothing is copied in the
stage ``clean``, when what is copied from may be half removed.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tasks.catalog.migrations import MIGRATIONS
from tasks.catalog.migrations.changes import Change, Check, Migration
from tasks.errors import CatalogError

log = logging.getLogger(__name__)

COPY, CLEAN = "copy", "clean"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a catalog says of itself.

    Attributes:
        version: of its schema, or the one that a migration leads to.
        migrating_from: the version before, while a migration is not done; None at rest.
        stage: ``copy`` or ``clean`` while a migration is not done; None at rest.
        release: the release that made it or last migrated it; empty for the first release.
    """

    version: int
    migrating_from: int | None = None
    stage: str | None = None
    release: str = ""

    @property
    def at_rest(self) -> bool:
        """Whether no migration was begun and not finished."""
        return self.stage is None


@functools.cache
def this_release() -> str:
    """The version of this program; read once, for it takes 7 ms to find."""
    try:
        return version("dam-dedup")
    except PackageNotFoundError:  # run from a folder that was not installed
        return "unknown"


def read_standing(db: Any, uri: str) -> Standing:
    """What the table ``about`` says.

    Raises:
        CatalogError: when it is not the table of a dam-dedup catalog.
    """
    table = db.open_table("about").to_arrow()
    if "schema_version" not in table.schema.names:
        raise CatalogError(f"{uri} holds tables that are not a dam-dedup catalog")
    row = table.to_pylist()[0]
    return Standing(
        int(row["schema_version"]),
        row.get("migrating_from"),
        row.get("stage"),
        row.get("release") or "",
    )


def refuse_unknown(standing: Standing, wanted: int, uri: str) -> None:
    """Raise CatalogError for a catalog that this release can neither use nor migrate."""
    by = f" by dam-dedup {standing.release}" if standing.release else ""
    here = f"this is dam-dedup {this_release()}, which knows schema"
    oldest = MIGRATIONS[0].version - 1
    if standing.version > wanted:
        raise CatalogError(
            f"the catalog {uri} was written{by} with schema {standing.version}, newer than this "
            f"release: {here} {oldest} to {wanted}. Nothing was changed. Install the newer release "
            "again, or name another catalog (DAM_DEDUP_CATALOG__URI)"
        )
    if standing.version < oldest:
        raise CatalogError(
            f"the catalog {uri} has schema {standing.version}, older than any that can be "
            f"migrated: {here} {oldest} to {wanted}. Scan into a new catalog"
        )


def pending(db: Any, standing: Standing, wanted: int) -> list[str]:
    """What :func:`migrate` would do, one line a change; nothing is written."""
    lines = []
    for migration, stage in _steps(standing, wanted):
        begun = " (begun before, and not finished)" if stage else ""
        lines.append(f"schema {migration.version}: {migration.title}{begun}")
        if stage == CLEAN:
            lines.append("  remove what was kept of the tables before")
            continue
        lines += [f"  {text}" for one in migration.changes if (text := one.describe(db))]
    return lines


def migrate(db: Any, uri: str, wanted: int, check: Check) -> list[str]:
    """Bring a catalog to a version; needs the writer's lease and the scans' turn.

    Args:
        db: the LanceDB connection.
        uri: for messages.
        wanted: the version to end at.
        check: called before each write; it raises once the lease is lost.

    Returns:
        One line a migration that was run or finished.

    Raises:
        CatalogError: when it could not be finished. What was there is kept: the next to open the
            catalog goes on.
    """
    standing = read_standing(db, uri)  # as it is under the lease: another may have been faster
    done = []
    for migration, stage in _steps(standing, wanted):
        text = f"schema {migration.version - 1} to {migration.version}: {migration.title}"
        log.warning("migrating the catalog %s, %s", uri, text)
        try:
            _run(db, migration, stage, check)
        except CatalogError:
            raise
        except (RuntimeError, ValueError, OSError) as error:
            raise CatalogError(
                f"the catalog {uri} could not be migrated ({text}): {str(error)[:500]}. What was "
                "there is kept. Look for a full disk or missing permissions, then open it again: "
                "the migration goes on where it stopped"
            ) from error
        done.append(text)
    return done


def _steps(standing: Standing, wanted: int) -> list[tuple[Migration, str | None]]:
    """The migrations that are left, and the stage at which one was stopped."""
    at_rest = standing.at_rest
    base = standing.version if at_rest else standing.version - 1
    return [
        (one, None if at_rest or one.version != standing.version else standing.stage)
        for one in MIGRATIONS
        if base < one.version <= wanted
    ]


def _run(db: Any, migration: Migration, stage: str | None, check: Check) -> None:
    if stage is None:
        _begin(db, migration, check)
    if stage != CLEAN:
        for change in migration.changes:
            change.apply(db, check)
        _verify(db, migration.changes)
        _set(db, check, stage=f"'{CLEAN}'")
    for change in migration.changes:
        change.clean(db, check)
    _set(db, check, stage="NULL", migrating_from="NULL", release=f"'{this_release()}'")


def _begin(db: Any, migration: Migration, check: Check) -> None:
    about = db.open_table("about")
    new = {"migrating_from": "int", "stage": "string", "release": "string"}
    missing = {
        name: f"cast(NULL as {kind})"
        for name, kind in new.items()
        if name not in about.schema.names
    }
    if missing:
        check()
        about.add_columns(missing)
    _set(
        db,
        check,
        schema_version=str(migration.version),
        migrating_from=str(migration.version - 1),
        stage=f"'{COPY}'",
    )


def _set(db: Any, check: Check, **values: str) -> None:
    """Change the row of ``about``, in one commit; values are SQL."""
    check()
    db.open_table("about").update(values_sql=values)


def _verify(db: Any, changes: tuple[Change, ...]) -> None:
    """Raise where a change would still find something to do: nothing may be removed then."""
    # A table under a new name still finds its old one, which apply compared with the copy.
    for change in changes:
        change.apply(db, _no_write)


def _no_write() -> None:
    raise CatalogError("a migration left something undone; open the catalog again to finish it")

"""What a migration is made of: tables under new names, and columns under new names.

Every change has two halves. ``apply`` leaves all that was there in place: it may be stopped between
any two writes and begun again, and does nothing once it is done. ``clean`` removes what was kept;
it runs when all changes of a migration have been applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tasks.errors import CatalogError

#: Called before each write: it raises once the writer's lease is lost.
Check = Callable[[], None]
#: Rows copied at once: 4,096 vectors of 1,280 float16 are 10 MB.
_ROWS = 4096


class Change(Protocol):
    """One table's part in a migration."""

    def describe(self, db: Any) -> str:
        """What would be done, in words; empty when there is nothing to do."""

    def apply(self, db: Any, check: Check) -> None:
        """Bring the table into its new form; what was there stays."""

    def clean(self, db: Any, check: Check) -> None:
        """Remove what was kept of the table."""


@dataclass(frozen=True, slots=True)
class Migration:
    """All that is changed between two versions of the schema.

    Attributes:
        version: of the schema afterwards; it was one less before.
        title: for people.
        changes: in order; no two of one table.
    """

    version: int
    title: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class NewTable:
    """A table gets another name, and some of its columns do.

    LanceDB cannot rename a table on disk or on S3, so its rows are copied. The old table stays
    until the migration has succeeded. Old versions of the table are not copied.
    """

    old: str
    new: str
    columns: Mapping[str, str] = field(default_factory=dict)

    def describe(self, db: Any) -> str:
        """What would be done."""
        if self.old not in table_names(db):
            return ""
        rows = db.open_table(self.old).count_rows()
        return f"copy {self.old} to {self.new} ({rows:,} rows){_named(self.columns)}"

    def apply(self, db: Any, check: Check) -> None:
        """Copy the rows."""
        if self.old in table_names(db):
            copy_table(db, self.old, self.new, self.columns, check)

    def clean(self, db: Any, check: Check) -> None:
        """Remove the table of the old name."""
        _drop(db, self.old, check)


@dataclass(frozen=True, slots=True)
class NewColumns:
    """Some columns of a table get other names; a copy of the table is kept meanwhile.

    The renaming itself is one commit of the engine, which touches no data.
    """

    table: str
    columns: Mapping[str, str]

    @property
    def copy(self) -> str:
        """The name of the copy."""
        return f"{self.table}_before_migration"

    def describe(self, db: Any) -> str:
        """What would be done."""
        if self.table not in table_names(db) or not self._left(db):
            return ""
        return f"rename columns of {self.table}{_named(self._left(db))}"

    def apply(self, db: Any, check: Check) -> None:
        """Copy the table, then rename."""
        if self.table not in table_names(db):
            return
        if left := self._left(db):
            copy_table(db, self.table, self.copy, {}, check)
            check()
            renames = [{"path": old, "rename": new} for old, new in left.items()]
            db.open_table(self.table).alter_columns(*renames)

    def clean(self, db: Any, check: Check) -> None:
        """Remove the copy."""
        _drop(db, self.copy, check)

    def _left(self, db: Any) -> dict[str, str]:
        there = db.open_table(self.table).schema.names
        return {old: new for old, new in self.columns.items() if old in there}


def table_names(db: Any) -> set[str]:
    """The names of all tables, those included that a killed process only began to make."""
    return set(db.list_tables(limit=10_000).tables)


def copy_table(db: Any, old: str, new: str, columns: Mapping[str, str], check: Check) -> None:
    """Copy a table's present rows to a new table; a copy that is complete is left alone.

    Raises:
        CatalogError: when the copy does not hold as many rows as the table.
    """
    source = db.open_table(old)
    names = [columns.get(name, name) for name in source.schema.names]
    rows = source.count_rows()
    if _is_complete(db, new, names, rows):
        return
    _drop(db, new, check)
    check()
    fields = [one.with_name(name) for one, name in zip(source.schema, names, strict=True)]
    target = db.create_table(new, schema=pa.schema(fields))
    # Each batch is read before it is written: the engine hangs when it writes what it still reads.
    for batch in source.search().select(source.schema.names).to_batches(batch_size=_ROWS):
        check()
        target.add(pa.Table.from_batches([batch]).rename_columns(names))
    if not _is_complete(db, new, names, rows):
        raise CatalogError(
            f"the copy of the table {old} has {target.count_rows()} rows instead of {rows}: does "
            "another program write to the catalog? Stop it, and open the catalog again"
        )


def _is_complete(db: Any, name: str, columns: list[str], rows: int) -> bool:
    """Whether a table is there, can be read, and holds these columns and so many rows."""
    if name not in table_names(db):
        return False
    try:
        table = db.open_table(name)
        return bool(table.schema.names == columns and table.count_rows() == rows)
    except (RuntimeError, ValueError, OSError):  # a process was killed as it began to make it
        return False


def _drop(db: Any, name: str, check: Check) -> None:
    if name in table_names(db):
        check()
        db.drop_table(name, ignore_missing=True)


def _named(columns: Mapping[str, str]) -> str:
    return f": {', '.join(f'{old} -> {new}' for old, new in columns.items())}" if columns else ""

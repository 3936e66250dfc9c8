"""What a migration is made of: tables under new names, and columns under new names.

Every change has two halves. ``apply`` leaves all that was there in place: it may be stopped between
any two writes and begun again, and does nothing once it is done. ``clean`` removes what was kept;
it runs when all changes of a migration have been applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tasks.errors import CatalogError

#: Called before each write: it raises once the writer's lease is lost.
Check = Callable[[], None]
#: Rows read at once, and about how many bytes are written in one commit: each commit leaves a
#: fragment, and a table of 1,000 fragments is read 35 times slower than one of a single fragment.
_ROWS, _BYTES = 16_384, 64 * 1024**2


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
        table = open_table(db, self.old)
        if table is None:
            return ""
        rows = table.count_rows()
        size = f"{rows:,} row{'' if rows == 1 else 's'}"
        return f"copy {self.old} to {self.new} ({size}){_named(self.columns)}"

    def apply(self, db: Any, check: Check) -> None:
        """Copy the rows."""
        if (table := open_table(db, self.old)) is not None:
            copy_table(db, table, self.new, self.columns, check)

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
        left = self._left(open_table(db, self.table))
        return f"rename columns of {self.table}{_named(left)}" if left else ""

    def apply(self, db: Any, check: Check) -> None:
        """Copy the table, then rename."""
        table = open_table(db, self.table)
        if table is not None and (left := self._left(table)):
            copy_table(db, table, self.copy, {}, check)
            check()
            table.alter_columns(*({"path": old, "rename": new} for old, new in left.items()))

    def clean(self, db: Any, check: Check) -> None:
        """Remove the copy."""
        _drop(db, self.copy, check)

    def _left(self, table: Any | None) -> dict[str, str]:
        there = table.schema.names if table is not None else ()
        return {old: new for old, new in self.columns.items() if old in there}


def table_names(db: Any) -> set[str]:
    """The names of all tables, those included that a killed process only began to make."""
    return set(db.list_tables(limit=10_000).tables)


def open_table(db: Any, name: str) -> Any | None:
    """A table, or None where there is none.

    A folder without any version in it is no table: a process that was killed as it made one leaves
    such a folder, and some S3 servers list one for a while after a table was dropped.
    """
    if name not in table_names(db):
        return None
    try:
        return db.open_table(name)
    except ValueError as error:
        if "not found" not in str(error):
            raise
        return None


def copy_table(db: Any, source: Any, new: str, columns: Mapping[str, str], check: Check) -> None:
    """Copy a table's present rows to a new table; a copy that is complete is left alone.

    Raises:
        CatalogError: when the copy does not hold as many rows as the table.
    """
    names = [columns.get(name, name) for name in source.schema.names]
    rows = source.count_rows()
    if _is_complete(db, new, names, rows):
        return
    _drop(db, new, check)
    check()
    fields = [one.with_name(name) for one, name in zip(source.schema, names, strict=True)]
    target = db.create_table(new, schema=pa.schema(fields))
    for part in _parts(source):
        check()
        target.add(part.rename_columns(names))
    if not _is_complete(db, new, names, rows):
        raise CatalogError(
            f"the copy of the table {source.name} has {target.count_rows()} rows instead of "
            f"{rows}: does another program write to it? Stop that, and open the catalog again"
        )


def _parts(source: Any) -> Iterator[pa.Table]:
    """A table's rows, some megabytes at a time.

    A part is in memory before it is written: the engine hangs when it writes what it still reads.
    """
    held: list[pa.RecordBatch] = []
    for batch in source.search().select(source.schema.names).to_batches(batch_size=_ROWS):
        held.append(batch)
        if sum(one.nbytes for one in held) >= _BYTES:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _is_complete(db: Any, name: str, columns: list[str], rows: int) -> bool:
    """Whether there is such a table, with these columns and so many rows."""
    table = open_table(db, name)
    return table is not None and table.schema.names == columns and table.count_rows() == rows


def _drop(db: Any, name: str, check: Check) -> None:
    if name in table_names(db):
        check()
        db.drop_table(name, ignore_missing=True)


def _named(columns: Mapping[str, str]) -> str:
    return f": {', '.join(f'{old} -> {new}' for old, new in columns.items())}" if columns else ""

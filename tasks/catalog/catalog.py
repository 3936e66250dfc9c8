"""The catalog: what is known of every asset, in LanceDB tables on disk or on S3.

Reads return polars frames sorted by key, so that the same catalog always gives the same answer.
Writes are idempotent upserts by key and need the writer's lease (:meth:`Catalog.writing`).
"""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lancedb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.index import Bitmap, BTree

from tasks.catalog import schema
from tasks.catalog.lease import Held, Lease, file_lease, held, lease_wanted, s3_lease
from tasks.catalog.migrations import run as migrations
from tasks.catalog.vector_index import index_due, index_vectors
from tasks.errors import CatalogBusyError, CatalogError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

#: Beyond this many fragments reads slow down (244 ms against 7 ms a look-up at 1,000 fragments).
_FRAGMENTS = 40
#: So many are compacted whatever the table's size.
_VERY_MANY = 10 * _FRAGMENTS
#: Half-written files a killed process left; Lance's own cleanup never removes them.
_STALE_SECONDS = 24 * 3600
#: Tables of large rows that hardly ever change. Compacting them saves little, and doubles their
#: bytes until the versions before are old enough to go: 118 pictures had 4.1 MB of thumbnails and
#: features, in 8.8 MB of files after a full scan that compacted them.
_BULKY = frozenset({"thumbnails", "features", "packets"})
_INDEX = {"BTREE": BTree, "BITMAP": Bitmap}
#: Keys in one IN list.
_KEYS_PER_QUERY = 1000


def quote(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


class Catalog:
    """One catalog.

    Args:
        uri: a folder, or ``s3://bucket/prefix``.
        storage_options: for S3: endpoint, credentials, region (Lance's names).
        client: a boto3 S3 client, needed for a catalog on S3 (the writer's lease).
        migrate: bring the catalog of an older release into this one's form; without, such a
            catalog is opened to be looked at only.

    Attributes:
        standing: the version of its schema when it was opened.

    Raises:
        CatalogError: when it cannot be opened or migrated, or was written by a newer release.
    """

    def __init__(
        self,
        uri: str,
        storage_options: dict[str, str] | None = None,
        client: S3Client | None = None,
        *,
        migrate: bool = True,
    ) -> None:
        self.uri = uri
        self._client = client
        self._held = held(uri if self.on_s3 else str(Path(uri).resolve()))
        self._tables: dict[str, Any] = {}
        try:
            if not self.on_s3:
                Path(uri).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = lancedb.connect(
                uri,
                storage_options=storage_options or None,
                read_consistency_interval=timedelta(0),
                # The default caches are 7 GiB per session.
                session=lancedb.Session(
                    index_cache_size_bytes=256 * 1024**2, metadata_cache_size_bytes=128 * 1024**2
                ),
            )
            self._open()
            if migrate and not self.up_to_date:
                self.migrate()
        except CatalogError:
            raise
        except Exception as error:
            raise CatalogError(f"cannot open the catalog {uri}: {error}") from error

    @property
    def on_s3(self) -> bool:
        """Whether the catalog lies on S3."""
        return self.uri.startswith("s3://")

    @property
    def up_to_date(self) -> bool:
        """Whether its tables have this release's form."""
        return self.standing.at_rest and self.standing.version == schema.SCHEMA_VERSION

    @property
    def target(self) -> int:
        """The version of the schema that this release writes."""
        return schema.SCHEMA_VERSION

    def tables(self) -> dict[str, int]:
        """Every table with its rows."""
        with self._engine("count the rows of"):
            return {
                name: int(self._db.open_table(name).count_rows()) for name in sorted(self._names)
            }

    def pending(self) -> list[str]:
        """What :meth:`migrate` would do, one line a change."""
        return migrations.pending(self._db, self.standing, schema.SCHEMA_VERSION)

    def migrate(self, wait: float = 600.0) -> list[str]:
        """Bring the tables into this release's form; returns a line for each migration.

        Raises:
            CatalogBusyError: when a scan or another writer is at work for longer than ``wait``
                seconds.
            CatalogError: when it could not be finished; the next to open the catalog goes on.
        """
        with self.turn(wait), self.writing(wait):
            done = migrations.migrate(self._db, self.uri, schema.SCHEMA_VERSION, self._held.check)
            self.standing = migrations.read_standing(self._db, self.uri)
            self._tables, self._names = {}, self._list()
        return done

    # ---- writing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self, wait: float = 600.0) -> Iterator[None]:
        """Hold the writer's lease; a thread may enter again inside itself, by any object.

        Raises:
            CatalogBusyError: when somebody else writes for longer than ``wait`` seconds.
            CatalogError: when a newer release has migrated the catalog since it was opened.
        """
        with self._held.hold(self.uri, wait, lambda left: self._lease(left, "writer")) as first:
            self._names |= self._list()  # the writer before us may have made some
            if first:
                now = migrations.read_standing(self._db, self.uri)
                migrations.refuse_unknown(now, schema.SCHEMA_VERSION, self.uri)
            yield

    @contextlib.contextmanager
    def turn(self, wait: float) -> Iterator[None]:
        """Hold the catalog for a whole scan: its stages must see what its sync saw.

        Raises:
            CatalogBusyError: when another scan goes on for longer than ``wait`` seconds.
        """
        with contextlib.ExitStack() as stack:
            if self.on_s3 and self._client is not None:  # whose turn it is writes, too
                stack.enter_context(lease_wanted(self._client, self.uri, "writer"))
            try:
                stack.enter_context(self._lease(0, "scan"))
            except CatalogBusyError:
                log.warning("waiting for another scan of the catalog %s to end", self.uri)
                stack.enter_context(self._lease(wait, "scan"))
            yield

    def _lease(self, wait: float, name: str) -> contextlib.AbstractContextManager[Lease]:
        if not self.on_s3:
            return file_lease(Path(self.uri), wait, name)
        if self._client is None:
            raise CatalogError("a catalog on S3 needs an S3 client for its lease")
        return s3_lease(self._client, self.uri, wait, name)

    def upsert(self, name: str, rows: pa.Table, *, only_new: bool = False) -> int:
        """Insert rows, or update those whose key is there; returns how many rows were written.

        A table of some of the columns updates those columns only. A key that comes twice is
        written once, as it came last.

        Args:
            name: the table.
            rows: any columns of its schema, the key among them.
            only_new: leave existing rows alone.
        """
        if rows.num_rows == 0:
            return 0
        if not self._held.mine:
            raise CatalogError("upsert outside of Catalog.writing()")
        self._held.check()
        key = rows.schema.names[0]
        last = pl.DataFrame({"k": rows[key], "i": range(rows.num_rows)}).group_by("k").last()
        if last.height < rows.num_rows:
            rows = rows.take(last["i"].sort().to_arrow())
        table = self.table(name)
        self._held.written.add(name)
        merge = table.merge_insert(key)
        if not only_new:
            merge = merge.when_matched_update_all()
        # No scalar index on the key: with one, Lance's duplicate protection is bypassed.
        with self._engine(f"write {name} to"):
            result = merge.when_not_matched_insert_all().use_index(False).execute(rows)
        return int(result.num_inserted_rows + result.num_updated_rows)

    def delete_keys(self, name: str, keys: Sequence[str]) -> None:
        """Delete rows by key."""
        if not self._held.mine:
            raise CatalogError("delete outside of Catalog.writing()")
        self._held.check()
        if not self._there(name):
            return
        column = schema.key_of(self.table(name).schema)
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            with self._engine(f"remove rows of {name} in"):
                self.table(name).delete(_in(column, keys[start : start + _KEYS_PER_QUERY]))

    def delete_where(self, name: str, where: str) -> None:
        """Delete the rows that match; the condition must be our own."""
        if not self._held.mine:
            raise CatalogError("delete outside of Catalog.writing()")
        self._held.check()
        if self._there(name):
            with self._engine(f"remove rows of {name} in"):
                self.table(name).delete(where)

    def drop(self, name: str) -> None:
        """Remove a table with all that is in it; nothing happens where there is none."""
        if not self._held.mine:
            raise CatalogError("drop outside of Catalog.writing()")
        self._held.check()
        if self._there(name):
            with self._engine(f"remove {name} from"):
                self._db.drop_table(name)
            self._names.discard(name)
            self._tables.pop(name, None)

    @contextlib.contextmanager
    def _engine(self, action: str) -> Iterator[None]:
        """The engine's errors as ours, without its source paths."""
        try:
            yield
        except (RuntimeError, ValueError, OSError) as error:
            text = re.sub(r",? ?/\S+\.rs:\d+:\d+", "", str(error))
            raise CatalogError(
                f"cannot {action} the catalog {self.uri}: {text[:500]}; check the disk's free "
                "space and permissions, and run it again: what was written before is still there"
            ) from error

    # ---- reading -----------------------------------------------------------------------------

    def table(self, name: str) -> Any:
        """A table's handle, the table made when missing."""
        if not self._there(name):
            self._make(name, schema.TABLES[name])
        return self._tables[name]

    def vectors_table(self, space: str, dim: int) -> str:
        """The name of a space's vector table, made when missing."""
        name = f"vectors_{space}"
        if not self._there(name):
            self._make(name, schema.embeddings(dim))
        return name

    def _there(self, name: str) -> bool:
        """Whether there is such a table, which is then open.

        A process that died, or ran out of disk, while it made a table leaves a folder without any
        version in it. That is no table: it holds no row, and the next writer makes it whole.
        """
        if name not in self._names:
            return False
        if name in self._tables:
            return True
        with self._engine(f"open {name} of"):
            try:
                self._tables[name] = self._db.open_table(name)
            except ValueError as error:
                if "not found" not in str(error):
                    raise
                log.warning("%s of %s was not made to its end; it holds nothing", name, self.uri)
                self._names.discard(name)
                return False
        return True

    def _make(self, name: str, kind: pa.Schema) -> None:
        with self._engine(f"make {name} in"):
            self._tables[name] = self._db.create_table(name, schema=kind, exist_ok=True)
        self._names.add(name)

    def read(
        self, name: str, columns: Sequence[str], where: str = "", order: str | None = None
    ) -> pl.DataFrame:
        """Some columns of the rows that match, sorted by ``order`` (default: first column)."""
        frame = pl.from_arrow(self.read_arrow(name, columns, where))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table is never a series
        return frame.sort(order or columns[0])

    def read_arrow(self, name: str, columns: Sequence[str], where: str = "") -> pa.Table:
        """As :meth:`read`, unsorted, as Arrow; JSON columns come as text."""
        if not self._there(name) or (where == "false" and name in schema.TABLES):
            # Without a look at the table, which takes 6 ms to find nothing.
            known = schema.TABLES[name]
            return plain(known.empty_table().select(list(columns)))
        query = self.table(name).search()
        if where:
            query = query.where(where)
        # Not to_arrow(), which asks for the table's schema twice more: a third of a small read.
        with self._engine(f"read {name} from"):
            return plain(query.select(list(columns)).to_batches().read_all())

    def read_keys(self, name: str, columns: Sequence[str], keys: Iterable[str]) -> pl.DataFrame:
        """Rows by key; missing keys give no row."""
        wanted = sorted(set(keys))
        if not self._there(name) or not wanted:
            return self.read(name, columns, "false") if name in schema.TABLES else pl.DataFrame()
        column = schema.key_of(self.table(name).schema)
        parts = [
            self.read(name, columns, _in(column, wanted[start : start + _KEYS_PER_QUERY]))
            for start in range(0, len(wanted), _KEYS_PER_QUERY)
        ]
        return pl.concat(parts).sort(columns[0])

    def notice(self, *names: str) -> None:
        """Take notice of tables that somebody else may have made since this catalog was opened."""
        if not self._names.issuperset(names):
            self.notice_all()

    def notice_all(self) -> None:
        """Take notice of all tables that were made since this catalog was opened."""
        with self._engine("list the tables of"):
            self._names |= self._list()

    def has(self, name: str) -> bool:
        """Whether there is such a table."""
        return self._there(name)

    def version(self, name: str) -> int:
        """A number that every write to a table raises; 0 where there is no table yet."""
        if not self._there(name):
            return 0
        with self._engine(f"read {name} from"):
            return int(self.table(name).version)

    def count(self, name: str, where: str | None = None) -> int:
        """How many rows match."""
        return int(self.table(name).count_rows(where)) if self._there(name) else 0

    def known_contents(self, space: str) -> pl.Series:
        """The contents that have a vector in a space."""
        name = f"vectors_{space}"
        if not self._there(name):
            return pl.Series("content", [], dtype=pl.String)
        return self.read(name, ["content"])["content"]

    def stream_vectors(
        self, name: str, rows: int
    ) -> Iterator[tuple[pl.Series, npt.NDArray[np.float16]]]:
        """All contents of a vector table with their vectors (n, dim), so many at a time."""
        for batch in self.stream(name, ["content", "vector"], "", rows):
            contents = pl.Series("content", pl.from_arrow(batch["content"]), pl.String)
            flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)
            yield contents, flat.reshape(len(contents), -1)

    def stream(
        self, name: str, columns: Sequence[str], where: str, rows: int
    ) -> Iterator[pa.RecordBatch]:
        """As :meth:`read_arrow`, so many rows at a time."""
        if not self._there(name):
            return
        query = self.table(name).search()
        if where:
            query = query.where(where)
        with self._engine(f"read {name} from"):
            yield from query.select(list(columns)).to_batches(batch_size=rows)

    def row_ids(self, name: str, where: str = "") -> pl.DataFrame:
        """The key of each row that matches, and its ``_rowid``, by which :meth:`take` finds it.

        An id holds until the table is written to or tidied.
        """
        if not self._there(name):
            return pl.DataFrame(schema={"_key": pl.String, "_rowid": pl.UInt64})
        table = self.table(name)
        query = table.search()
        if where:
            query = query.where(where)
        with self._engine(f"read {name} from"):
            key = schema.key_of(table.schema)
            found = query.select([key]).with_row_id(True).to_arrow()
        return pl.DataFrame({"_key": pl.from_arrow(found[key]), "_rowid": found["_rowid"]})

    def take(self, name: str, columns: Sequence[str], ids: Sequence[int]) -> pa.Table:
        """Rows by their ids (:meth:`row_ids`), in no order that means anything.

        45 microseconds a row of 15 kB. A thousand rows by key take 50 ms and a look at the keys of
        all rows.
        """
        with self._engine(f"read {name} from"):
            return plain(self.table(name).take_row_ids(list(ids)).select(list(columns)).to_arrow())

    def search_vectors(
        self, name: str, queries: npt.NDArray[np.float32], limit: int, probes: int
    ) -> pa.Table:
        """What the index finds: query_index, content, vector, in no order that means anything."""
        with self._engine(f"search {name} in"):
            query = self.table(name).search(queries, vector_column_name="vector")
            query = query.distance_type("dot").nprobes(probes).limit(limit)
            found = query.select(["content", "vector", "_distance"]).to_arrow()
        if "query_index" not in found.schema.names:  # of a single query
            found = found.append_column("query_index", pa.array([0] * len(found), pa.int32()))
        return found

    # ---- the past ----------------------------------------------------------------------------

    def versions(self, names: Iterable[str]) -> dict[str, int]:
        """The present version of each of these tables; 0 where there is no such table yet."""
        with self._engine("look up the versions of"):
            return {
                name: int(self.table(name).version) if self._there(name) else 0 for name in names
            }

    def at(self, versions: dict[str, int]) -> tuple[Catalog, list[str]]:
        """The catalog as it was at these versions, to read from only.

        Args:
            versions: table to version; other tables are seen as they are now.

        Returns:
            The view, and the tables whose version was tidied away: they are seen as they are now.
        """
        view, lost = copy.copy(self), []
        view._tables, view._names = dict(self._tables), set(self._names)
        view._held = Held()  # that nobody holds: a view is not written to
        for name, version in versions.items():
            if version == 0:
                view._names.discard(name)
                continue
            try:
                table = self._db.open_table(name)
                table.checkout(version)
            except (RuntimeError, ValueError, OSError):
                lost.append(name)
            else:
                view._tables[name] = table
        return view, lost

    # ---- upkeep ------------------------------------------------------------------------------

    def duplicate_keys(self, *, written: bool = False) -> dict[str, int]:
        """How many surplus rows each table has; empty when every key is unique, as it must be.

        Args:
            written: look only at the tables that this process has written since it looked last. A
                million assets have tens of millions of keys, most in tables that a scan only reads.
        """
        surplus = {}
        looked = self._names & self._held.written if written else self._names
        for name in filter(self._there, sorted(looked)):
            keys = self.read_arrow(name, [schema.key_of(self.table(name).schema)]).column(0)
            if extra := len(keys) - pc.count_distinct(keys).as_py():
                surplus[name] = extra
        self._held.written.difference_update(looked - surplus.keys())
        return surplus

    def tidy(
        self, *, rebuild: bool = False, only_grown: bool = False, keep_days: float = 7
    ) -> list[str]:
        """Compact tables that have many fragments; with ``rebuild`` all small ones, indexed anew.

        Old versions stay for ``keep_days``, for readers at work and for looking back. So each call
        leaves the former rows of what it compacts on the disk. Who calls often says ``only_grown``:
        then a table must have grown by a quarter, or have very many fragments, and what is left
        behind stays below five times the table.

        Returns:
            The tables that were compacted.
        """
        done = []
        with self._engine("tidy"):
            for name in filter(self._there, sorted(self._names)):
                table = self.table(name)
                if rebuild:
                    for column, kind in schema.INDEXES.get(name, {}).items():
                        if table.count_rows():
                            table.create_index(column, config=_INDEX[kind](), replace=True)
                vectors = name.startswith("vectors_")
                if (
                    (rebuild and name not in _BULKY)
                    or _scattered(table, only_grown=only_grown)
                    or (vectors and index_due(table))
                ):
                    table.optimize(cleanup_older_than=timedelta(days=keep_days))
                    done.append(name)
                    if vectors:
                        index_vectors(table)
        self._sweep()
        return done

    def _sweep(self) -> None:
        if self.on_s3:
            return  # there, half-written files are multipart uploads: a lifecycle rule's work
        old = time.time() - _STALE_SECONDS
        for path in Path(self.uri).rglob(".tmp*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < old:
                    path.unlink()
                    log.info("removed a half-written file of a killed process: %s", path)

    def _list(self) -> set[str]:
        return set(self._db.list_tables(limit=10_000).tables)

    def _open(self) -> None:
        """Read the tables' names and check the version, with patience for another's first scan."""
        for pause in (0.1, 0.3, 1.0):
            with contextlib.suppress(ValueError, RuntimeError):  # ``about`` is being made
                self._names = self._list()
                return self._check_version()
            time.sleep(pause)
        # Nobody makes ``about`` any more: whoever began it has died.
        self._names = self._list()
        for name in sorted(self._names):
            self._there(name)  # forgets what was not made to its end
        return self._check_version()

    def _check_version(self) -> None:
        if "about" in self._names:
            self.standing = migrations.read_standing(self._db, self.uri)
            migrations.refuse_unknown(self.standing, schema.SCHEMA_VERSION, self.uri)
            return
        if self._names:
            raise CatalogError(f"{self.uri} holds tables that are not a dam-dedup catalog")
        release = migrations.this_release()
        row = {"name": "dam-dedup", "schema_version": schema.SCHEMA_VERSION, "release": release}
        self._db.create_table("about", pa.Table.from_pylist([row], schema.ABOUT), exist_ok=True)
        self._names.add("about")
        self.standing = migrations.Standing(schema.SCHEMA_VERSION, release=release)


def plain(table: pa.Table) -> pa.Table:
    """JSON columns as text, which polars takes without a warning."""
    columns = []
    for column in table.columns:
        kind = column.type
        columns.append(column.cast(pa.string()) if isinstance(kind, pa.JsonType) else column)
    return pa.table(dict(zip(table.schema.names, columns, strict=True)))


def _scattered(table: Any, *, only_grown: bool) -> bool:
    """Whether a table has so many fragments that it should be compacted."""
    stats = table.stats()
    found = stats["fragment_stats"]
    many = found["num_fragments"] > _FRAGMENTS
    grown = 1.25 * found["lengths"]["max"] <= stats["num_rows"]
    return many and (not only_grown or grown or found["num_fragments"] > _VERY_MANY)


def _in(column: str, keys: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(quote(key) for key in keys)})"

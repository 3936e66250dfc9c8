"""The collections that compatible clients name: pages of their documents, single ones, deletes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from deployments.gate.compat_words import Select, response, row_doc
from deployments.gate.problems import Problem, wrong
from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import select_sql
from tasks.catalog.fq import fq_to_sql
from tasks.session import open_catalog, open_source
from tasks.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: The columns of the table of assets that a document is made of.
_COLUMNS = [
    "key",
    "asset_id",
    "source",
    "name",
    "etag",
    "size",
    "last_modified",
    "content_type",
    "format",
    "label",
    "tags",
    "metadata",
    "sha256",
    "content",
    "width",
    "height",
]


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection.

    Attributes:
        uri: its source.
        gated: whether it lives in the catalog alone.
    """

    name: str
    uri: str
    gated: bool
    settings: Settings

    def page(self, wanted: Select) -> dict[str, Any]:
        """One page of documents; where a cursor was sent, also the cursor of the next page."""
        catalog = open_catalog(self.settings)
        where = self._sql(self.filter_of(wanted.fq))
        if wanted.rows == 0:
            found = response(catalog.count("assets", where), wanted.start, [], None)
            return {**found, **({"nextCursorMark": wanted.cursor} if wanted.cursor else {})}
        if wanted.cursor:
            return self._after(catalog, where, wanted)
        by = dict(reversed([*wanted.sort, ("key", False)]))  # of a field named twice, the first
        order = {name: by[name] for name, _ in [*wanted.sort, ("key", False)]}
        keys = catalog.read("assets", [*order], where)
        keys = keys.sort([*order], descending=[*order.values()], nulls_last=True)
        page = keys["key"].slice(wanted.start, wanted.rows).to_list()
        return response(keys.height, wanted.start, self._docs(catalog, page, wanted.fl), None)

    def filter_of(self, fq: Sequence[str]) -> str:
        """One filter of filter queries, which may name fields that documents brought themselves.

        Raises:
            FilterError: naming the query; also for a field that no document has.
        """
        return fq_to_sql(fq, own=self._has)

    def _has(self, field: str) -> bool:
        there = select_sql(f'metadata."{field.replace(chr(34), chr(34) * 2)}" IS NOT NULL')
        return (
            self.gated
            and open_catalog(self.settings).count("assets", f"{self._sql('')} AND {there}") > 0
        )

    def find(self, name: str, where: str) -> tuple[dict[str, Any], bool]:
        """An asset by key or asset id, and whether a filter lets it pass.

        Raises:
            Problem: 404 when there is none.
        """
        catalog = open_catalog(self.settings)
        named = f"(key = {quote(name)} OR asset_id = {quote(name)})"
        rows = catalog.read("assets", _COLUMNS, f"{self._sql('')} AND {named}")
        if rows.is_empty():
            raise Problem(
                404,
                "not_found",
                f"the collection {self.name!r} has no asset {name[:200]!r}",
                "Name an asset that is there, or /update first",
            )
        row = rows.sort(pl.col("key") == name, descending=True).row(0, named=True)
        mine = f"asset_id = {quote(row['asset_id'])}"
        passes = not where or catalog.count("assets", f"{self._sql(where)} AND {mine}") > 0
        return row, passes

    def keys_to_delete(self, wanted: Any) -> list[str] | None:
        """The keys of a delete: by id, by ids, or by query; None for all of them."""
        if isinstance(wanted, str):
            return [wanted]
        if isinstance(wanted, list) and all(isinstance(one, str) for one in wanted):
            return list(wanted)
        if isinstance(wanted, dict):
            name, query = wanted.get("id"), wanted.get("query")
            if isinstance(name, str | list) and query is None:
                return self.keys_to_delete(name)
            if isinstance(query, str) and name is None and query.strip():
                if query.strip() == "*:*":
                    return None
                where = self._sql(self.filter_of([query]))
                return open_catalog(self.settings).read("assets", ["key"], where)["key"].to_list()
        raise wrong("the delete names nothing", 'Send {"delete": {"query": "*:*"}} or {"id": ...}')

    def _after(self, catalog: Catalog, where: str, wanted: Select) -> dict[str, Any]:
        total = catalog.count("assets", where)
        rest, falling = where, wanted.sort[0][1]
        if wanted.cursor != "*":
            rest += f" AND key {'<' if falling else '>'} {quote(_key(wanted.cursor))}"
        keys = catalog.read("assets", ["key"], rest)["key"]
        page = keys.sort(descending=falling).head(wanted.rows).to_list()
        mark = _mark(page[-1]) if page else wanted.cursor
        return {
            **response(total, 0, self._docs(catalog, page, wanted.fl), None),
            "nextCursorMark": mark,
        }

    def _docs(self, catalog: Catalog, keys: list[str], fl: tuple[str, ...]) -> list[dict[str, Any]]:
        if fl == ("id",):
            return [{"id": key} for key in keys]
        if not keys:
            return []
        listed = ", ".join(quote(key) for key in keys)
        rows = catalog.read("assets", _COLUMNS, f"{self._sql('')} AND key IN ({listed})")
        docs = {row["key"]: row_doc(row, fl, score=None) for row in rows.iter_rows(named=True)}
        return [docs[key] for key in keys if key in docs]

    def _sql(self, where: str) -> str:
        source = open_source(self.uri, self.settings)
        parts = [f"source = {quote(source.id)}", "removed_at IS NULL", "content IS NOT NULL"]
        if source.prefix:
            parts.append(f"starts_with(key, {quote(source.prefix)})")
        if where:
            parts.append(select_sql(where))
        return " AND ".join(f"({part})" for part in parts)


def find_collection(name: str, settings: Settings) -> Collection:
    """The collection of a name.

    Raises:
        Problem: 404 when it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise Problem(
            404,
            "not_found",
            "there is no such collection",
            "A name has 64 characters at most: letters, digits, and . _ -",
        )
    if name == settings.collection and settings.source.uri:
        return Collection(name, settings.source.uri, False, settings)
    return Collection(name, f"gate://{name}", True, settings)


def _mark(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def _key(mark: str) -> str:
    try:
        data = base64.b64decode(mark + "=" * (-len(mark) % 4), altchars=b"-_", validate=True)
        return data.decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        raise wrong("the cursorMark is none of ours", "Begin with cursorMark=*") from None

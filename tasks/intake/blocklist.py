"""The blocklist: pictures that must not come in, known by hashes and vectors without an image.

Equal bytes and equal pixels are certain. A picture that only resembles an entry is near it by
perceptual hash and by vector; since no pixels are kept to compare, it is told as unverified.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.resemblance import COSINE, PHASH_DISTANCE, resembling
from tasks.errors import CatalogError, SettingsError
from tasks.intake.alerts import BLOCKLIST, COLUMNS, PAIR, Alert, read_alerts
from tasks.queries.vectors import vectors_by_content
from tasks.records import Analysis, Scan, digest, now
from tasks.session import open_catalog, open_source, pa_table, scope_sql
from tasks.settings import Settings

__all__ = ["Alert", "Suspect", "block", "block_asset", "find_alerts", "list_blocked", "unblock"]

#: Flags of pictures that nothing is said to resemble: those of one colour and tiny ones have the
#: hash and vector of many others, whatever they show.
_PLAIN = frozenset({"flat", "tiny"})
_ENTRY = [
    "sequence",
    "entry_id",
    "name",
    "sha256",
    "content",
    "phash",
    "featureless",
    "reason",
    "rule",
    "by",
    "at",
    "removed_at",
    "removed_by",
]
_NO_HASH = 0

Vector = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Suspect:
    """One picture that is compared with the blocklist, or is put on it, by its hashes.

    Attributes:
        name: its key, or the file's name.
        plain: whether it has one of the flags above, and is only compared by bytes and pixels.
        vectors: space id to unit vector.
    """

    name: str
    source: str
    sha256: str
    content: str
    phash: int
    plain: bool = False
    vectors: dict[str, Vector] = field(default_factory=dict)


def suspect_of(analysis: Analysis, name: str, source: str = "") -> Suspect:
    """An analysed image, as it is compared with the list."""
    picture = analysis.picture
    return Suspect(
        name,
        source,
        picture.sha256,
        picture.content,
        picture.phash,
        not _PLAIN.isdisjoint(picture.flags),
        {analysis.space.id: analysis.vector},
    )


def block(
    settings: Settings, analysis: Analysis, *, reason: str, rule: str, by: str, name: str = ""
) -> str:
    """Put an analysed image on the blocklist; returns the entry's id.

    A picture that is on the list under the same rule already gets no second entry.

    Raises:
        SettingsError: when reason, rule or person is missing.
    """
    return _add(settings, suspect_of(analysis, name), reason=reason, rule=rule, by=by)


def block_asset(settings: Settings, name: str, *, reason: str, rule: str, by: str) -> str:
    """Put an asset of the catalog on the blocklist, by its key or id; returns the entry's id.

    Raises:
        CatalogError: when the catalog knows no such asset, or several.
    """
    catalog = open_catalog(settings)
    columns = ["asset_id", "source", "key", "sha256", "content", "phash", "flags"]
    where = f"content IS NOT NULL AND (key = {quote(name)} OR asset_id = {quote(name)})"
    found = catalog.read("assets", columns, where)
    if found.height != 1:
        several = "is in several sources: give its asset id" if found.height else "is not known"
        raise CatalogError(f"{name!r} {several}; a scan brings assets into the catalog")
    row = found.row(0, named=True)
    suspect = Suspect(
        row["key"],
        row["source"],
        row["sha256"],
        row["content"],
        row["phash"] or _NO_HASH,
        not _PLAIN.isdisjoint(row["flags"] or []),
        _vectors_of(catalog, row["content"]),
    )
    return _add(settings, suspect, reason=reason, rule=rule, by=by)


def unblock(settings: Settings, entry_id: str, *, by: str) -> str:
    """Take an entry off the list, by its id or how that begins; its row stays, for the record.

    Raises:
        CatalogError: when no entry, or several, begin so.
    """
    if not by.strip():
        raise SettingsError("say who takes it off (--by NAME): it is kept with the entry")
    catalog = open_catalog(settings)
    with catalog.writing(settings.catalog.busy_seconds):
        found = _entries(catalog).filter(pl.col("entry_id").str.starts_with(entry_id.strip()))
        if found.height != 1 or not entry_id.strip():
            raise CatalogError(
                f"{found.height} entries of the blocklist begin with {entry_id!r}; "
                "`dam-dedup blocklist list` shows them"
            )
        name = str(found["entry_id"][0])
        row = {"entry_id": name, "removed_at": now(), "removed_by": by.strip()}
        catalog.upsert("blocklist", pa_table([row], schema.BLOCKLIST_REMOVAL))
    return name


def list_blocked(settings: Settings, *, removed: bool = False) -> pl.DataFrame:
    """The entries in the order in which they came; with ``removed`` also those taken off."""
    catalog = open_catalog(settings)
    return catalog.read("blocklist", _ENTRY) if removed else _entries(catalog)


def find_alerts(
    catalog: Catalog, suspects: Sequence[Suspect], space: str, *, after: int = 0
) -> list[Alert]:
    """The alerts that pictures raise: one for each entry, by the surest way in which they match.

    Args:
        catalog: that holds the list.
        suspects: what is compared with it.
        space: whose vectors are compared.
        after: only entries later than this sequence number.
    """
    entries = _entries(catalog).filter(pl.col("sequence") > after)
    if entries.is_empty() or not suspects:
        return []
    rows = entries.to_dicts()
    found: dict[tuple[int, int], Alert] = {}
    for at, number, distance, cosine in _resembling(catalog, suspects, rows, space):
        found[at, number] = _alert(
            suspects[at],
            rows[number],
            "resembles",
            cosine,
            f"perceptual hashes {distance} of 64 bits apart (limit {PHASH_DISTANCE}), cosine "
            f"{cosine:.2f} (limit {COSINE}); unverified, the entry's pixels are not kept",
            {"phash_distance": distance, "cosine": round(cosine, 4)},
        )
    equal = (("content", "equal pixels"), ("sha256", "equal bytes"))  # the surer one last
    for column, relation in equal:
        by_value: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            by_value.setdefault(row[column], []).append(number)
        for at, suspect in enumerate(suspects):
            for number in by_value.get(getattr(suspect, column), []):
                found[at, number] = _alert(suspect, rows[number], relation, 1.0, relation, {})
    return [found[place] for place in sorted(found)]


def scan_alerts(catalog: Catalog, scan: Scan) -> pl.DataFrame:
    """The alerts of what is in scope, whose entry is still on the list, the latest first.

    Returns:
        The columns of ``alerts``, and state: ``new`` where this scan raised it.
    """
    found = read_alerts(catalog)
    if found.is_empty():
        return found.with_columns(pl.lit("").alias("state"))
    source = open_source(scan.source, scan.settings)
    here = catalog.read("assets", ["content"], scope_sql(scan, source)).drop_nulls()
    entries = list_blocked(scan.settings)["entry_id"]
    listed = (pl.col("kind") == PAIR) | pl.col("entry_id").is_in(entries.implode())
    state = pl.when(pl.col("scan_id") == scan.id).then(pl.lit("new")).otherwise(pl.lit("known"))
    return (
        found.join(here.unique(), left_on="left_content", right_on="content", how="semi")
        .filter(listed)
        .select(*COLUMNS, state.alias("state"))
        .sort("sequence", descending=True)
    )


def last_entry(catalog: Catalog) -> int:
    """The sequence number of the latest entry; 0 when there is none."""
    entries = _entries(catalog)
    return int(entries["sequence"].max() or 0) if entries.height else 0  # type: ignore[arg-type]


def _entries(catalog: Catalog) -> pl.DataFrame:
    return catalog.read("blocklist", _ENTRY, "removed_at IS NULL")


def _add(settings: Settings, suspect: Suspect, *, reason: str, rule: str, by: str) -> str:
    for value, option in ((reason, "--reason"), (rule, "--rule"), (by, "--by")):
        if not value.strip():
            raise SettingsError(f"the blocklist keeps why and who: give {option}")
    catalog = open_catalog(settings)
    with catalog.writing(settings.catalog.busy_seconds):
        same = _entries(catalog).filter(
            (pl.col("content") == suspect.content) & (pl.col("rule") == rule.strip())
        )
        sequence = time.time_ns()
        fresh = digest(suspect.content, rule.strip(), str(sequence))
        entry_id = str(same["entry_id"][0]) if same.height else fresh
        vectors = [
            {
                "vector_id": digest(entry_id, space),
                "entry_id": entry_id,
                "space": space,
                "vector": vector,
            }
            for space, vector in sorted(suspect.vectors.items())
        ]
        # Vectors are written first, so that no entry is ever there without them.
        catalog.upsert("blocklist_vectors", pa_table(vectors, schema.BLOCKLIST_VECTORS))
        row = {
            "entry_id": entry_id,
            "sequence": sequence,
            "name": suspect.name,
            "sha256": suspect.sha256,
            "content": suspect.content,
            "phash": suspect.phash,
            "featureless": suspect.plain,
            "reason": reason.strip()[:2000],
            "rule": rule.strip()[:200],
            "by": " ".join(by.split())[:200],
            "at": now(),
        }
        if same.is_empty():
            catalog.upsert("blocklist", pa_table([row], schema.BLOCKLIST))
    return entry_id


def _vectors_of(catalog: Catalog, content: str) -> dict[str, Vector]:
    """A content's vectors in all spaces that the catalog knows."""
    found = {}
    for space in catalog.read("spaces", ["space"])["space"]:
        rows = vectors_by_content(catalog, space, [content])
        if content in rows:
            found[space] = rows[content]
    return found


def _resembling(
    catalog: Catalog, suspects: Sequence[Suspect], rows: list[dict[str, Any]], space: str
) -> Iterable[tuple[int, int, int, float]]:
    """Pairs that are near by hash and vector: suspect, entry (numbers), hash distance, cosine."""
    ours = [at for at, one in enumerate(suspects) if space in one.vectors and not one.plain]
    places = {row["entry_id"]: number for number, row in enumerate(rows) if not row["featureless"]}
    table = catalog.read_arrow(
        "blocklist_vectors", ["entry_id", "vector"], f"space = {quote(space)}"
    )
    kept = [
        (places[entry], vector)
        for entry, vector in zip(
            table["entry_id"].to_pylist(), table["vector"].to_pylist(), strict=True
        )
        if entry in places
    ]
    if not ours or not kept:
        return
    found = resembling(
        np.array([suspects[at].phash for at in ours], np.uint64),
        np.stack([suspects[at].vectors[space] for at in ours]),
        np.array([rows[number]["phash"] for number, _ in kept], np.uint64),
        np.array([vector for _, vector in kept], np.float16),
    )
    for row, column, distance, cosine in found:
        yield ours[row], kept[column][0], distance, cosine


def _alert(
    suspect: Suspect,
    entry: dict[str, Any],
    relation: str,
    score: float,
    evidence: str,
    detail: dict[str, Any],
) -> Alert:
    return Alert(
        kind=BLOCKLIST,
        rule=entry["rule"],
        entry_id=entry["entry_id"],
        reason=entry["reason"],
        left_source=suspect.source,
        left=suspect.name,
        left_content=suspect.content,
        right_source="blocklist",
        right=entry["name"],
        right_content=entry["content"],
        relation=relation,
        score=score,
        evidence=evidence,
        detail=detail,
    )

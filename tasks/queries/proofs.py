"""The proofs of pairs of contents, as the catalog keeps them, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
import pyarrow as pa

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.originals import SAME, UNREADABLE, no_proofs, proof_rule, with_proofs
from tasks.dedup.verify import rule_id
from tasks.queries.comparison import Proven
from tasks.queries.pair_answers import PAIR_COLUMNS
from tasks.records import digest, now

_SIDES = ("left", "right")
_COLUMNS = (*_SIDES, "verdict", "box", "message")
_KEPT: dict[str, Any] = dict(no_proofs().schema) | {"message": pl.String}
#: The columns of answers with their proofs.
ANSWERED = PAIR_COLUMNS | {"claim": pl.Float32, "proof": pl.String}


class KnownProofs:
    """The proofs under the present rule, read from the catalog once.

    A proof of ``same`` holds whatever rule verified the pair. Another verdict may be that of a fit
    that was wrong, so it counts only while pairs are verified by the rule of then.

    Args:
        catalog: where they are.
        content: read only the proofs of this content; empty: all.
        again: leave out what could not be read, so that it is tried again.
    """

    def __init__(self, catalog: Catalog, content: str = "", *, again: bool = False) -> None:
        where = (
            f"rule = {quote(proof_rule())} AND "
            f"(verdict = {quote(SAME)} OR verified_by = {quote(rule_id())})"
        )
        if again:
            where += f" AND verdict != {quote(UNREADABLE)}"
        if content:
            name = quote(content)
            where += f" AND (left = {name} OR right = {name})"
        rows = pl.DataFrame(pl.from_arrow(catalog.read_arrow("proofs", _COLUMNS, where)))
        self._rows = rows.cast(_KEPT)

    @property
    def rows(self) -> pl.DataFrame:
        """left, right, verdict, box, message (why a file could not be read, or null)."""
        return self._rows

    def of(self, answers: pl.DataFrame) -> pl.DataFrame:
        """Answers (left, right, score, evidence) as :func:`with_proofs` settles them."""
        if answers.is_empty():
            return pl.DataFrame(schema=ANSWERED)
        return with_proofs(answers, self._rows)

    def after(self, ask: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[..., pl.DataFrame]:
        """A function from pairs to their answers, with proofs: those known when it is called."""
        return lambda wanted: self.of(ask(wanted))

    def missing(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The pairs (left, right, ...) without a proof."""
        return pairs.join(self._rows, on=_SIDES, how="anti", maintain_order="left")

    def add(self, rows: pa.Table) -> None:
        """Add proofs that were just made, as they are written to the catalog."""
        new = pl.DataFrame(pl.from_arrow(rows.select(_COLUMNS)))
        self._rows = pl.concat([self._rows, new.cast(_KEPT)])


def proof_rows(found: Iterable[Proven]) -> pa.Table:
    """Proofs as rows of the catalog; those of files that may be readable later are left out."""
    time = now()
    rows = [
        {
            "proof_id": digest(one.left, one.right),
            "left": one.left,
            "right": one.right,
            "rule": proof_rule(),
            "verified_by": rule_id(),
            "verdict": one.verdict,
            "box": list(one.box),
            "excess": one.excess,
            "bytes": one.bytes,
            "message": one.message or None,
            "at": time,
        }
        for one in found
        if one.verdict
    ]
    return pa.Table.from_pylist(rows, schema.PROOFS)

"""The order of what people said and what was done, whatever the clocks of their machines."""

from __future__ import annotations

from tasks.catalog.catalog import Catalog


def next_sequence(catalog: Catalog) -> int:
    """One more than any row of the journal and any verdict has; needs the writer's lease.

    A clock may go back, and other machines have other clocks. Older releases numbered by
    nanoseconds since 1970; the numbers go on from there.
    """
    found = [
        catalog.read(table, ["sequence"])["sequence"].max() for table in ("journal", "verdicts")
    ]
    return max((int(last) for last in found if isinstance(last, int)), default=0) + 1

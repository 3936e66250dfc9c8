"""From the journal in a bucket into a catalog: the steps of a plan that the catalog does not know.

Another catalog may have recovered the plan from the bucket and undone it since. And a process that
died between its two writes of one step left it in the bucket alone.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog
from tasks.errors import MergeError
from tasks.merging.bucket_journal import BucketJournal
from tasks.merging.journal import read_events
from tasks.merging.rules.plans import Plan
from tasks.queries.sequence import next_sequence
from tasks.session import pa_table

log = logging.getLogger(__name__)


def catch_up(
    catalog: Catalog, plan: Plan, book: BucketJournal, wait: float, *, undoing: bool = False
) -> None:
    """Bring what the bucket knows of a plan's steps into the catalog, before anything is done.

    Where the catalog knows all, names are listed and nothing is read. Call it while the bucket's
    lease is held: nobody else adds a step then.

    Args:
        catalog: which may lack steps.
        plan: the plan.
        book: its journal in the bucket.
        wait: seconds, for another who writes to the catalog.
        undoing: go on where something else lies among the steps: what a merge took away must not
            stay away for that.

    Raises:
        MergeError: when something among the steps is not what a merge wrote.
        SourceError: when the journal cannot be read.
    """
    known = set(read_events(catalog, plan).select("sequence", "event").iter_rows())
    if known.issuperset(book.steps()):
        return
    try:
        rows = book.rows()
    except MergeError as error:
        if not undoing:
            raise MergeError(f"plan {plan.id}: {error}; nothing was done") from error
        log.error("plan %s: %s", plan.id, error)
        return
    with catalog.writing(wait):
        add_rows(catalog, rows)


def add_rows(catalog: Catalog, rows: Sequence[dict[str, Any]]) -> None:
    """Add the rows of a plan in the order in which the bucket has them.

    Each catalog counts by itself: where two worked on one plan, their numbers say nothing of which
    came first. The fence of the bucket's lease does, by which the rows are sorted here; where that
    is another order, all get new numbers.
    """
    numbers = [row["sequence"] for row in rows]
    ids = [row["event_id"] for row in rows]
    known = dict(catalog.read_keys("journal", ["event_id", "sequence"], ids).iter_rows())
    if len(known) == len(rows):  # the same step under another number
        return
    numbers = [known.get(name, number) for name, number in zip(ids, numbers, strict=True)]
    in_order = all(one < other for one, other in itertools.pairwise(numbers))
    if not in_order:
        first = next_sequence(catalog)
        rows = [row | {"sequence": first + at} for at, row in enumerate(rows)]
    catalog.upsert("journal", pa_table(list(rows), schema.JOURNAL), only_new=in_order)

"""One hand at a time on a bucket, whatever catalog, machine or release it belongs to.

A catalog's own lease knows nothing of another catalog of the same bucket: with the keepers the
other way round, two of them removed both copies of 12 of 12 pictures. So a merge, an undo and an
emptying of the quarantine also hold a lease object in the bucket itself, and each request that
takes something away is made only while that lease is surely ours until the request has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tasks.catalog.lease import lease_wanted, s3_lease
from tasks.errors import CatalogBusyError, CatalogError, MergeError
from tasks.merging.bucket_register import register_catalog
from tasks.merging.late_hands import note_late_hand
from tasks.settings import Settings
from tasks.sources.places import OUR_PREFIX
from tasks.sources.s3 import client_for
from tasks.sources.store import Store

_NAME = "merge"


def bucket_wanted(store: Store, settings: Settings) -> contextlib.AbstractContextManager[None]:
    """Inside the block, waiting for the catalog also counts as waiting for the bucket."""
    return lease_wanted(client_for(settings.s3), _place(store), _NAME)


def _place(store: Store) -> str:
    return f"s3://{store.bucket}/{OUR_PREFIX.rstrip('/')}"


@contextlib.contextmanager
def bucket_turn(store: Store, settings: Settings) -> Iterator[None]:
    """Hold the bucket while the block runs; the store then writes under the lease alone.

    Args:
        store: of the bucket.
        settings: how to reach it, and how long to wait for another (``scan_wait_seconds``).

    Raises:
        MergeError: when another holds it for longer, or the bucket can hold no lease.
    """
    with contextlib.ExitStack() as stack:
        try:
            # A client of its own: the store's asks the lease before it writes.
            lease = stack.enter_context(
                s3_lease(
                    client_for(settings.s3),
                    _place(store),
                    settings.catalog.scan_wait_seconds,
                    _NAME,
                    keep=True,
                )
            )
        except CatalogBusyError as error:
            raise MergeError(f"somebody else merges in s3://{store.bucket}: {error}") from error
        except CatalogError as error:
            raise MergeError(f"nothing was done: {error}") from error
        store.lease = lease
        try:
            note_late_hand(store, lease)
            register_catalog(store, settings)
            yield
        finally:
            store.lease = None

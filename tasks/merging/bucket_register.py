"""Which catalogs merge in a bucket, kept in the bucket itself, so that they see one another.

Below ``.dam-dedup/catalogs/`` there is one object for each catalog that ever merged, undid or
emptied a quarantine here: where it is, which release wrote it last, and under which fence of the
bucket's lease. The larger fence was here later, whatever the clocks say.
"""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.catalog.migrations.run import this_release
from tasks.errors import MergeError, SourceError
from tasks.records import digest
from tasks.settings import Settings
from tasks.sources.places import OUR_PREFIX
from tasks.sources.store import Store

log = logging.getLogger(__name__)

CATALOGS_PREFIX = f"{OUR_PREFIX}catalogs/"
#: The form of what merges keep in a bucket: lease, journal, places, this register.
NOTES_FORMAT = 1
_MOST = 64 * 1024


@dataclass(frozen=True, slots=True)
class KnownCatalog:
    """One catalog that merges in a bucket.

    Attributes:
        place: its URI; of a folder, with the machine's name before it.
        release: of the program that worked here last for it.
        format: of what that release keeps in the bucket.
        fence: of the bucket's lease, when it last worked here; the largest was here last.
        region: what was set for the store then.
    """

    place: str
    release: str
    format: int
    fence: int
    region: str


def catalog_place(settings: Settings) -> str:
    """What a catalog is called in the register."""
    uri = settings.catalog.uri.rstrip("/")
    if uri.startswith("s3://"):
        return uri
    return f"{socket.gethostname()}:{Path(uri).resolve()}"


def register_catalog(store: Store, settings: Settings) -> None:
    """Enter the settings' catalog into the bucket's register, or bring its entry up to date.

    Every write is conditional, and made under the bucket's lease.

    Raises:
        MergeError: when a newer release merges here, whose notes this one does not know.
        SourceError: when the register cannot be read or written.
    """
    place = catalog_place(settings)
    known = read_register(store)
    newest = max(known, key=lambda one: one.format, default=None)
    if newest is not None and newest.format > NOTES_FORMAT:
        raise MergeError(
            f"release {newest.release} merges in s3://{store.bucket}, for the catalog "
            f"{newest.place}, and keeps notes there that this release does not know: upgrade"
        )
    others = [one.place for one in known if one.place != place]
    if others:
        log.info("other catalogs merge in s3://%s too: %s", store.bucket, ", ".join(others))
    fence = store.lease.fence if store.lease is not None else 0
    mine = KnownCatalog(
        place, this_release(), NOTES_FORMAT, fence, str(store.client.meta.region_name or "")
    )
    body = json.dumps(asdict(mine), ensure_ascii=False).encode()
    key = f"{CATALOGS_PREFIX}{digest(place)}.json"
    store.put(key, body, expected=store.state(key).etag, content_type="application/json")


def read_register(store: Store) -> list[KnownCatalog]:
    """Every catalog that ever merged in a bucket, the last one first.

    Raises:
        SourceError: when the bucket cannot be listed or read.
    """
    found = []
    for key, _ in store.listed(CATALOGS_PREFIX):
        try:
            said: dict[str, Any] = json.loads(store.read(key, store.state(key).etag, _MOST))
            found.append(
                KnownCatalog(
                    str(said["place"]),
                    str(said["release"]),
                    int(said["format"]),
                    int(said["fence"]),
                    str(said["region"]),
                )
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise SourceError(
                f"{key!r} in s3://{store.bucket} is no entry of the register ({error}): look at "
                "it, and remove it"
            ) from error
    return sorted(found, key=lambda one: one.fence, reverse=True)

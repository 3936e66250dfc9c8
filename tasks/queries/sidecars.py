"""Sidecars, read in decoder processes: one sidecar that cannot be read costs what it says, no more.

The processes are shared by all that this process does, started at the first sidecar, and end with
it.
"""

from __future__ import annotations

import atexit
import logging
import threading
from dataclasses import dataclass

from tasks.embedding.decoder import DecoderPool
from tasks.embedding.sidecar_facts import SidecarFacts
from tasks.errors import ImageError, SourceError
from tasks.settings import LimitSettings, Settings
from tasks.sources.base import Source

log = logging.getLogger(__name__)

#: The largest sidecar that is read, in bytes; a larger file is no XMP.
SIDECAR_BYTES = 4 * 1024**2
#: Decoder processes for sidecars: each takes milliseconds.
_WORKERS = 1


@dataclass(frozen=True, slots=True)
class SidecarsRead:
    """What the sidecars of one asset say.

    Attributes:
        fields: their fields; of two that name one field, the first sidecar's.
        unread: keys of those that could not be read, with the reason.
    """

    fields: dict[str, str]
    unread: dict[str, str]


_pools: dict[str, DecoderPool] = {}
_lock = threading.Lock()


def sidecar_pool(limits: LimitSettings) -> DecoderPool:
    """The decoder processes for sidecars under these limits."""
    name = limits.model_dump_json()
    with _lock:
        if name not in _pools:
            _pools[name] = DecoderPool(limits, 32, _WORKERS)
            atexit.register(_pools[name].stop)
        return _pools[name]


def parse_sidecar(settings: Settings, key: str, data: bytes) -> SidecarFacts:
    """What the bytes of a sidecar say.

    Raises:
        ImageError: with the reason.
    """
    if len(data) > SIDECAR_BYTES:
        raise ImageError("bad_sidecar", f"it is larger than {SIDECAR_BYTES} bytes")
    return sidecar_pool(settings.limits).read_sidecar(key, data)


def read_sidecars(source: Source, settings: Settings, keys: list[str]) -> SidecarsRead:
    """The fields of the XMP sidecars among an asset's; what cannot be read is named and logged."""
    fields: dict[str, str] = {}
    unread: dict[str, str] = {}
    for key in keys:
        try:
            data = source.read(key, source.probe(key).etag, SIDECAR_BYTES)
            fields = parse_sidecar(settings, key, data).fields | fields
        except (SourceError, ImageError) as error:  # no failure of its asset
            log.warning("sidecar %r is left out: %s", key, error)
            unread[key] = str(error)
    return SidecarsRead(fields, unread)

"""Every error this project raises on purpose.

    DamDedupError
    ├── SettingsError        a setting is wrong; names the variable
    ├── FilterError          a --where text is wrong; names the column
    ├── SourceError          the storage said no
    │   ├── IncompleteScanError    a scan's report is kept, but too many images are missing in it
    │   ├── TransientSourceError   trying again may help (throttled, timed out, unreachable)
    │   ├── AssetChangedError      the object is not the one that was listed
    │   ├── AssetGoneError         the object is no longer there
    │   └── StoreRefusedError      the storage forbids a write; names the permission
    ├── PolicyError          a policy file is wrong; names line and key
    ├── MergeError           a merge, an approval or an undo cannot go on; nothing more is touched
    ├── ImageError           bytes that give no picture; carries a reason code
    ├── AnalysisError        an analysed document cannot be used; says why
    ├── EventError           what came as a notification of a bucket is none
    ├── ModelError           the embedding model cannot be loaded or used
    ├── EngineError          the cluster that shards run on is gone, or is another release
    ├── CatalogError         the catalog cannot be read or written
    │   └── CatalogBusyError       another process is writing
    └── DeliveryError        a document could not be delivered
        └── MailError              a mail could not be sent, however often it was tried

A message says what happened, to which asset or setting, and what to do.
"""

from __future__ import annotations

import re

#: How Python shows an object that has no text of its own: ``<_io.BytesIO object at 0x7f3c>``.
_ADDRESS = re.compile(r" ?<[^<>]* at 0x[0-9A-Fa-f]+>:? ?")


class DamDedupError(Exception):
    """The root of all errors raised on purpose."""

    def __str__(self) -> str:
        """The message, without the addresses of objects that other libraries put into theirs.

        An address says nothing to a reader, and makes one mistake look like many in reports.
        """
        return _ADDRESS.sub(_gap, super().__str__()).strip()


def _gap(found: re.Match[str]) -> str:
    return " " if found[0].startswith(" ") and found[0].endswith(" ") else ""


class SettingsError(DamDedupError):
    """A setting is missing or wrong."""


class FilterError(DamDedupError):
    """A filter text cannot be used."""


class SourceError(DamDedupError):
    """The storage refused or failed a request."""


class TransientSourceError(SourceError):
    """The storage failed in a way that may pass: the asset is tried again by the next scan."""


class IncompleteScanError(SourceError):
    """The storage failed to show too many images: the scan has a report, and has failed."""


class AssetChangedError(TransientSourceError):
    """The object is no longer the one that was listed."""


class AssetGoneError(TransientSourceError):
    """The object was removed after it was listed."""


class StoreRefusedError(SourceError):
    """The storage forbids a write, or an object is locked; trying again does not help."""


class PolicyError(DamDedupError):
    """A policy file is wrong; the message names file, line and key."""


class MergeError(DamDedupError):
    """A merge, an approval or an undo cannot be done as asked."""


class EventError(DamDedupError):
    """What came as a notification of a bucket is none, or of another bucket."""


class ImageError(DamDedupError):
    """Bytes that give no picture.

    Attributes:
        reason: a short, stable code (``truncated``, ``too_many_pixels`` ...) that reports count by.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class AnalysisError(DamDedupError):
    """An analysed document is damaged, changed, of another space, or none at all."""


class ModelError(DamDedupError):
    """The embedding model cannot be loaded or used."""


class EngineError(DamDedupError):
    """The engine that runs shards cannot be used."""


class CatalogError(DamDedupError):
    """The catalog cannot be read or written."""


class CatalogBusyError(CatalogError):
    """Another process holds the catalog's writer lease."""


class DeliveryError(DamDedupError):
    """A document could not be delivered."""


class MailError(DeliveryError):
    """A mail could not be sent: refused, or the server failed as often as it may be tried."""

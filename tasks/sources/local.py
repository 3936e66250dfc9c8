"""Assets in a folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import AssetChangedError, AssetGoneError, SourceError
from tasks.records import Listing, Probe
from tasks.sources.base import HEAD_BYTES

_PAGE = 1000


class LocalSource:
    r"""A folder, read recursively; links out of it are not followed.

    A file name that is not UTF-8 gets a key with the odd bytes written as ``\xNN``.

    Raises:
        SourceError: when the folder does not exist.
    """

    def __init__(self, folder: str) -> None:
        self.root = Path(folder).expanduser().resolve()
        if not self.root.is_dir():
            raise SourceError(f"source {folder}: no such folder")
        self.id = f"file://{self.root}"
        self.prefix = ""
        self.workers = 4

    def list_pages(self) -> Iterator[list[Listing]]:
        """All regular files, in pages."""
        page: list[Listing] = []
        for folder, folders, names in os.walk(self.root, onerror=_refuse):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() and not path.resolve().is_relative_to(self.root):
                    continue
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                if not stat.S_ISREG(found.st_mode):
                    continue  # reading a pipe would wait for ever
                key = path.relative_to(self.root).as_posix()
                page.append(Listing(_to_key(key), _etag(found), found.st_size, _modified(found)))
                if len(page) >= _PAGE:
                    yield page
                    page = []
        if page:
            yield page

    def probe(self, key: str) -> Probe:
        """Head bytes of one file; files have no tags and no user metadata."""
        path = self._path(key)
        try:
            found = path.stat()
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except FileNotFoundError as error:
            raise AssetGoneError(f"{key!r} was removed while it was read") from error
        except OSError as error:
            raise SourceError(f"cannot read {key!r}: {error.strerror}") from error
        return Probe(head, _etag(found), found.st_size, _modified(found))

    def read(self, key: str, etag: str, limit: int) -> bytes:
        """The bytes of one file."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
                now = _etag(os.fstat(file.fileno()))
        except FileNotFoundError as error:
            raise AssetGoneError(f"{key!r} was removed while it was read") from error
        except OSError as error:
            raise SourceError(f"cannot read {key!r}: {error.strerror}") from error
        if now != etag:
            raise AssetChangedError(f"{key!r} changed while it was read; the next scan reads it")
        if len(data) > limit:
            raise SourceError(f"{key!r} holds more than {limit} bytes")
        return data

    def _path(self, key: str) -> Path:
        path = self.root / key
        if "\\x" in key and not path.exists():
            path = self.root / _unescape(key)
        if not path.resolve().is_relative_to(self.root):
            raise SourceError(f"{key!r} leads out of {self.root}")
        return path


def _refuse(error: OSError) -> None:
    # Raised, not skipped: a folder that is left out would look as if its assets were deleted.
    raise SourceError(f"cannot list {error.filename}: {error.strerror}") from error


def _to_key(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unescape(key: str) -> str:
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found.group(1), 16)]), key.encode())
    return raw.decode("utf-8", "surrogateescape")


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


def _modified(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)

"""Assets in a folder."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import AssetChangedError, AssetGoneError, SourceError
from tasks.records import Listing, Probe
from tasks.sources.base import HEAD_BYTES

_PAGE = 1000
#: What one file or folder may fail with without anything being wrong with the others.
_ITS_OWN = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}

log = logging.getLogger(__name__)


class LocalSource:
    r"""A folder, read recursively; links out of it are not followed.

    What cannot be listed for a reason of its own (a folder that may not be entered, a link that
    leads to itself, a path longer than the system takes) is left out, counted and told.

    A file name that is not UTF-8 gets a key with the odd bytes written as ``\xNN``.

    Attributes:
        unlisted: beginnings of the keys below folders that the last listing could not enter.

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
        self.unlisted: list[str] = []

    def list_pages(self) -> Iterator[list[Listing]]:
        """All regular files, in pages."""
        page: list[Listing] = []
        self.unlisted = []
        left_out: Counter[str] = Counter()
        for folder, folders, names in os.walk(self.root, onerror=self._not_entered):
            folders.sort()
            for name in sorted(names):
                if (item := self._listing(Path(folder, name), left_out)) is not None:
                    page.append(item)
                if len(page) >= _PAGE:
                    yield page
                    page = []
        if page:
            yield page
        for why, number in sorted(left_out.items()):
            log.warning("%s: %d files or links are left out: %s", self.root, number, why)

    def _listing(self, path: Path, left_out: Counter[str]) -> Listing | None:
        try:
            linked = path.is_symlink()
            if linked and not Path(os.path.realpath(path)).is_relative_to(self.root):
                left_out["they lead out of the folder"] += 1
                return None
            found = path.stat()
        except FileNotFoundError:
            if linked:
                left_out["they lead to nothing"] += 1
            return None
        except OSError as error:
            if error.errno not in _ITS_OWN:
                raise SourceError(f"cannot list {path}: {error.strerror}") from error
            left_out[error.strerror or str(error)] += 1
            return None
        if not stat.S_ISREG(found.st_mode):
            return None  # reading a pipe would wait for ever
        return Listing(
            _to_key(path.relative_to(self.root).as_posix()),
            _etag(found),
            found.st_size,
            _modified(found),
            file=f"{found.st_dev:x}-{found.st_ino:x}",
            linked=linked,
        )

    def _not_entered(self, error: OSError) -> None:
        # Remembered, or its assets would look as if they had been deleted.
        folder = Path(error.filename or self.root)
        if folder == self.root or error.errno not in _ITS_OWN:
            raise SourceError(f"cannot list {error.filename}: {error.strerror}") from error
        key = _to_key(folder.relative_to(self.root).as_posix())
        self.unlisted.append(f"{key}/")
        log.warning(
            "%s: the folder %.200r cannot be listed (%s); what is known of it stays as it is",
            self.root,
            key,
            error.strerror,
        )

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
        if not Path(os.path.realpath(path)).is_relative_to(self.root):
            raise SourceError(f"{key!r} leads out of {self.root}")
        return path


def _to_key(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unescape(key: str) -> str:
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found.group(1), 16)]), key.encode())
    return raw.decode("utf-8", "surrogateescape")


def _etag(found: os.stat_result) -> str:
    # The time of the last change of any kind too: `rsync --inplace --times` and `exiftool -P`
    # replace what is in a file, and put the time of its last writing back.
    times = f"{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"
    return f"{times}-{found.st_size:x}-{found.st_ino:x}"


def _modified(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)

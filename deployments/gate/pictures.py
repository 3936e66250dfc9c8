"""Pictures of a plan's files for the light table: originals, or 2,048 px renditions.

Which file an address means comes from the plan that its signed link is for, never from the
address: the address only names an asset, and an asset that is not in the link's groups is not
found. What is sent is always one of three types that run nothing, named by its bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from deployments.gate.batching import BoundedExecutor
from tasks.catalog.catalog import quote
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import READER_VERSION
from tasks.embedding.sniff import sniff
from tasks.errors import AssetChangedError, AssetGoneError, ImageError, SourceError
from tasks.merging.approvals import Claim
from tasks.merging.rules.plans import Plan
from tasks.records import asset_id
from tasks.session import open_catalog, open_source
from tasks.settings import Settings

#: The longer side of a rendition, and of what stands for an original that no browser shows.
RENDITION_SIDE, LARGEST_SIDE = 2048, 12_000
#: Formats that are sent as they are: still pictures that every browser shows and that run nothing.
_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
#: Pictures that are made at once, that may wait besides, and for how long one is kept.
_WORKERS, _QUEUE, _KEPT_SECONDS = 2, 48, 24 * 3600
#: Links whose files are remembered.
_MOST_LINKS = 8
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Disposition": 'inline; filename="picture"',
}


@dataclass(frozen=True, slots=True)
class _File:
    """One file as the plan has it: key, ETag (empty: the plan did not look at it)."""

    key: str
    etag: str


class PictureRoutes:
    """The route of the pictures below a link's address."""

    def __init__(
        self,
        settings: Settings,
        claim_of: Callable[[str], Claim],
        plan_of: Callable[[Claim], Plan],
    ) -> None:
        """Take how a token becomes a claim and a plan, which checks both."""
        self._settings = settings
        self._claim_of, self._plan_of = claim_of, plan_of
        self._files: OrderedDict[tuple[str, bytes | None], tuple[str, dict[str, _File]]]
        self._files = OrderedDict()
        self._lock = threading.Lock()
        self._pool = DecoderPool(settings.limits, 16, _WORKERS)  # a process starts with its picture
        self._crowd = BoundedExecutor(_WORKERS, _QUEUE)
        self._shelf = Shelf(settings.gate.picture_bytes)
        self.router = APIRouter()
        self.router.add_api_route(
            "/review/{token}/pictures/{asset}/{size}",
            self.show,
            methods=["GET", "HEAD"],
            response_model=None,
        )

    def close(self) -> None:
        """End the decoders, and remove what was kept."""
        self._crowd.close()
        self._pool.__exit__()
        self._shelf.close()

    async def show(self, token: str, asset: str, size: Literal["2048", "full"]) -> Response:
        """A picture of a file of the link's groups; changes nothing."""
        if not self._settings.gate.picture_bytes:
            raise HTTPException(404, "this gate shows previews only")
        claim = await run_in_threadpool(self._claim_of, token)
        future: Future[tuple[str, bytes]] = self._crowd.submit(
            lambda: self._picture(claim, asset, full=size == "full")
        )
        try:
            kind, body = await asyncio.wrap_future(future)
        except (AssetChangedError, AssetGoneError) as error:
            raise HTTPException(404, "the file has changed since the plan was made") from error
        except (ImageError, SourceError) as error:
            raise HTTPException(404, "the file cannot be shown now") from error
        return Response(body, headers=_HEADERS, media_type=kind)

    def _picture(self, claim: Claim, asset: str, *, full: bool) -> tuple[str, bytes]:
        source, files = self._files_of(claim)
        file = files.get(asset)
        if file is None:
            raise HTTPException(404, "this link is not for such a file")
        catalog = open_catalog(self._settings)
        columns = ["etag", "content", "width", "height"]
        rows = catalog.read("assets", columns, f"asset_id = {quote(asset)} AND removed_at IS NULL")
        row = next(rows.iter_rows(named=True), None)
        if row is None or not row["content"] or (file.etag and row["etag"] != file.etag):
            raise HTTPException(404, "the file has changed since the plan was made")
        # A small original is its own rendition: nobody has to decode it.
        whole = full or max(row["width"] or 0, row["height"] or 0) <= RENDITION_SIDE
        side = LARGEST_SIDE if full else RENDITION_SIDE
        # By its pixels and the reader's rules, so that equal pictures are made once.
        name = hashlib.sha256(f"{READER_VERSION} {row['content']} {side}".encode()).hexdigest()
        made = self._shelf.get(name)
        if made is not None:
            return "image/jpeg", made
        limit = self._settings.limits.bytes
        data = open_source(source, self._settings).read(file.key, row["etag"], limit)
        kind = _TYPES.get(sniff(data[:512]) or "")
        if whole and kind:
            return kind, data
        made = self._pool.render(data, side)
        self._shelf.put(name, made)
        return "image/jpeg", made

    def _files_of(self, claim: Claim) -> tuple[str, dict[str, _File]]:
        """The source of a link's plan, and its files by the ids of their assets."""
        link = claim.hash, claim.scope
        with self._lock:
            if link in self._files:
                self._files.move_to_end(link)
                return self._files[link]
        plan = self._plan_of(claim)
        mine = claim.groups(plan)
        place = open_source(plan.source, self._settings).id
        files = {}
        for group in plan.groups:
            if mine is not None and group.group_id not in mine:
                continue
            etags = {state.key: state.etag for state in group.states}
            for key in (group.keeper, *group.duplicates):
                files[asset_id(place, key)] = _File(key, etags.get(key, ""))
        with self._lock:
            self._files[link] = plan.source, files
            while len(self._files) > _MOST_LINKS:
                self._files.popitem(last=False)
        return plan.source, files


class Shelf:
    """Files that are kept for a day in a folder of this process, within a budget.

    The folder is made at the first use, readable by nobody else, and removed at the end.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._sizes: OrderedDict[str, tuple[int, float]] = OrderedDict()  # the longest unused first

    @property
    def held(self) -> int:
        """Bytes on disk."""
        return sum(size for size, _ in self._sizes.values())

    def get(self, name: str) -> bytes | None:
        """What is kept under a name, or None."""
        with self._lock:
            self._tidy(0)
            if name not in self._sizes or self._folder is None:
                return None
            self._sizes.move_to_end(name)
            try:
                return (Path(self._folder.name) / name).read_bytes()
            except OSError:  # something tidied the temporary folder
                del self._sizes[name]
                return None

    def put(self, name: str, data: bytes) -> None:
        """Keep a file; what was not used for longest makes room. A full disk keeps nothing."""
        if len(data) > self._most:
            return
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(
                    prefix="dam-dedup-pictures-", ignore_cleanup_errors=True
                )
            self._tidy(len(data))
            file = Path(self._folder.name) / name
            try:
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(handle, "wb") as opened:
                    opened.write(data)
            except OSError:
                file.unlink(missing_ok=True)
                self._sizes.pop(name, None)
                return
            self._sizes[name] = len(data), time.monotonic()
            self._sizes.move_to_end(name)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            if self._folder is not None:
                self._folder.cleanup()
            self._folder = None
            self._sizes.clear()

    def _tidy(self, room: int) -> None:
        over = time.monotonic() - _KEPT_SECONDS
        for name in [name for name, (_, made) in self._sizes.items() if made < over]:
            self._drop(name)
        while self._sizes and self.held + room > self._most:
            self._drop(next(iter(self._sizes)))

    def _drop(self, name: str) -> None:
        del self._sizes[name]
        if self._folder is not None:
            (Path(self._folder.name) / name).unlink(missing_ok=True)

"""What stands behind the routes: one model, one line before it, a few threads that check."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from fastapi import Request
from PIL import Image

from deployments.gate.batching import Batcher, Crowd
from deployments.gate.body import Body, Inflight, read_body
from deployments.gate.metrics import Metrics
from deployments.gate.problems import Problem
from tasks.errors import DamDedupError, ImageError, SettingsError, SourceError
from tasks.intake.analyze import Analyzer, analysis_json, read_analysis
from tasks.intake.check import Checker
from tasks.merging.plan import read_policy
from tasks.merging.rules.policy import default_policy
from tasks.records import Analysis, Checked, Question
from tasks.session import open_catalog, open_source
from tasks.settings import Settings
from tasks.sources.web import fetch_url

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: How long an update waits for another writer: somebody is waiting, not a scan.
_PATIENCE = 20.0
#: How long verified pairs wait to be written down together.
_WRITE_SECONDS = 30.0
_WORKERS = 4
GATED = re.compile(r"gate://[A-Za-z0-9._-]{1,64}")


class Service:
    """All that the routes share.

    Use it as an asynchronous context manager: inside, the model is loaded in the background.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = impatient(settings)
        self.metrics = Metrics()
        self.inflight = Inflight(settings.gate.inflight_bytes)
        self._analyzer = Analyzer(self.settings)
        self.checker = Checker(self.settings, _WRITE_SECONDS)
        self._images: Batcher[bytes, Analysis] = Batcher(
            self._analyze, settings.embedding.batch_size, settings.gate.queue
        )
        self._crowd = Crowd(settings.gate.workers or _WORKERS, settings.gate.queue)
        self._known_sources = {settings.source.uri} if settings.source.uri else set()
        path = settings.merge.policy
        self.policy = (read_policy(path) if path else default_policy()).for_ingest
        self._ready = threading.Event()
        # The catalog has one writer; who waits for it must not keep checks waiting.
        self._writer = Crowd(1, settings.gate.queue)
        self.metrics.watch("images_waiting", "Images in line", lambda: self._images.waiting)
        self.metrics.watch(
            "requests_inside", "Checks in line or running", lambda: self._crowd.inside
        )
        self.metrics.watch(
            "writes_inside", "Updates in line or running", lambda: self._writer.inside
        )
        self.metrics.watch("inflight_bytes", "Bytes of uploads held", lambda: self.inflight.held)
        self.metrics.watch("ready", "Whether the model is loaded", lambda: self.ready)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready.is_set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the model in the background; end everything afterwards."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """End threads and decoders."""
        self._images.close()
        self._crowd.close()
        self._writer.close()
        self.checker.close()
        self._analyzer.__exit__(None, None, None)

    # ---- what routes do ----------------------------------------------------------------------

    def body(self, request: Request) -> AbstractAsyncContextManager[Body]:
        """What a request brings, within the limits."""
        return read_body(request, self.settings.gate, self.inflight)

    async def analyze(self, image: bytes) -> Analysis:
        """An image, analysed together with whatever else waits."""
        if not image:
            raise Problem(400, "wrong_request", "the image is empty", "Send an image's bytes")
        return await asyncio.wrap_future(self._images.submit(image))

    async def fetch(self, url: str) -> bytes:
        """The image at an address: of the web, or ``s3://`` in a bucket that is known here.

        Raises:
            Problem: 422 with the reason when it cannot be had.
        """
        try:
            if url.startswith("s3://"):
                return await self._object(url)
            return await self.run(lambda: fetch_url(url, self.settings))
        except (SourceError, SettingsError) as error:
            raise Problem(422, "not_fetched", str(error), "Send the image itself") from error

    async def _object(self, url: str) -> bytes:
        bucket, _, key = url.removeprefix("s3://").partition("/")
        own = self.settings.source.uri or ""
        place = own if own.split("/")[:3] == ["s3:", "", bucket] else f"s3://{bucket}"
        known = await self.source(place)
        limit = min(self.settings.gate.max_upload_bytes, self.settings.limits.bytes)

        def read() -> bytes:
            source = open_source(known, self.settings)
            if not key.startswith(source.prefix):
                raise SourceError(f"{url!r} is outside of {known}")
            return source.read(key, source.probe(key).etag, limit)

        return await self.run(read)

    async def source(self, name: str) -> str:
        """A source that a caller named: only one that is known, or a collection of the gate's.

        None stays none: which is meant then, is not for here.

        Raises:
            Problem: 404 for any other: no door to other buckets, nor to folders of this machine.
        """
        if not name or name in self._known_sources or GATED.fullmatch(name):
            return name
        found = await self.run(lambda: open_catalog(self.settings).read("assets", ["source"]))
        self._known_sources |= set(found["source"].drop_nulls().unique().to_list())
        if name not in self._known_sources:
            raise Problem(
                404,
                "not_found",
                "the catalog has no such source",
                "Name a source that was scanned, or gate://NAME",
            )
        return name

    async def check(self, analysis: Analysis, question: Question) -> Checked:
        """What an image matches."""
        return self._counted(await self.run(lambda: self.checker.check(analysis, question)))

    async def check_asset(self, name: str, question: Question) -> Checked:
        """What an asset matches."""
        return self._counted(await self.run(lambda: self.checker.check_asset(name, question)))

    async def write(self, call: Callable[[], Answer]) -> Answer:
        """Run what writes to the catalog: one after the other."""
        return await asyncio.wrap_future(self._writer.submit(call))

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """Run something that takes a while in a thread."""
        future: Future[Answer] = self._crowd.submit(call)
        return await asyncio.wrap_future(future)

    def document(self, analysis: Analysis) -> dict[str, Any]:
        """An analysis as callers keep it."""
        return analysis_json(analysis, self.settings)

    async def read_document(self, document: Any) -> Analysis:
        """An analysis that a caller kept."""
        if not isinstance(document, dict):
            raise Problem(
                400,
                "wrong_request",
                "the analysis is not a JSON object",
                "Send what /analyze answered, unchanged",
            )
        return await self.run(lambda: read_analysis(document, self.settings, self._analyzer.space))

    # ---- inside ------------------------------------------------------------------------------

    def _analyze(self, images: Sequence[bytes]) -> Sequence[Analysis | Exception]:
        started = time.perf_counter()
        found: list[Analysis | ImageError] = self._analyzer.analyze(images)
        self.metrics.analysis_seconds.observe(time.perf_counter() - started)
        self.metrics.batches.observe(len(images))
        return found

    def _counted(self, checked: Checked) -> Checked:
        self.metrics.verified.inc(checked.verified)
        self.metrics.found.inc(checked.total)
        return checked

    def _warm_up(self) -> None:
        """Load the model, start decoders and have both used once."""
        picture = io.BytesIO()
        Image.effect_noise((64, 64), 64).save(picture, "PNG")
        try:
            space = self._analyzer.space
            self._analyzer.analyze([picture.getvalue()])
        except DamDedupError as error:
            log.error("the gate is not ready: %s", error)
            return
        except Exception:
            log.exception("the gate is not ready")
            return
        log.info("ready: %s (%s)", space.model, space.revision[:12])
        self._ready.set()


def impatient(settings: Settings) -> Settings:
    """Settings of whoever cannot wait long for another writer."""
    wait = min(_PATIENCE, settings.catalog.busy_seconds)
    catalog = settings.catalog.model_copy(update={"busy_seconds": wait})
    return settings.model_copy(update={"catalog": catalog})

"""What all routes share: the model and its queue, threads that check, and a thread that writes."""

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

from deployments.gate.batching import Batcher, BoundedExecutor
from deployments.gate.body import Body, Inflight, read_body
from deployments.gate.metrics import Metrics
from deployments.gate.problems import Problem
from tasks.errors import DamDedupError, ImageError, SettingsError, SourceError
from tasks.intake.analyze import Analyzer, analysis_json, read_analysis
from tasks.intake.check import Checker
from tasks.intake.seal import sealing_key
from tasks.merging.policy_file import read_policy
from tasks.merging.rules.policy import default_policy
from tasks.records import Analysis, Checked, CheckQuestion
from tasks.session import open_catalog, open_source
from tasks.settings import Settings
from tasks.sources.web import fetch_url

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Seconds that an update waits for another writer. A scan may wait longer; here a caller does.
_PATIENCE = 20.0
#: Seconds that verified pairs may wait to be written together.
_WRITE_SECONDS = 30.0
_WORKERS = 4
#: Updates after which the catalog is tidied without being asked.
_TIDIED_AFTER = 64
GATED = re.compile(r"gate://[A-Za-z0-9._-]{1,64}")


class Service:
    """The parts of the gate that all routes share.

    Inside :meth:`running` the model is loaded in the background.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = impatient(settings)
        self.metrics = Metrics()
        self.inflight = Inflight(settings.gate.inflight_bytes)
        self.analyzer = Analyzer(self.settings)
        self.checker = Checker(self.settings, _WRITE_SECONDS)
        self._images: Batcher[bytes, Analysis] = Batcher(
            self._analyze, settings.embedding.batch_size, settings.gate.queue
        )
        self._crowd = BoundedExecutor(settings.gate.workers or _WORKERS, settings.gate.queue)
        self._known_sources = {settings.source.uri} if settings.source.uri else set()
        path = settings.merge.policy
        self.policy = (read_policy(path) if path else default_policy()).for_ingest
        self._ready = threading.Event()
        # The catalog has one writer at a time. Updates wait for it in a thread of their own, so
        # that checks do not wait behind them.
        self._writer = BoundedExecutor(1, settings.gate.queue)
        self._writes = 0
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
        """Load the model in the background; stop threads and decoders at the end."""
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
        self.analyzer.__exit__(None, None, None)

    # ---- what routes do ----------------------------------------------------------------------

    def body(self, request: Request) -> AbstractAsyncContextManager[Body]:
        """The body of a request, read within the settings' limits."""
        return read_body(request, self.settings.gate, self.inflight)

    async def analyze(self, image: bytes) -> Analysis:
        """Analyse an image, in one call of the model with the others that wait."""
        if not image:
            raise Problem(400, "wrong_request", "the image is empty", "Send an image's bytes")
        return await asyncio.wrap_future(self._images.submit(image))

    async def fetch(self, url: str) -> bytes:
        """The bytes at an address of the web, or at ``s3://`` in a bucket that was scanned.

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
        """Check a source that a caller named; an empty name stays empty, for the default source.

        Raises:
            Problem: 404 when it is neither a source of the catalog nor a ``gate://`` collection.
                Callers must not reach other buckets, nor folders of this machine.
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

    async def check(self, analysis: Analysis, question: CheckQuestion) -> Checked:
        """Compare an image, in one of the threads that check."""
        return self._counted(await self.run(lambda: self.checker.check(analysis, question)))

    async def check_asset(self, name: str, question: CheckQuestion) -> Checked:
        """Compare an asset of the catalog, in one of the threads that check."""
        return self._counted(await self.run(lambda: self.checker.check_asset(name, question)))

    async def write(self, call: Callable[[], Answer]) -> Answer:
        """Run a call that writes to the catalog; such calls run one after the other."""
        found = await asyncio.wrap_future(self._writer.submit(call))
        self._writes += 1
        if self._writes % _TIDIED_AFTER == 0:
            self.tidy()
        return found

    def tidy(self) -> None:
        """Tidy the catalog soon, after the writes that wait; done now and then without being asked.

        Each single update leaves a fragment in four tables, and every check reads them all: of 200
        pictures that were entered one by one, a check took 373 ms of processor time before, and 76
        after.
        """
        with contextlib.suppress(Problem):  # so many wait that it can wait, too
            self._writer.submit(self._tidy)

    def _tidy(self) -> None:
        catalog = open_catalog(self.settings)
        try:
            with catalog.writing(0):
                done = catalog.tidy(only_grown=True)
        except DamDedupError as error:  # another writes, and a scan tidies too
            log.info("the catalog was not tidied: %s", error)
            return
        log.info("tidied: %s", ", ".join(done) or "nothing to do")

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """Run a call that takes a while in a thread, so that the event loop goes on."""
        future: Future[Answer] = self._crowd.submit(call)
        return await asyncio.wrap_future(future)

    def document(self, analysis: Analysis) -> dict[str, Any]:
        """An analysis as the JSON document that callers keep."""
        return analysis_json(analysis, self.settings)

    async def read_document(self, document: Any) -> Analysis:
        """The analysis in a document that a caller kept, checked."""
        if not isinstance(document, dict):
            raise Problem(
                400,
                "wrong_request",
                "the analysis is not a JSON object",
                "Send what /analyze answered, unchanged",
            )
        return await self.run(lambda: read_analysis(document, self.settings, self.analyzer.space))

    # ---- inside ------------------------------------------------------------------------------

    def _analyze(self, images: Sequence[bytes]) -> Sequence[Analysis | Exception]:
        started = time.perf_counter()
        found: list[Analysis | ImageError] = self.analyzer.analyze(images)
        self.metrics.analysis_seconds.observe(time.perf_counter() - started)
        self.metrics.batches.observe(len(images))
        return found

    def _counted(self, checked: Checked) -> Checked:
        self.metrics.verified.inc(checked.verified)
        self.metrics.found.inc(checked.total)
        return checked

    def _warm_up(self) -> None:
        """Load the model, start the decoders, and use both once."""
        picture = io.BytesIO()
        Image.effect_noise((64, 64), 64).save(picture, "PNG")
        try:
            sealing_key(self.settings)  # made at the first start
            space = self.analyzer.space
            self.analyzer.analyze([picture.getvalue()])
        except DamDedupError as error:
            log.error("the gate is not ready: %s", error)
            return
        except Exception:
            log.exception("the gate is not ready")
            return
        log.info("ready: %s (%s)", space.model, space.revision[:12])
        self._ready.set()


def impatient(settings: Settings) -> Settings:
    """The settings with a short wait for other writers: callers wait for the answer."""
    wait = min(_PATIENCE, settings.catalog.busy_seconds)
    catalog = settings.catalog.model_copy(update={"busy_seconds": wait})
    return settings.model_copy(update={"catalog": catalog})

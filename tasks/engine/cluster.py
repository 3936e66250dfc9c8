"""Dask's scheduler as an engine: its client is an executor, and lost shards are run again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from importlib import import_module

from tasks.engine.shards import Engine
from tasks.errors import EngineError, SettingsError
from tasks.settings_parts import EngineSettings

log = logging.getLogger(__name__)

#: Seconds until a scheduler must have answered.
_CONNECT_SECONDS = 20


@contextlib.contextmanager
def dask_engine(settings: EngineSettings, facts: Callable[[], str]) -> Iterator[Engine]:
    """The engine of a scheduler, as long as the block lasts.

    Args:
        settings: with the scheduler's address.
        facts: what must be equal here and on each worker for results to be equal.

    Raises:
        SettingsError: when ``distributed`` is not installed here.
        EngineError: when the scheduler does not answer, or a worker would give other results.
    """
    try:
        distributed = import_module("distributed")
    except ModuleNotFoundError:
        raise SettingsError(
            "DAM_DEDUP_ENGINE__KIND=dask needs the package distributed: pip install "
            "'dam-dedup[cluster]', here and on each worker"
        ) from None
    try:
        client = distributed.Client(
            settings.address, timeout=_CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise EngineError(
            f"the Dask scheduler at {settings.address} does not answer: {error}; see "
            "DAM_DEDUP_ENGINE__ADDRESS"
        ) from error
    with client:
        told = client.run(facts, on_error="return")
        mine = facts()
        for worker, theirs in told.items():
            if theirs != mine:
                raise EngineError(
                    f"the worker {worker} has {theirs!r} and this process {mine!r}: install the "
                    "same release of dam-dedup on both, for results to be the same"
                )
        log.info("engine: Dask at %s, %d workers", settings.address, len(told))
        options = {"resources": {"GPU": 1}} if settings.gpu else {}
        executor = client.get_executor(pure=False, **options)
        yield Engine(
            f"the Dask scheduler at {settings.address}",
            executor,
            lambda: sum(client.nthreads().values()),
            lost=(distributed.KilledWorker,),
            patience=settings.wait_seconds,
        )

"""The local stack for the demo and the end-to-end tests, from pip packages alone.

SeaweedFS as the S3 server, a Prefect server with one worker, and a mail sink: all on the loopback
address, all state in one folder, all started and stopped together::

    state = up(Path("var/stack"))
    print(*export_lines(state), sep=os.linesep)
    down(Path("var/stack"))

Folder: ``s3/ prefect/ mail/ logs/``, ``identity.json`` (keys and ports, kept, so that links and
configured clients stay valid over a restart) and ``stack.json`` (what runs now). Both hold keys,
so they are for their owner's eyes only.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from deployments.bootstrap import POOL, PROJECT
from deployments.local.processes import (
    COMPANION,
    HOST,
    Service,
    StackError,
    family,
    free_ports,
    launch,
    marked,
    stop,
    wait_ready,
)
from deployments.local.services import (
    ADVICE,
    PORTS,
    READY,
    WEED,
    end_lost_runs,
    exports,
    inside,
    server_commands,
    worker_command,
)

__all__ = [
    "POOL",
    "Service",
    "ServiceStatus",
    "StackError",
    "StackState",
    "down",
    "export_lines",
    "load",
    "status",
    "up",
]


@dataclass(frozen=True, slots=True)
class StackState:
    """What runs, and the variables that lead to it."""

    services: tuple[Service, ...]
    env: dict[str, str]
    dir: Path

    def service(self, name: str) -> Service | None:
        """Find a service by its name."""
        return next((s for s in self.services if s.name == name), None)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One line of ``status``."""

    name: str
    alive: bool
    port: int
    pid: int
    url: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def as_text(self) -> str:
        """A line for people."""
        return f"{'up  ' if self.alive else 'DOWN'} {self.name:<8} pid {self.pid:<7} {self.url}"


def _silent(_line: str) -> None:
    pass


def up(
    folder: Path,
    *,
    worker: bool = True,
    timeout: float = 180.0,
    say: Callable[[str], None] = _silent,
) -> StackState:
    """Start what does not run, and return when all of it answers.

    A stack whose services all run is left alone; any other is stopped first and started anew.

    Args:
        folder: where all state is kept.
        worker: also start a worker; a stack without one runs no flow.
        timeout: seconds until every service must be ready.
        say: called with each line of progress.

    Raises:
        StackError: a service did not start; nothing is left running.
    """
    folder = folder.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    until = time.monotonic() + timeout
    with _locked(folder, timeout):
        state = load(folder)
        try:
            if state is None or not _healthy(state):
                _stop_all(folder, state, say)
                state = _start_servers(folder, until, say)
            if worker and state.service("worker") is None:
                state = _add_worker(state, until, say)
            _write_private(folder / "stack.json", asdict(state))
        except BaseException:
            _stop_all(folder, state, say)
            raise
    return state


def down(folder: Path, say: Callable[[str], None] = _silent, *, grace: float = 15.0) -> None:
    """Stop everything that was started for this folder, flow runs included; keep its data.

    Args:
        folder: of the stack.
        say: called with each line of progress.
        grace: seconds that a process may take to end by itself before it is killed. SeaweedFS
            waits for clients that keep their connections.
    """
    folder = folder.resolve()
    if folder.is_dir():
        with _locked(folder, 200.0):
            _stop_all(folder, load(folder), say, grace)


def status(folder: Path) -> list[ServiceStatus]:
    """Tell how each service is; nothing at all for a stack that is down."""
    state = load(folder.resolve())
    if state is None:
        return []
    ui = state.env["PREFECT_UI_URL"]
    urls = {
        "s3": state.env["AWS_ENDPOINT_URL_S3"],
        "smtp": f"smtp://{HOST}:{state.env['DAM_DEDUP_MAIL__PORT']}",
        "prefect": ui,
        "worker": f"{ui}/work-pools/work-pool/{POOL}",
    }
    return [
        ServiceStatus(s.name, s.process() is not None, s.port, s.pid, urls[s.name])
        for s in state.services
    ]


def export_lines(state: StackState) -> list[str]:
    """Give the shell lines that lead clients to this stack."""
    return [f"export {name}={shlex.quote(value)}" for name, value in state.env.items()]


def load(folder: Path) -> StackState | None:
    """Read what runs in this folder; None when nothing does, or when the record is unreadable."""
    try:
        raw = json.loads((folder / "stack.json").read_text())
        services = tuple(Service(**{**s, "log": Path(s["log"])}) for s in raw["services"])
        return StackState(services, dict(raw["env"]), Path(raw["dir"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # processes without a record are found by their LOCAL_STACK_FOLDER


# --- start ---


def _start_servers(folder: Path, until: float, say: Callable[[str], None]) -> StackState:
    keys, ports = _identity(folder)
    env = exports(folder, keys, ports)
    for name in ("s3", "prefect", "mail"):
        (folder / name).mkdir(exist_ok=True)
    # SeaweedFS keeps its flags in this file, and would use those of the last start.
    (folder / "s3" / "mini.options").unlink(missing_ok=True)
    services = []
    for name, command in server_commands(folder, ports).items():
        say(f"{name}: starting on port {ports[name]}")
        cwd = PROJECT if name == "smtp" else folder
        services.append(
            launch(name, command, folder=folder, env=inside(env), cwd=cwd, port=ports[name])
        )
    for service in services:
        _await(service, env, until, say)
    end_lost_runs(env)
    return StackState(tuple(services), env, folder)


def _add_worker(state: StackState, until: float, say: Callable[[str], None]) -> StackState:
    say("worker: starting")
    env = inside(state.env)
    service = launch("worker", worker_command(), folder=state.dir, env=env, cwd=PROJECT)
    _await(service, state.env, until, say)
    return StackState((*state.services, service), state.env, state.dir)


def _await(service: Service, env: dict[str, str], until: float, say: Callable[[str], None]) -> None:
    ready = partial(READY[service.name], service, env)
    wait_ready(service, ready, until=until, advice=ADVICE[service.name])
    say(f"{service.name}: ready after {time.time() - service.create_time:.1f} s")


def _healthy(state: StackState) -> bool:
    try:
        for service in state.services:
            if not service.listens():
                return False
            READY[service.name](service, state.env)
    except Exception:
        return False
    return True


def _identity(folder: Path) -> tuple[dict[str, str], dict[str, int]]:
    """Give the folder's keys and ports, new ones where there are none or the ports are taken."""
    path = folder / "identity.json"
    try:
        known = json.loads(path.read_text())
        keys, wanted = dict(known["keys"]), dict(known["ports"])
    except (OSError, ValueError, KeyError, TypeError):
        keys = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_urlsafe(30)}
        wanted = {}
    ports = free_ports(PORTS, wanted)
    _write_private(path, {"keys": keys, "ports": ports})
    return keys, ports


# --- stop, and the folder ---


def _stop_all(
    folder: Path, state: StackState | None, say: Callable[[str], None], grace: float = 15.0
) -> None:
    """Stop the worker and its flow runs first: they report their end to the server."""
    services = state.services if state else ()
    live = {s.name: p for s in services if (p := s.process())}
    everything = marked(folder) | family(live.values())
    if everything:
        say(f"stopping {len(everything)} processes")
    servers = family(p for name, p in live.items() if name != "worker")
    stop(everything - servers, grace)
    stop(servers, grace)
    stop(marked(folder))  # what was started meanwhile
    _remove_sockets(folder)
    (folder / "stack.json").unlink(missing_ok=True)


def _remove_sockets(folder: Path) -> None:
    """SeaweedFS leaves some of its Unix sockets behind."""
    with contextlib.suppress(OSError, ValueError):
        ports = json.loads((folder / "identity.json").read_text())["ports"]
        for port in (ports[name] + extra for name in WEED for extra in (0, COMPANION)):
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path, seconds: float) -> Iterator[None]:
    try:
        with FileLock(folder / "stack.lock", timeout=seconds):
            yield
    except Timeout:
        raise StackError(f"another process is starting or stopping the stack in {folder}") from None


def _write_private(path: Path, content: Any) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w") as file:
        json.dump(content, file, indent=1, default=str)
    unfinished.replace(path)

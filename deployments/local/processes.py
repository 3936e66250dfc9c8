"""Background processes of any kind: start them, find them again, wait for them, stop them.

Every process is started with the variable ``LOCAL_STACK_FOLDER``, which its descendants inherit.
So the processes of a folder are found again even when their parent or our records are gone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.errors import DamDedupError

HOST = "127.0.0.1"
MARK = "LOCAL_STACK_FOLDER"
COMPANION = 10_000  # a SeaweedFS service on port P also listens on P + 10000
# Each port and its companion lie below 32768, from where the kernel hands out ports by itself.
PORTS = range(12_000, 22_000)
# How far two readings of one process's start time may differ: the clock may be set in between.
SAME_SECONDS = 2.0


class StackError(DamDedupError):
    """A service of the local stack cannot be started; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """One background process; its port is 0 when it does not listen."""

    name: str
    pid: int
    create_time: float
    port: int
    log: Path

    def process(self) -> psutil.Process | None:
        """Find the live process; None when its pid belongs to another process by now."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.create_time) < SAME_SECONDS
            return found if same and not _ended(found) else None
        except psutil.NoSuchProcess:
            return None

    def listens(self) -> bool:
        """Tell whether this process, and no other, listens on the port."""
        process = self.process()
        if process is None or not self.port:
            return process is not None
        with contextlib.suppress(psutil.Error):
            return any(
                c.status == psutil.CONN_LISTEN and c.laddr.port == self.port
                for c in process.net_connections(kind="tcp")
            )
        return False


def launch(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    cwd: Path,
    port: int = 0,
) -> Service:
    """Start a process in a session of its own, its output in ``logs/NAME.log``."""
    log = folder / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.old"))
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env={**env, MARK: str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StackError(f"{name} cannot be started: {error}") from error
    created = psutil.Process(child.pid).create_time()
    # The child outlives us. With a return code set, Python does not warn about that.
    child.returncode = 0
    return Service(name, child.pid, created, port, log)


def wait_ready(service: Service, ready: Callable[[], None], *, until: float, advice: str) -> None:
    """Return once ``ready`` stops raising.

    Args:
        service: what is waited for.
        ready: asks the service something; raises while it is not ready.
        until: the deadline, in ``time.monotonic()`` seconds.
        advice: what a person can do when it fails.

    Raises:
        StackError: it died, or the time is over.
    """
    problem = "it does not listen yet"
    while time.monotonic() < until:
        if service.process() is None:
            problem = "it has stopped"
            break
        if service.listens():
            try:
                ready()
                return
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
        time.sleep(0.2)
    raise StackError(
        f"{service.name} is not ready: {problem}\n"
        f"The end of {service.log}:\n{tail(service.log)}\n{advice}"
    )


def tail(log: Path, lines: int = 20) -> str:
    """Give a log's last lines, indented."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])


def family(roots: Iterable[psutil.Process]) -> set[psutil.Process]:
    """Give these processes and all their descendants."""
    found: set[psutil.Process] = set()
    for root in roots:
        with contextlib.suppress(psutil.Error):
            found |= {root, *root.children(recursive=True)}
    return found


def marked(folder: Path) -> set[psutil.Process]:
    """Give every process that was started for this folder, directly or not."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or just ended
            if process.pid not in spared and process.environ().get(MARK) == str(folder):
                found.add(process)
    return found


def stop(processes: Collection[psutil.Process], grace: float = 15.0) -> None:
    """Ask each process to end, and kill those that have not ended after ``grace`` seconds.

    Each is asked only once, because a Prefect worker treats a second SIGTERM like a SIGKILL. psutil
    refuses to signal a pid that has been given to another process.
    """
    left = list(processes)
    for send, patience in ((psutil.Process.terminate, grace), (psutil.Process.kill, 5.0)):
        for process in left:
            with contextlib.suppress(psutil.Error):
                send(process)
        until = time.monotonic() + patience
        while (left := [p for p in left if not _ended(p)]) and time.monotonic() < until:
            time.sleep(0.05)


def _ended(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            # A child of ours has to be waited for; its last threads may still be ending.
            if process.ppid() == os.getpid():
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(1)
            return True
        return not process.is_running()
    except psutil.NoSuchProcess:
        return True


def free_ports(names: Sequence[str], wanted: Mapping[str, int]) -> dict[str, int]:
    """Choose a free port with a free companion for each name; the wanted ones if all are free."""
    if set(wanted) == set(names) and all(map(_is_free, wanted.values())):
        return dict(wanted)
    candidates = secrets.SystemRandom().sample(PORTS, len(PORTS))
    return dict(zip(names, filter(_is_free, candidates), strict=False))


def _is_free(port: int) -> bool:
    for number in (port, port + COMPANION):
        for host in (HOST, ""):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, number))
                except OSError:
                    return False
    return True

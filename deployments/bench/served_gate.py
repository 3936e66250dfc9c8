"""A gate in a process of its own, to be asked and measured."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from tasks.errors import DamDedupError
from tasks.settings import Settings

_START_SECONDS = 300.0


class ServedGate:
    """The command ``gate``, as it is run in production; a context.

    Args:
        settings: with the catalog and the model.
        work: a folder for its log.
    """

    def __init__(self, settings: Settings, work: Path) -> None:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            port = place.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._log = work / "gate.log"
        self._env = {**os.environ, "DAM_DEDUP_EMBEDDING__MODEL": settings.embedding.model}
        self._command = [
            sys.executable,
            "-m",
            "deployments.cli.main",
            "gate",
            "--port",
            str(port),
            "--catalog",
            settings.catalog.uri,
        ]

    def __enter__(self) -> ServedGate:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if httpx.get(f"{self.address}/health/ready", timeout=5).status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        self.__exit__()
        raise DamDedupError(f"the gate did not start; see {self._log}")

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def cpu(self) -> float:
        """Seconds of processor time that the server and its decoders have used so far."""
        own = psutil.Process(self._process.pid)
        used = 0.0
        for process in (own, *own.children(recursive=True)):
            times = process.cpu_times()
            used += times.user + times.system
        return used

    def memory(self) -> int:
        """Resident bytes of the server, without its decoders."""
        return int(self.figure("process_resident_memory_bytes"))

    def figure(self, name: str) -> float:
        """A figure that the gate shows."""
        for line in httpx.get(f"{self.address}/metrics", timeout=60).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise DamDedupError(f"the gate does not show {name}")

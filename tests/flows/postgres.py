"""A PostgreSQL server of Debian's package, for tests: its own folder, port and password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.local.processes import free_ports

NEEDED = "needs PostgreSQL: apt-get install postgresql"
_PASSWORD = "of-the-tests"


@dataclass(frozen=True)
class Postgres:
    """One server; it runs as the user ``postgres`` where the tests run as root, which it refuses.

    Attributes:
        programs: the folder of ``initdb`` and ``pg_ctl``.
        folder: its data.
        port: where it listens, on the loopback address.
    """

    programs: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        """As SQLAlchemy names the database."""
        return f"postgresql+asyncpg://prefect:{_PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._run(
            "pg_ctl",
            "start",
            "-w",
            "-D",
            str(self.folder),
            "-l",
            f"{self.folder}.log",
            "-o",
            options,
        )

    def stop(self, mode: str = "immediate") -> None:
        """End it; ``immediate`` as a crash would, without writing down what is in memory."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self.folder), "-m", mode)

    def create(self) -> None:
        with tempfile.NamedTemporaryFile("w", dir=self.folder.parent, delete=False) as words:
            words.write(_PASSWORD)
        own(Path(words.name))
        self._run(
            "initdb",
            "-D",
            str(self.folder),
            "-U",
            "prefect",
            "--pwfile",
            words.name,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
        )

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl leaves a server behind that keeps its output open: a pipe would never end.
        with Path(f"{self.folder}.out").open("w+") as said:
            done = subprocess.run(
                [self.programs / program, *arguments],
                stdout=said,
                stderr=said,
                cwd=self.folder.parent,
                **({"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}),
            )
            said.seek(0)
            assert done.returncode == 0, said.read()


def own(path: Path) -> None:
    """Give a path to the user that runs the server."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


def programs() -> Path | None:
    """The newest release that is installed; Debian keeps them out of the PATH."""
    found = [
        path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()
    ]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    there = shutil.which("initdb")
    return Path(there).parent if there else None


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server, which is gone afterwards; skips the test where there is none to run."""
    found = programs()
    if found is None:
        pytest.skip(NEEDED)
    # Not below pytest's folder, into which no other user may look.
    place = Path(tempfile.mkdtemp(prefix="dam-dedup-postgres-"))
    own(place)
    server = Postgres(found, place / "data", free_ports(["postgres"], {})["postgres"])
    try:
        server.create()
        server.start()
        yield server
    finally:
        if (server.folder / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(place)


def with_database(variables: Mapping[str, str], server: Postgres) -> dict[str, str]:
    """The variables of a stack whose Prefect server keeps its data there."""
    return {**variables, "PREFECT_SERVER_DATABASE_CONNECTION_URL": server.url}

"""The reference's public client, its calls, and how fast our gate answers them."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from deployments.bench.served_gate import ServedGate
from tasks.errors import SettingsError
from tasks.progress import Progress
from tasks.settings import Settings

_COLLECTION = "incoming"


class DupeScanner:
    """The calls of pixolution's dupe-scanner, in its order and with its oddities.

    Args:
        server: the gate's address.
        collection: the core's name.
    """

    def __init__(self, server: str, collection: str) -> None:
        self.core = f"{server}/api/cores/{collection}"
        self.solr = f"{server}/solr/{collection}"
        self.http = httpx.Client(timeout=600)

    def check_connection(self) -> bool:
        """Whether the core answers."""
        return self.http.get(f"{self.core}/").status_code == 200

    def count(self) -> int:
        """How many documents there are."""
        answer = self.http.get(f"{self.core}/select?rows=0&q*:*").json()
        return int(answer["response"]["numFound"])

    def ids(self, rows: int = 1000) -> list[str]:
        """All documents' ids, so many at a time."""
        found: list[str] = []
        mark = "*"
        while True:
            answer = self.http.get(
                f"{self.core}/select?rows={rows}&fl=id&sort=id asc&cursorMark={mark}"
            ).json()
            found += [one["id"] for one in answer["response"]["docs"]]
            if answer["nextCursorMark"] == mark:
                return found
            mark = answer["nextCursorMark"]

    def clear(self) -> None:
        """Delete all documents."""
        answer = self.http.post(
            f"{self.solr}/update?commit=true",
            content='{"delete":{"query":"*:*"}}',
            headers={"Content-Type": "application/json"},
        )
        _check(answer)

    def index(self, path: Path) -> None:
        """Analyse a picture, and add the analysis as a document named like the file."""
        uri = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
        analysed = self.http.post(
            f"{self.core}/analyze?modules.apply=duplicate", data={"input.data": uri}
        ).json()
        document = {
            "id": path.stem,
            "image": f"/srv/images/{path.name}",
            "filename": path.name,
            "import": analysed["outputs"],
        }
        _check(self.http.post(f"{self.core}/update", json=document))

    def commit(self) -> None:
        """What the client sends when all is added."""
        _check(self.http.post(f"{self.core}/update?softCommit=true"))

    def duplicates(self, name: str, threshold: float = 0.6) -> list[dict[str, Any]]:
        """The documents that one matches, itself first."""
        answer = self.http.get(
            f"{self.core}/duplicate?rank.by.id={name}&fl=id,score,filename,image&rows=10"
            f"&rank.threshold={threshold}&rank.approximate=False&rank.smartfilter=off"
        )
        found: list[dict[str, Any]] = answer.json()["response"]["docs"]
        return found


def _check(answer: httpx.Response) -> None:
    if answer.json()["responseHeader"]["status"] != 0:
        raise SettingsError(f"the gate refused: {answer.text[:500]}")


@dataclass(frozen=True, slots=True)
class Round:
    """All pictures once.

    Attributes:
        name: ``index``, ``scan, first`` or ``scan, again``.
        pictures: how many.
        seconds: on the clock.
        server: seconds of processor time of the gate and its decoders.
        client: seconds of processor time of this process.
    """

    name: str
    pictures: int
    seconds: float
    server: float
    client: float


@dataclass(frozen=True, slots=True)
class ClientReport:
    """What was measured.

    Attributes:
        rounds: in order.
        found: pictures that matched another.
        memory: the server's resident bytes at the end.
    """

    rounds: tuple[Round, ...]
    found: int
    memory: int
    cores: int
    load: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def run_client(
    settings: Settings, pictures: Sequence[Path], work: Path, progress: Progress
) -> ClientReport:
    """Enter pictures one by one, then ask for each one's duplicates, twice, as the client does.

    The catalog is new. The second time all pairs are known.

    Args:
        settings: which model, and how the gate is set up.
        pictures: JPEG files of different names.
        work: an empty folder, for the catalog.
        progress: is told what is done.

    Raises:
        SettingsError: when the gate refuses a request.
    """
    settings = settings.model_copy(
        update={"catalog": settings.catalog.model_copy(update={"uri": str(work / "catalog")})}
    )
    matched = 0
    with ServedGate(settings, work) as gate:
        client = DupeScanner(gate.address, _COLLECTION)

        def timed(name: str, ask: Callable[[Path], None]) -> Round:
            started, server, own = time.perf_counter(), gate.cpu(), time.process_time()
            for number, path in enumerate(pictures, 1):
                ask(path)
                progress(name, number, len(pictures))
            if name == "index":
                client.commit()
            return Round(
                name,
                len(pictures),
                time.perf_counter() - started,
                gate.cpu() - server,
                time.process_time() - own,
            )

        def ask(path: Path) -> None:
            nonlocal matched
            matched += len(client.duplicates(path.stem)) > 1

        rounds = [timed("index", client.index), timed("scan, first", ask)]
        matched = 0
        rounds.append(timed("scan, again", ask))
        memory = gate.memory()
    cores = len(os.sched_getaffinity(0))
    return ClientReport(tuple(rounds), matched, memory, cores, os.getloadavg()[0])

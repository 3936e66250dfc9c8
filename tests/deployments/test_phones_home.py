"""No dependency phones home: whom a scan talks to, in its own process and in all that it starts.

A scan runs with everything that it has: a model of transformers, LanceDB, decoder processes, mail,
reports, a catalog and a source on S3. Whoever is not the S3 or the mail server is a stranger.
"""

from __future__ import annotations

import io
import ipaddress
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Library, blobs

ROOT = Path(__file__).parents[2]
#: Told of every connection and every look-up of a name that Python makes, in each process.
HOOK = """
import os, sys
_seen = os.path.join(os.path.dirname(__file__), "seen")

_which = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "subprocess.Popen": 1,
}

def _told(event, args):
    if event in _which:
        with open(_seen, "a") as file:
            file.write(f"{event}\\t{args[_which[event]]}\\n")

sys.addaudithook(_told)
"""


@pytest.fixture
def place(s3: Any, library: Library) -> tuple[dict[str, str], str]:
    """A bucket of pictures, and the variables of a scan of it."""
    bucket = s3.bucket()
    for name, seed in (("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 2)):
        body = io.BytesIO()
        blobs(seed).save(
            body, "JPEG", quality=90 - len(name + str(seed)) if name == "b.jpg" else 95
        )
        s3.client.put_object(Bucket=bucket, Key=name, Body=body.getvalue())
    variables = {
        "DAM_DEDUP_SOURCE__URI": f"s3://{bucket}",
        "DAM_DEDUP_SOURCE__EXCLUDE": "catalog/*,reports/*",
        "DAM_DEDUP_CATALOG__URI": f"s3://{bucket}/catalog",
        "DAM_DEDUP_DELIVERY__BUCKET": f"s3://{bucket}/reports",
        "DAM_DEDUP_DELIVERY__FOLDER": str(library.place / "reports"),
        "DAM_DEDUP_S3__ENDPOINT_URL": s3.endpoint,
        "DAM_DEDUP_S3__PATH_STYLE": "true",
        "DAM_DEDUP_EMBEDDING__MODEL": str(library.model),
        "DAM_DEDUP_EMBEDDING__POOLING": "cls",
        "DAM_DEDUP_EMBEDDING__DECODERS": "1",
        "DAM_DEDUP_MAIL__TO": "anna@example.test",
        "DAM_DEDUP_MAIL__HOST": "127.0.0.1",
        "DAM_DEDUP_MAIL__PORT": "9",  # nobody there: that it is tried is enough
        "DAM_DEDUP_MAIL__ATTEMPTS": "1",
        "AWS_ACCESS_KEY_ID": s3.key,
        "AWS_SECRET_ACCESS_KEY": s3.secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    # Not those that switch something off: a user need not know them.
    silent = {"DO_NOT_TRACK", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "CI"}
    kept = {name: value for name, value in os.environ.items() if name not in silent}
    return kept | variables, bucket


def scan(variables: dict[str, str], *before: str, path: str = "") -> None:
    found = os.pathsep.join(filter(None, (path, str(ROOT))))
    done = subprocess.run(
        [*before, sys.executable, "-m", "deployments.cli", "scan"],
        env=variables | {"PYTHONPATH": found},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 group" in done.stdout, done.stdout + done.stderr


def strangers(addresses: list[str]) -> list[str]:
    return [one for one in addresses if not ipaddress.ip_address(one).is_loopback]


@pytest.mark.long
def test_a_scan_talks_to_the_configured_servers_alone(
    place: tuple[dict[str, str], str], tmp_path: Path
) -> None:
    hook, calls = tmp_path / "hook", tmp_path / "calls"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    watched = ["-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(calls)]
    # The system's calls show LanceDB's and torch's own code too, which Python's events do not.
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", *watched] if shutil.which("strace") else []
    scan(place[0], *strace, path=str(hook))

    told = [line.split("\t", 1) for line in (hook / "seen").read_text().splitlines()]
    started = [what for kind, what in told if kind == "subprocess.Popen"]
    assert any("embedding.decoder" in what for what in started), "it watches what starts decoders"
    connected = [what for kind, what in told if kind in ("socket.connect", "socket.sendto")]
    hosts = [re.findall(r"\('([^']+)', \d+", what) for what in connected]
    assert len(connected) > 1, "it sees the S3 server"
    assert strangers([host for found in hosts for host in found]) == []
    names = {what for kind, what in told if kind.startswith("socket.get")}
    assert names <= {"127.0.0.1", "localhost", "b'127.0.0.1'", "None"}
    if strace:
        found = re.findall(
            r'inet_addr\("([\d.]+)"\)|inet_pton\(AF_INET6, "([^"]+)"',
            calls.read_text("utf-8", "replace"),
        )
        addresses = [four or six for four, six in found]
        assert len(addresses) > len(connected) / 2, "it sees at least the same"
        assert strangers(addresses) == []

"""A role whose credentials end after seconds, for the real S3 server, which knows one key for good.

The desk hands out credentials as the endpoint of a container does. The front takes requests that
are signed with credentials that have not ended, signs them anew and passes them on.
"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

_OWN = {"authorization", "x-amz-security-token", "x-amz-date", "host", "connection"}
_ENDED = (
    b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
)


@dataclass
class Role:
    """Attributes:
    desk: address of the credentials.
    front: address of the S3 server that knows them.
    lasts: seconds for which the front takes them.
    says: seconds for which the desk says that they last; clients fetch new ones a minute before.
    given: token to the time it was given at.
    refused: requests with credentials that had ended.
    """

    lasts: float
    says: float
    desk: str = ""
    front: str = ""
    given: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    served: int = 0

    def give(self) -> dict[str, str]:
        token = secrets.token_hex(8)
        self.given[token] = time.monotonic()
        ends = datetime.now(UTC) + timedelta(seconds=self.says)
        return {
            "AccessKeyId": "ROLE",
            "SecretAccessKey": "of the role",
            "Token": token,
            "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        }

    def holds(self, token: str | None) -> bool:
        return time.monotonic() - self.given.get(token or "", -1e9) < self.lasts


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes, headers: Any = ()) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date"}:
                self.send_header(name, value)
        length = str(len(body))
        if self.command == "HEAD":
            length = next((v for n, v in headers if n.lower() == "content-length"), "0")
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def role(s3: Any, *, lasts: float, says: float) -> Iterator[Role]:
    """A role that may do on an S3 server what its one key may."""
    made = Role(lasts, says)
    place, key = urlsplit(s3.endpoint), Credentials(s3.key, s3.secret)

    class Desk(_Quiet):
        def do_GET(self) -> None:
            self.answer(200, json.dumps(made.give()).encode())

    class Front(_Quiet):
        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not made.holds(self.headers.get("x-amz-security-token")):
                made.refused += 1
                self.answer(403, _ENDED)
                return
            kept = {n: v for n, v in self.headers.items() if n.lower() not in _OWN}
            kept = {n: v for n, v in kept.items() if n.lower() != "x-amz-content-sha256"}
            request = AWSRequest(self.command, s3.endpoint + self.path, kept, body)
            S3SigV4Auth(key, "s3", "us-east-1").add_auth(request)
            there = http.client.HTTPConnection(place.netloc, timeout=30)
            there.request(self.command, self.path, body, dict(request.headers.items()))
            got = there.getresponse()
            self.answer(got.status, got.read(), got.getheaders())
            there.close()
            made.served += 1

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.pass_on
            raise AttributeError(name)

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (Desk, Front)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    made.desk, made.front = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield made
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()

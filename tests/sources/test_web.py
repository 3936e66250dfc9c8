"""Fetching by URL: what a server, a name or a redirect may do, and never into a private network."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks.errors import SourceError, TransientSourceError
from tasks.settings import GateSettings, Settings
from tasks.sources import web
from tasks.sources.web import fetch_url, is_public

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


def settings(**gate) -> Settings:
    given = {"allow_private_addresses": True, "url_seconds": 20.0} | gate
    return Settings(gate=GateSettings(**given))


class Handler(BaseHTTPRequestHandler):
    """Answers by its path."""

    stop = threading.Event()

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        name = self.path.split("?")[0].strip("/").replace("-", "_").replace("/", "_")
        getattr(self, name, self.missing)()

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def image(self) -> None:
        self.send(IMAGE, Content_Length=str(len(IMAGE)))

    def without_length(self) -> None:
        self.send(IMAGE)

    def broken_off(self) -> None:
        self.send(IMAGE, Content_Length=str(len(IMAGE) + 5))

    def missing(self) -> None:
        self.send(b"no", 404)

    def busy(self) -> None:
        self.send(b"later", 503)

    def packed(self) -> None:
        self.send(IMAGE, Content_Encoding="gzip")

    def moved(self) -> None:
        self.send(b"", 302, Location="image?x=1")

    def round_and_round(self) -> None:
        self.send(b"", 302, Location="/round-and-round")

    def to_file(self) -> None:
        self.send(b"", 302, Location="file:///etc/passwd")

    def to_metadata(self) -> None:
        self.send(b"", 302, Location="http://169.254.169.254/latest/meta-data/")

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.stop.is_set():
                self.wfile.write(bytes(4096))
        except OSError:
            pass

    def silent(self) -> None:
        self.stop.wait(60)

    def dripping(self) -> None:
        """A header that never ends, a letter at a time: each letter starts a socket's time anew."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        try:
            while not self.stop.wait(0.02):
                self.wfile.write(b"a")
        except OSError:
            pass

    def dripping_body(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.stop.wait(0.02):
                self.wfile.write(b"a")
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    Handler.stop = threading.Event()
    made = Server(("127.0.0.1", 0), Handler)
    made.asked = []
    made.url = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    Handler.stop.set()
    made.shutdown()
    made.server_close()


def test_an_image_is_fetched_with_or_without_its_length_and_through_redirects(server):
    assert fetch_url(f"{server.url}/image", settings()) == IMAGE
    assert fetch_url(f"{server.url}/without-length", settings()) == IMAGE
    assert fetch_url(f"{server.url}/moved", settings()) == IMAGE
    assert server.asked[-1][0] == "/image?x=1"
    fetch_url(f"{server.url}/image?name=äö&x=%20", settings())
    assert server.asked[-1][0] == "/image?name=%C3%A4%C3%B6&x=%20"
    assert server.asked[-1][1]["Host"] == server.url.removeprefix("http://")


@pytest.mark.parametrize(
    ("path", "words", "error"),
    [
        ("missing", "404", SourceError),
        ("busy", "503", TransientSourceError),
        ("packed", "gzip", SourceError),
        ("broken-off", "broke off", TransientSourceError),
        ("round-and-round", "redirects", SourceError),
        ("to-file", "only http", SourceError),
    ],
)
def test_what_a_server_may_not_answer(server, path, words, error):
    with pytest.raises(error, match=words):
        fetch_url(f"{server.url}/{path}", settings())


def test_redirects_are_counted(server):
    assert fetch_url(f"{server.url}/moved", settings(url_redirects=1)) == IMAGE
    with pytest.raises(SourceError, match="0 redirects"):
        fetch_url(f"{server.url}/moved", settings(url_redirects=0))


@pytest.mark.parametrize("path", ["image", "without-length", "endless"])
def test_too_large_is_refused_whether_announced_or_not(server, path):
    with pytest.raises(SourceError, match="over 5000 bytes"):
        fetch_url(f"{server.url}/{path}", settings(max_upload_bytes=5000))


@pytest.mark.parametrize("path", ["silent", "dripping", "dripping-body"])
def test_too_slow_is_given_up(server, path):
    with pytest.raises(TransientSourceError, match="longer than allowed"):
        fetch_url(f"{server.url}/{path}", settings(url_seconds=0.5))


def test_a_server_that_is_not_there_and_a_name_that_is_none():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TransientSourceError, match="cannot be asked"):
        fetch_url(f"http://127.0.0.1:{port}/", settings())
    with pytest.raises(TransientSourceError, match="no such host"):
        fetch_url("http://nobody.invalid/", settings())


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a.jpg",
        "gopher://127.0.0.1/",
        "data:,x",
        "//x/y",
        "a.jpg",
        "",
        "http://",
        "http:///a",
        "http://user:secret@example.com/",
        "http://x:0/",
        "http://x:99999/",
        "http://exa mple.com/",
        "http://x/\r\nHost: y",
        "http://[::1/",
        "http://x\\@127.0.0.1/",
        "http://x/" + "a" * 9000,
    ],
)
def test_what_is_no_web_address_is_refused_before_anything_is_asked(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("asked"))
    with pytest.raises(SourceError) as error:
        fetch_url(url, settings())
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "[ff02::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.2.1",
    ],
)
def test_private_addresses_are_refused_however_they_are_written(host, server):
    url = f"http://{host}:{server.server_port}/image"
    with pytest.raises(SourceError, match=r"private network|no such host"):
        fetch_url(url, settings(allow_private_addresses=False))
    assert server.asked == []


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("93.184.216.34", True),
        ("8.8.8.8", True),
        ("2606:2800:220:1::1", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("::ffff:0:7f00:1", False),
        ("::8.8.8.8", False),
        ("2002:808:808::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2001:db8::1", False),
        ("fe80::1%1", False),
        ("fec0::1", False),
        ("100::1", False),
        ("192.88.99.1", False),
        ("192.0.0.8", False),
        ("203.0.113.9", False),
        ("233.252.0.1", False),
        ("ff0e::1", False),
    ],
)
def test_addresses_are_public_or_not(text, public):
    assert is_public(ipaddress.ip_address(text)) is public


def _answers(monkeypatch, table: dict[str, list[str]]) -> list[str]:
    """A resolver that knows some names; the sockets are real."""
    real, asked = socket.getaddrinfo, []

    def resolve(host, port, *rest, **options):
        if host not in table:
            return real(host, port, *rest, **options)
        asked.append(host)
        rows = table[host]
        chosen = rows.pop(0) if len(rows) > 1 and isinstance(rows[0], list) else rows
        chosen = chosen[0] if isinstance(chosen[0], list) else chosen
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in chosen]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


def test_a_name_that_leads_to_this_machine_is_refused(server, monkeypatch):
    _answers(monkeypatch, {"innocent.example": ["127.0.0.1"]})
    with pytest.raises(SourceError, match=r"innocent\.example leads into a private network"):
        fetch_url(
            f"http://innocent.example:{server.server_port}/image",
            settings(allow_private_addresses=False),
        )
    assert server.asked == []


def test_one_private_address_among_public_ones_is_refused(server, monkeypatch):
    _answers(monkeypatch, {"mixed.example": ["93.184.216.34", "127.0.0.1"]})
    with pytest.raises(SourceError, match="private network"):
        fetch_url("http://mixed.example/", settings(allow_private_addresses=False))


def test_a_name_is_resolved_once_and_the_checked_address_is_asked(server, monkeypatch):
    """DNS rebinding: public when it is checked, this machine when it is asked."""
    asked = _answers(monkeypatch, {"rebinding.example": [["93.184.216.34"], ["127.0.0.1"]]})
    connected = []

    def connect(address, timeout):
        connected.append(address)
        raise OSError("not from a test")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(TransientSourceError):
        fetch_url("http://rebinding.example/", settings(allow_private_addresses=False))
    assert connected == [("93.184.216.34", 80)]
    assert asked == ["rebinding.example"]


@pytest.mark.parametrize("path", ["to-metadata", "moved"])
def test_a_redirect_into_a_private_network_is_refused(server, monkeypatch, path):
    """The first address passes as public; what it redirects to is checked anew."""
    first = []

    def public(address) -> bool:
        first.append(str(address))
        return len(first) == 1

    monkeypatch.setattr(web, "is_public", public)
    with pytest.raises(SourceError, match="private network"):
        fetch_url(f"{server.url}/{path}", settings(allow_private_addresses=False))
    assert len(first) == 2
    assert [asked[0] for asked in server.asked] == [f"/{path}"]


def test_proxies_of_the_environment_are_not_asked(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch_url(f"{server.url}/image", settings()) == IMAGE


def test_tls_needs_a_certificate_that_is_trusted(server):
    with pytest.raises(TransientSourceError, match="cannot be asked"):
        fetch_url(f"https://127.0.0.1:{server.server_port}/image", settings())

"""Images by URL, fetched for anybody who asks, but never from inside a private network.

A host name is resolved here, each of its addresses is checked, and the connection goes to one of
the checked addresses, so that a name which resolves differently a moment later gains nothing. Each
redirect is checked in the same way. Proxies of the environment are not used, because they would
resolve names themselves. Which addresses are not public: the IANA special-purpose registries, as
Python's ``ipaddress`` knows them, and the IPv6 forms that carry an IPv4 address inside.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from tasks.errors import SourceError, TransientSourceError
from tasks.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 64 * 1024
_URL_CHARACTERS = 8000
_SAFE = "%/:=&?~#+!$,;'@()*[]"
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
#: Obsolete IPv6 forms that carry an IPv4 address: ::a.b.c.d, and ::ffff:0:a.b.c.d.
_CARRIERS = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("::ffff:0:0:0/96"))
#: 6to4, Teredo and ORCHID, which lead through somebody else's relay, if anywhere; and the block for
#: documentation.
_TUNNELS = tuple(ipaddress.IPv6Network(text) for text in ("2002::/16", "2001::/23", "3fff::/20"))
#: The part of IPv6 from which addresses are given out.
_UNICAST = ipaddress.IPv6Network("2000::/3")
#: Blocks for protocols and for the relays of 6to4, where no web server is.
_PROTOCOLS = tuple(ipaddress.IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24"))


def fetch_url(url: str, settings: Settings) -> bytes:
    """The bytes at an address of the web.

    Args:
        url: ``http://`` or ``https://``.
        settings: the gate's limits on size, time, redirects and addresses.

    Raises:
        TransientSourceError: when the server cannot be reached, or takes too long.
        SourceError: when it may not be asked, says no, or sends more than is allowed.
    """
    limits = settings.gate
    deadline = time.monotonic() + limits.url_seconds
    for _ in range(limits.url_redirects + 1):
        parts = _parse(url)
        addresses = _resolve(parts, deadline, private=limits.allow_private_addresses)
        found = _get(
            parts, addresses, deadline, min(limits.max_upload_bytes, settings.limits.bytes)
        )
        if isinstance(found, bytes):
            return found
        url = urljoin(url, found)
    raise SourceError(f"{_shown(url)}: more than {limits.url_redirects} redirects")


def is_public(address: Address) -> bool:
    """Whether an address is one that anybody on the internet could ask."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in (*_NAT64, *_CARRIERS)):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
            return address in _NAT64[0] and is_public(inner)
        if address not in _UNICAST or any(address in network for network in _TUNNELS):
            return False
    elif any(address in network for network in _PROTOCOLS):
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not address.is_loopback
        and not address.is_link_local
        and not address.is_private
    )


def _parse(url: str) -> SplitResult:
    if len(url) > _URL_CHARACTERS or re.search(r"[\x00-\x20\x7f\\]", url):
        raise SourceError(f"{_shown(url)}: no web address, or too long")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{_shown(url)}: no web address ({error})") from None
    if parts.scheme not in {"http", "https"}:
        raise SourceError(f"{_shown(url)}: only http:// and https:// are fetched")
    if not host or port == 0:
        raise SourceError(f"{_shown(url)}: names no host")
    if parts.username is not None or parts.password is not None:
        raise SourceError(f"{parts.scheme}://...@{host}: addresses with a password are not fetched")
    return parts


def _resolve(parts: SplitResult, deadline: float, *, private: bool) -> list[str]:
    """The addresses of a URL's host, all of them checked."""
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found: list[str] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(row[4][0]) for row in rows))
        except (OSError, UnicodeError) as error:
            failed.append(error)

    # A resolver knows no time limit of its own.
    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if thread.is_alive():
        raise TransientSourceError(f"{host}: its name is not resolved in time")
    if failed or not found:
        raise TransientSourceError(f"{host}: no such host")
    if not private and not all(is_public(ipaddress.ip_address(text)) for text in found):
        raise SourceError(
            f"{host} leads into a private network; if images there may be fetched, set "
            "DAM_DEDUP_GATE__ALLOW_PRIVATE_ADDRESSES=true"
        )
    return found


def _get(parts: SplitResult, addresses: list[str], deadline: float, most: int) -> bytes | str:
    """The body, or the address of a redirect."""
    shown = _shown(parts.geturl())
    connection = _Connection(parts, addresses, deadline)
    target = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE)
    headers = {
        "User-Agent": "dam-dedup",
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    try:
        with connection.watched():
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            if answer.status in _REDIRECTS and answer.headers.get("Location"):
                return str(answer.headers["Location"])
            _check_answer(answer, shown, most)
            return _read(answer, deadline, most, shown)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline or isinstance(error, TimeoutError):
            raise _slow(shown) from None
        kind = type(error).__name__
        raise TransientSourceError(f"{shown}: the server cannot be asked ({kind})") from None


def _check_answer(answer: http.client.HTTPResponse, shown: str, most: int) -> None:
    if answer.status != 200:
        kind = TransientSourceError if answer.status in _PASSING else SourceError
        raise kind(f"{shown}: the server answers {answer.status}")
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise SourceError(f"{shown}: sent as {encoding!r:.40}, which was not asked for")
    if answer.length is not None and answer.length > most:
        raise _large(shown, most)


def _read(answer: http.client.HTTPResponse, deadline: float, most: int, shown: str) -> bytes:
    body = bytearray()
    announced = answer.length
    while True:
        if time.monotonic() >= deadline:
            raise _slow(shown)
        chunk = answer.read1(_CHUNK)
        if not chunk:
            break
        body += chunk
        if len(body) > most:
            raise _large(shown, most)
    if time.monotonic() >= deadline:  # we cut the connection, so the body is not whole
        raise _slow(shown)
    if announced is not None and len(body) < announced:
        raise TransientSourceError(f"{shown}: the server broke off after {len(body)} bytes")
    return bytes(body)


def _large(shown: str, most: int) -> SourceError:
    return SourceError(f"{shown}: over {most} bytes; raise DAM_DEDUP_GATE__MAX_UPLOAD_BYTES")


def _slow(shown: str) -> TransientSourceError:
    return TransientSourceError(
        f"{shown}: takes longer than allowed; raise DAM_DEDUP_GATE__URL_SECONDS"
    )


def _shown(url: str) -> str:
    """A URL for a message: without its query, which may hold a key, and cut to a length."""
    return repr(url.split("?", 1)[0].split("#", 1)[0][:200])


class _Connection(http.client.HTTPConnection):
    """A connection to one of the addresses that were checked, closed at a deadline."""

    def __init__(self, parts: SplitResult, addresses: list[str], deadline: float) -> None:
        self._secure = parts.scheme == "https"
        self.default_port = 443 if self._secure else 80
        super().__init__(parts.hostname or "", parts.port or self.default_port)
        self._addresses, self._deadline = addresses, deadline
        self._open: socket.socket | None = None

    def connect(self) -> None:
        failed: OSError = OSError("no address")
        for address in self._addresses:
            try:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self.sock = socket.create_connection((address, self.port), timeout=left)
                self._open = self.sock
                break
            except TimeoutError:
                raise
            except OSError as error:
                failed = error
        else:
            raise failed
        if self._secure:
            secured = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock = self._open = secured
            secured.do_handshake()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Cut the connection at the deadline.

        A socket's own timeout does not do that: it begins anew with every byte of a slow server.
        """
        timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self.close()

    def _cut(self) -> None:
        held = self._open  # http.client sets self.sock to None once an answer begins
        if held is not None:
            with contextlib.suppress(OSError):
                # The socket's own shutdown: that of TLS would first exchange a closing message.
                socket.socket.shutdown(held, socket.SHUT_RDWR)

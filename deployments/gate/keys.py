"""Who may use the gate: callers with an API key or, without keys, this machine alone."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

from deployments.gate.problems import Problem
from tasks.errors import SettingsError
from tasks.settings import Settings

_HASHED = "sha256:"
#: A shorter key can be guessed.
_LENGTH = 16


class Keys:
    """The keys of the settings, as digests.

    Args:
        settings: their ``gate.api_keys``: plain, or as ``sha256:`` and the hex digest of the key.
        anybody: answer callers without a key, wherever they are.

    Raises:
        SettingsError: when a key is too short, or no digest.
    """

    def __init__(self, settings: Settings, *, anybody: bool = False) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in settings.gate.api_keys]
        self._anybody = anybody

    @property
    def asked(self) -> bool:
        """Whether a key is asked for."""
        return bool(self._digests)

    def check_address(self, host: str) -> None:
        """Refuse an address that other machines can reach when no key is asked for.

        Raises:
            SettingsError: when the address can be reached from elsewhere.
        """
        if not self.asked and not self._anybody and not is_loopback(host):
            raise SettingsError(
                f"--host {host}: without keys, only this machine may ask. Set "
                "DAM_DEDUP_GATE__API_KEYS, listen on 127.0.0.1, or say --no-keys where a proxy "
                "decides who may ask"
            )

    def check(self, request: Request) -> None:
        """Let a request pass, or not.

        Raises:
            Problem: 401 without a right key; 403 for what another web site makes a browser send.
        """
        if self.asked:
            self._check_key(request)
        elif not self._anybody:
            _check_local(request)

    def _check_key(self, request: Request) -> None:
        given = request.headers.get("x-api-key", "")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":  # what Prometheus can send
            given = token.strip()
        found = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        # All keys are compared, each in constant time, so that the time tells nothing of the keys.
        matches = sum(hmac.compare_digest(found, known) for known in self._digests)
        if not matches:
            raise Problem(
                401,
                "no_key",
                "this needs a key" if not given else "this key is wrong",
                "Send the header X-API-Key with a key of this gate",
                {"WWW-Authenticate": "Bearer"},
            )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_local(request: Request) -> None:
    """Without keys, refuse requests that another site's page makes through a local browser."""
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not is_loopback(host):  # another name that resolves to this machine: DNS rebinding
        raise _foreign("the request is for another host")
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise _foreign("the request comes from another web site")
    if request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise _foreign("the request comes from another web site")


def _foreign(detail: str) -> Problem:
    remedy = "Ask this gate at its loopback address, or set DAM_DEDUP_GATE__API_KEYS"
    return Problem(403, "foreign", detail, remedy)


def _digest(key: str) -> bytes:
    text = key.strip()
    if text.startswith(_HASHED):
        try:
            found = bytes.fromhex(text.removeprefix(_HASHED))
        except ValueError:
            found = b""
        if len(found) != hashlib.sha256().digest_size:
            raise SettingsError("DAM_DEDUP_GATE__API_KEYS: after sha256: come 64 hex digits")
        return found
    if len(text) < _LENGTH:
        raise SettingsError(
            f"DAM_DEDUP_GATE__API_KEYS: a key has fewer than {_LENGTH} characters; make one with "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return hashlib.sha256(text.encode()).digest()

"""Signed links, for a while: who may decide on which plan, and who may undo what was merged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer

from tasks.errors import MergeError, SettingsError
from tasks.merging.rules.plans import Plan
from tasks.records import now
from tasks.settings import Settings

#: Keeps these signatures apart from any other that is made with the same secret.
_SALT = "dam-dedup approval link 1"
#: A link that decides cannot undo, and one that undoes cannot decide.
_UNDO_SALT = "dam-dedup undo link 1"
_SECRET_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Claim:
    """What a valid link says.

    Attributes:
        plan_id: the plan's short name.
        hash: of the whole plan; the link is worth nothing for any other.
        reviewer: whose decision it is.
        until: when the link ends.
        scope: which of the plan's groups the link is for, a bit each; None: all.
    """

    plan_id: str
    hash: str
    reviewer: str
    until: datetime
    scope: bytes | None = None

    def groups(self, plan: Plan) -> frozenset[str] | None:
        """The ids of the groups that this link is for; None: all.

        Args:
            plan: the link's own.
        """
        if self.scope is None:
            return None
        bits = int.from_bytes(self.scope, "little")
        return frozenset(
            group.group_id for number, group in enumerate(plan.groups) if bits >> number & 1
        )


def sign_link(
    settings: Settings,
    plan: Plan,
    reviewer: str,
    *,
    until: datetime | None = None,
    groups: Collection[str] | None = None,
) -> str:
    """The address at which one reviewer decides on one plan.

    Args:
        settings: where the pages are, the secret, and the life of a link.
        plan: exactly this plan.
        reviewer: recorded as who decided: whoever has the link is taken for this person.
        until: an earlier end than the settings': a link that follows from another ends with it.
        groups: ids of the only groups that may be decided on with it; None: all. Ten thousand
            groups make the link 2.2 kB long, a thousand 0.6 kB: a bit each.

    Raises:
        SettingsError: when address or secret are missing, or the secret is too short.
        MergeError: when the reviewer's name cannot be one.
    """
    token = _token(settings, plan, reviewer, until, groups, _SALT)
    return f"{_gate_url(settings)}/review/{token}"


def sign_undo_link(
    settings: Settings, plan: Plan, person: str, *, groups: Collection[str] | None = None
) -> str:
    """The address at which one person sees what was merged, and may undo it.

    Args:
        settings: where the pages are, the secret, and the life of a link.
        plan: the plan that was merged.
        person: recorded as who undid: whoever has the link is taken for this person.
        groups: ids of the only groups of this plan that are shown and may be undone; None: those
            of every plan of the plan's source, for an owner of the collection.

    Raises:
        SettingsError: when address or secret are missing, or the secret is too short.
        MergeError: when the person's name cannot be one.
    """
    token = _token(settings, plan, person, None, groups, _UNDO_SALT)
    return f"{_gate_url(settings)}/done/{token}"


def _gate_url(settings: Settings) -> str:
    url = settings.merge.gate_url
    if not url:
        raise SettingsError(
            "approval links need the address of the approval pages: set DAM_DEDUP_MERGE__GATE_URL "
            "to where `dam-dedup gate` is reached, e.g. https://dam.example.org/dedup"
        )
    return url.rstrip("/")


def read_undo_token(settings: Settings, token: str) -> Claim:
    """What the token of a link for undoing says; raises as :func:`read_token` does."""
    return read_token(settings, token, _UNDO_SALT)


def read_token(settings: Settings, token: str, salt: str = _SALT) -> Claim:
    """What a link's token says, once its signature and its age are checked.

    Raises:
        SettingsError: when the secret is missing or too short.
        MergeError: when the link was changed, is signed by another secret, or is over.
    """
    life = timedelta(days=settings.merge.link_days)
    try:
        said, signed = _serializer(settings, salt).loads(
            token, max_age=int(life.total_seconds()), return_timestamp=True
        )
        claim = _claim(said, signed + life)
    except SignatureExpired as error:
        signed = error.date_signed or now()
        raise _over(signed + life) from None
    except (BadData, KeyError, TypeError, ValueError, OverflowError, OSError):
        raise MergeError(
            "this link is not valid: it was changed or cut off on its way, or the signing secret "
            "was changed since. Open it from the message itself, or ask for a new one"
        ) from None
    if claim.until <= now():
        raise _over(claim.until)
    return claim


def check_secret(settings: Settings) -> str:
    """The secret that signs links.

    Raises:
        SettingsError: when it is missing or too short; says how to make one.
    """
    secret = settings.merge.secret.get_secret_value() if settings.merge.secret else ""
    if len(secret) < _SECRET_LENGTH:
        wrong = f"has {len(secret)} characters" if secret else "is not set"
        raise SettingsError(
            f"DAM_DEDUP_MERGE__SECRET {wrong}; approval links are signed with {_SECRET_LENGTH} "
            "random characters or more. Make some with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return secret


def link_end(settings: Settings) -> datetime:
    """When a link that is signed now ends, by the settings."""
    return now() + timedelta(days=settings.merge.link_days)


def _token(
    settings: Settings,
    plan: Plan,
    reviewer: str,
    until: datetime | None,
    groups: Collection[str] | None,
    salt: str,
) -> str:
    name = " ".join(reviewer.split())
    if not name or not name.isprintable():
        raise MergeError(f"{reviewer!r} is no name of a reviewer: write a name or an address")
    end = link_end(settings)
    end = min(end, until) if until else end
    said: dict[str, Any] = {
        "plan": plan.id,
        "hash": plan.hash,
        "reviewer": name,
        "until": int(end.timestamp()),
    }
    if groups is not None:
        said["scope"] = _bits(plan, groups).hex()
    return str(_serializer(settings, salt).dumps(said))


def _bits(plan: Plan, groups: Collection[str]) -> bytes:
    """A bit for each group of the plan: whether it is one of these."""
    wanted = frozenset(groups)
    found = bytearray(-(-len(plan.groups) // 8))
    for number, group in enumerate(plan.groups):
        found[number // 8] |= (group.group_id in wanted) << number % 8
    return bytes(found)


def _serializer(settings: Settings, salt: str = _SALT) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(
        check_secret(settings),
        salt=salt,
        signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
    )


def _claim(said: dict[str, Any], latest: datetime) -> Claim:
    until = datetime.fromtimestamp(said["until"], UTC)
    # A scope that cannot be read must never become the whole plan.
    scope = bytes.fromhex(said["scope"]) if "scope" in said else None
    return Claim(
        str(said["plan"]), str(said["hash"]), str(said["reviewer"]), min(until, latest), scope
    )


def _over(end: datetime) -> MergeError:
    return MergeError(
        f"this link ended on {end:%Y-%m-%d at %H:%M} UTC. Nothing was decided with it now; "
        "ask for a new one"
    )

"""The form of the approval page, as a reviewer's browser sends it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

from fastapi import Request
from starlette.exceptions import HTTPException

#: The most bytes of one form; a page of 50 groups sends some 10,000.
BODY_LIMIT = 256_000
_FIELDS = 2_000
_KEEPER = "keeper-"


@dataclass(frozen=True, slots=True)
class Form:
    """What a reviewer chose before clicking a button.

    Attributes:
        decision: ``approve``, ``reject``, ``approve-all`` (which asks first), ``approve-all-asked``
            (the answer to that), ``keeper`` or ``withdraw``.
        groups: ids of the chosen groups; of a group's own button, that group alone.
        accepted: ids of the groups whose questions were read.
        keepers: group id to the number of the member that is to stay; 0 is the planned keeper.
    """

    decision: str
    groups: tuple[str, ...]
    accepted: frozenset[str]
    keepers: dict[str, int]
    comment: str


def check_form(request: Request, nothing: str) -> None:
    """Refuse what no button of our pages sends; ``nothing`` says what was not done.

    Raises:
        HTTPException: 403 where another site's page sends it, 415 where it is no form.
    """
    # The pages send no referrer, so that browsers send no origin; this header says the same.
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise HTTPException(403, f"use the page of the link; {nothing}")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, f"use the buttons of the page; {nothing}")


async def read_form_body(request: Request, limit: int, nothing: str) -> bytes:
    """The bytes of a form, no more than a limit; ``nothing`` says what was not done.

    Raises:
        HTTPException: 413.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"the form is too large; {nothing}")
    return body


def parse_form(body: bytes) -> Form:
    """A form as browsers send it (``application/x-www-form-urlencoded``).

    Raises:
        ValueError: when it is none, or has too many fields.
    """
    found = parse_qs(body.decode("ascii"), max_num_fields=_FIELDS, errors="replace")
    keepers = {
        name.removeprefix(_KEEPER): _number(values[-1])
        for name, values in found.items()
        if name.startswith(_KEEPER)
    }
    # A group's own button: what else is chosen does not count.
    own, back = _last(found, "merge"), _last(found, "withdraw")
    decision = "withdraw" if back else "approve" if own else _last(found, "decision")
    own = back or own
    return Form(
        decision=decision,
        groups=(own,) if own else tuple(dict.fromkeys(found.get("groups", []))),
        accepted=frozenset(found.get("accept", [])),
        keepers={group: number for group, number in keepers.items() if number},
        comment=_last(found, "comment").replace("\r\n", "\n").strip(),
    )


def _last(found: dict[str, list[str]], name: str) -> str:
    return found.get(name, [""])[-1]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ValueError(f"{text[:20]!r} is no member of a group")
    return int(text)

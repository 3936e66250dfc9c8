"""From the parameters of compatible clients to ours, and from our findings to their documents."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from deployments.gate.answers import as_json, finding_document
from deployments.gate.problems import wrong
from tasks.records import Finding
from tasks.settings import Settings

#: The clients' names of facts, and ours.
_NAMES = {"id": "key", "filename": "name"}
_SORTS = {
    "id",
    "name",
    "filename",
    "size",
    "last_modified",
    "width",
    "height",
    "format",
    "label",
} | {"score"}
_LOWEST = 0.5
_MOST_START = 10_000_000
_NO_FILTER = {"off", "false", "none", "0", "no"}
_YES, _NO = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}
_STRONG = {"high", "strong", "max", "3"}
#: How a client says that enough was added: as a parameter, or as the one word of a document.
COMMITS = {"commit", "softCommit", "optimize"}
#: Parameters that every route takes; of them only an update's commit changes anything. The last is
#: what the other service's public client sends for ``q=*:*``.
_ANYWHERE = {"wt", "indent", "omitHeader", "_", "overwrite", *COMMITS, "q*:*"}
_PAGING = {"fq", "fl", "rows", "start", "sort"}
_SELECTING = {"q", "cursorMark", *_PAGING}
_BY = {f"rank.by.{name}" for name in ("id", "url", "data", "preprocessed")}
_HOW = {f"rank.{name}" for name in ("threshold", "treshold", "approximate", "smartfilter")}
_RANKING = {"input.data", *_BY, *_HOW, *_PAGING}
ANALYSING = {"input.data", "input.url", "modules.apply"}
UPDATING = {"commitWithin"}
#: Where the spelling of a document's own fields is kept, by their names in lower case.
_SPELT = "dam-dedup-spelt"
_SENT = {"id", "import", "_version_", "tags", "metadata"}


class Params:
    """Parameters by name, each with all its values."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    def last(self, name: str, default: str = "") -> str:
        """The last value."""
        return next((text for key, text in reversed(self._pairs) if key == name), default)

    def all(self, name: str) -> list[str]:
        """All values."""
        return [text for key, text in self._pairs if key == name]

    def check(self, known: Collection[str]) -> None:
        """Refuse parameters that are not known: to ignore one would answer another question.

        Raises:
            Problem: naming the first, and what may have been meant.
        """
        for name, _ in self._pairs:
            if name in known or name in _ANYWHERE:
                continue
            near = difflib.get_close_matches(name, [*known], n=1)
            raise wrong(
                f"there is no parameter {name[:50]!r} here",
                f"Send {near[0]}" if near else f"Known: {', '.join(sorted(known))}",
            )

    def number(self, name: str, default: int, most: int) -> int:
        """A parameter as a whole number, 0 or more.

        Raises:
            Problem: when it is not one, or is too large.
        """
        text = self.last(name).strip() or str(default)
        if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
            raise wrong(f"{name}={text[:20]!r} is no number from 0 to {most}", f"Correct {name}")
        return int(text)


def asks_for_commit(params: Params) -> bool:
    """Whether the parameters of an update ask for a commit; ``commit=true``, as Solr spells it."""
    return any(params.last(name).lower() == "true" for name in COMMITS)


@dataclass(frozen=True, slots=True)
class Select:
    """The parameters of ``/select``.

    Attributes:
        sort: columns, the first one first, each with whether it falls.
    """

    fq: tuple[str, ...]
    rows: int
    start: int
    fl: tuple[str, ...]
    sort: tuple[tuple[str, bool], ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class Rank:
    """The parameters of ``/duplicate``: an image, and how it is to be compared."""

    id: str
    url: str
    data: str
    preprocessed: str
    threshold: float
    mode: str
    fq: tuple[str, ...]
    rows: int
    start: int
    fl: tuple[str, ...]


def read_select(params: Params, most: int) -> Select:
    """The parameters of ``/select``.

    Raises:
        Problem: naming the one that is wrong.
    """
    queries = [text for text in (params.last("q"), *params.all("fq")) if text.strip() not in _ALL]
    params.check(_SELECTING)
    # Where nothing is ranked, all scores are the same.
    sort = tuple(one for one in _sorts(params.last("sort")) if one[0] != "score")
    sort = sort or (("key", False),)
    cursor = params.last("cursorMark").strip()
    start = params.number("start", 0, _MOST_START)
    if cursor and (len(sort) > 1 or sort[0][0] != "key" or start):
        raise wrong("a cursor goes by id alone, without start", "Send sort=id asc with cursorMark")
    rows = params.number("rows", 10, most)
    return Select(tuple(queries), rows, start, _fl(params), sort, cursor)


_ALL = {"", "*:*", "*"}


def read_rank(params: Params, settings: Settings, *, sent: bool = False) -> Rank:
    """The parameters of ``/duplicate``.

    Args:
        params: as they came.
        settings: with the threshold and the largest page.
        sent: whether the request brings an image of its own.

    Raises:
        Problem: naming the one that is wrong.
    """
    params.check(_RANKING)
    # The other service's documentation spells it so, and its clients do.
    threshold = params.last("rank.threshold") or params.last("rank.treshold")
    rank = Rank(
        id=params.last("rank.by.id"),
        url=params.last("rank.by.url"),
        data=params.last("rank.by.data") or params.last("input.data"),
        preprocessed=params.last("rank.by.preprocessed"),
        threshold=_threshold(threshold, settings.match.threshold),
        mode=_mode(params.last("rank.approximate"), params.last("rank.smartfilter")),
        fq=tuple(text for text in params.all("fq") if text.strip() not in _ALL),
        rows=params.number("rows", 10, settings.gate.page_rows),
        start=params.number("start", 0, _MOST_START),
        fl=_fl(params),
    )
    if sum(bool(one) for one in (sent, rank.id, rank.url, rank.data, rank.preprocessed)) != 1:
        raise wrong(
            "there is no image, or more than one",
            "Send one of rank.by.id, rank.by.url, rank.by.preprocessed, or an image",
        )
    if _sorts(params.last("sort") or "score desc") not in (
        (("score", True),),
        (("score", True), ("key", False)),
    ):
        raise wrong(
            "duplicates are sorted by score, then by id",
            "Leave sort out, or send sort=score desc, id asc",
        )
    return rank


def response(
    total: int, start: int, docs: list[dict[str, Any]], best: float | None
) -> dict[str, Any]:
    """The part of an answer that holds documents."""
    found: dict[str, Any] = {"numFound": total, "start": start}
    if best is not None:
        found["maxScore"] = best
    return {"response": {**found, "numFoundExact": True, "docs": docs}}


def finding_doc(finding: Finding, fl: tuple[str, ...]) -> dict[str, Any]:
    """A finding as a document."""
    return row_doc(finding_document(finding), fl, score=finding.score)


def row_doc(row: dict[str, Any], fl: tuple[str, ...], *, score: float | None) -> dict[str, Any]:
    """An asset as a document; further fields of its update come back under their own names."""
    sent = _sent(_map(row.get("metadata")))
    whole = {**sent, **{name: as_json(value) for name, value in row.items() if name != "key"}}
    whole |= {"id": row["key"], "filename": row.get("name")}
    whole["metadata"], whole["tags"] = sent, _map(row.get("tags"))
    if score is not None:
        whole["score"] = as_json(score)
    if not fl or "*" in fl:
        return {name: value for name, value in whole.items() if value is not None}
    return {name: whole[name] for name in fl if whole.get(name) is not None}


def stored_fields(document: dict[str, Any]) -> dict[str, str]:
    """The fields of a document that are kept beside its analysis, as text.

    Raises:
        Problem: when they are too many or too long.
    """
    found: dict[str, str] = {}
    for name, value in document.items():
        if name in _SENT or value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        if len(name) > 200 or len(text) > 8192 or len(found) >= 64:
            raise wrong(
                f"the field {name[:50]!r} is too long, or one too many",
                "Send 64 fields of 8,192 characters at most",
            )
        if name == "image" and text.startswith("data:"):
            continue
        found[name] = text
    # Names of user metadata are kept in lower case, as S3 hands them out.
    spelt = {name.lower(): name for name in found if name != name.lower()}
    return found | ({_SPELT: json.dumps(spelt)} if spelt else {})


def _sent(facts: dict[str, Any]) -> dict[str, Any]:
    """A document's own fields as they were sent: lists as lists, and under their own names."""
    spelt = _map(facts.get(_SPELT))
    return {
        spelt.get(name, name): _unlisted(value) for name, value in facts.items() if name != _SPELT
    }


def _unlisted(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if isinstance(found, list) else value
    return value


def _map(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = json.loads(value) if value else {}
    return dict(value) if isinstance(value, dict) else {}


def _fl(params: Params) -> tuple[str, ...]:
    listed = [name for text in params.all("fl") for name in re.split(r"[,\s]+", text) if name]
    if len(listed) > 100:
        raise wrong("fl names too many fields", "Name 100 at most")
    return tuple(dict.fromkeys(listed))


def _sorts(text: str) -> tuple[tuple[str, bool], ...]:
    found = [_sort(part.strip()) for part in text.split(",") if text.strip()]
    if len(found) > len(_SORTS):
        raise wrong("sort names too many fields", "Name each field once")
    return tuple(found)


def _sort(text: str) -> tuple[str, bool]:
    name, _, way = text.partition(" ")
    if name not in _SORTS or way.strip().lower() not in {"", "asc", "desc"}:
        raise wrong(f"sort={text[:50]!r} is not understood", "Send sort=id asc")
    return _NAMES.get(name, name), way.strip().lower() == "desc"


def _threshold(text: str, default: float) -> float:
    if not text.strip():
        return default
    if not re.fullmatch(r"[01]?(\.[0-9]{0,12})?", text.strip()) or text.strip() == ".":
        raise wrong(f"rank.threshold={text[:20]!r} is no number from 0 to 1", "Send 0.7")
    number = float(text)
    if number > 1:
        raise wrong(f"rank.threshold={text[:20]!r} is above 1", "Send 0.7")
    return max(number, _LOWEST)  # below it, nothing is a match here


def _mode(approximate: str, smartfilter: str) -> str:
    """The search mode that the clients' two parameters ask for; see docs/gate.md."""
    asked, strength = approximate.strip().lower(), smartfilter.strip().lower()
    if asked and asked not in _YES | _NO:
        raise wrong("rank.approximate is neither true nor false", "Send rank.approximate=false")
    if asked in _NO:
        return "exact"
    if strength in _STRONG:
        return "speed"
    if strength and strength not in _NO_FILTER:
        return "balanced"
    return "balanced" if asked in _YES else "auto"

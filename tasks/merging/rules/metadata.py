"""What the duplicates know that the keeper should know too, field by field."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from operator import itemgetter

from tasks.errors import MergeError
from tasks.merging.rules.plans import FieldMerge, FieldRule, Member
from tasks.merging.rules.xmp_fields import names_places

#: The rule of a field whose value a person chose.
BY_A_PERSON = "chosen"
#: They name one file, not its picture: a keeper that took them would pass for another file.
_IDENTITY = {"xmp.document_id", "xmp.instance_id", "xmp.original_document_id", "xmp.derived_from"}
#: Tags that this program writes; they are about one merge.
_OURS = "tags.dam-dedup"
#: Texts of sidecars and of files read by older releases are kept up to so many characters: one of
#: just that length may have lost its end.
_XMP_CUT = 2000
#: What S3 allows: tags of an object, UTF-16 units of their names and values, and characters
#: other than letters and digits.
_MOST_TAGS, _TAG_NAME, _TAG_VALUE, _TAG_MARKS = 10, 128, 256, " +-=._:/@"
#: S3 counts so many bytes of user metadata, names and values together.
_METADATA_BYTES = 2048
#: An RFC 2047 word, as non-ASCII metadata is sent, carries so many bytes in so many.
_WORD_CARRIES, _WORD_TAKES = 45, 73
#: XMP specification part 1, 8.4: 0 is "unrated".
_UNRATED = {"0", "0.0", "+0"}
#: Two shapes that differ by less are one: sides are whole pixels.
_SAME_SHAPE = 0.01
_WILDCARD = re.compile(r"[*?\[]")
_FILL = FieldRule(field="*", rule="fill", order=(), separator=",")
#: How a conflict is told: so much of each value, so many of its keys.
_SHOWN_TEXT, _SHOWN_KEYS = 200, 3


@dataclass(frozen=True, slots=True)
class MetadataMerge:
    """What the keeper would hold after a merge, and how it came about.

    Attributes:
        fields: every field in which a duplicate differs from the keeper; sorted by name.
        tags: all tags of the keeper afterwards.
        metadata: all user metadata of the keeper afterwards.
        xmp: all XMP fields of the keeper afterwards.
        conflicts: what a person has to decide, a sentence for each field.
    """

    fields: tuple[FieldMerge, ...]
    tags: dict[str, str]
    metadata: dict[str, str]
    xmp: dict[str, str]
    conflicts: tuple[str, ...]

    @property
    def withheld(self) -> frozenset[str]:
        """XMP fields that duplicates have otherwise and that the keeper is not to take."""
        return frozenset(
            merge.field.partition(".")[2]
            for merge in self.fields
            if merge.field.startswith("xmp.") and merge.kept == merge.had
        )


class _Unclear(Exception):  # noqa: N818 - no error: a rule that leaves it to a person
    """Why no value can be kept without asking."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field as the members have it."""

    name: str
    had: str | None
    others: dict[str, str]

    @property
    def kind(self) -> str:
        return self.name.partition(".")[0]

    @property
    def own(self) -> str:
        return (self.had or "").strip()

    @property
    def values(self) -> list[str]:
        """Different values, the keeper's first; empty ones say nothing."""
        texts = [self.own, *(value.strip() for value in self.others.values())]
        return [text for text in dict.fromkeys(texts) if text]

    @property
    def differs(self) -> bool:
        return bool(self.others) and (
            self.had is None or any(value.strip() != self.own for value in self.others.values())
        )


def merge_metadata(
    keeper: Member,
    duplicates: Sequence[Member],
    rules: Sequence[FieldRule],
    chosen: Mapping[str, str] | None = None,
) -> MetadataMerge:
    """Merge tags, user metadata and XMP fields of a group's members into the keeper's.

    The first rule that matches a field decides; without one it is ``fill``. A value that is not
    clear, or that S3 would not take, changes nothing and becomes a conflict. Merging a merged
    keeper again changes nothing.

    Args:
        keeper: the asset that stays.
        duplicates: the others; where order matters, the first counts more.
        rules: of the policy, in its order.
        chosen: field to the value that a person chose for it, before any rule; what S3 would not
            take is a conflict all the same.

    Raises:
        MergeError: when no member has a chosen value, or the members do not differ in its field.
    """
    chosen = chosen or {}
    sides = {"tags": dict(keeper.tags), "metadata": dict(keeper.metadata), "xmp": dict(keeper.xmp)}
    done: list[tuple[FieldMerge, str]] = []
    fields = list(_fields(keeper, duplicates))
    _check_chosen(keeper, fields, chosen)
    book = _RuleBook(rules)
    judged = [
        _as_chosen(field, chosen[field.name])
        if field.name in chosen
        else _judge(field, book, _out_of_place(field, keeper, duplicates))
        for field in fields
    ]
    # What makes room goes first: so that what has no room now has none the next time either.
    for merge, problem in sorted(judged, key=lambda item: (_growth(item[0]) > 0, item[0].field)):
        kind, _, name = merge.field.partition(".")
        why = problem
        if not why and merge.kept is not None and merge.kept != merge.had:
            why = _misfit(kind, name, merge.kept, sides[kind])
            if not why:
                sides[kind][name] = merge.kept
        done.append((replace(merge, kept=merge.had, conflict=True) if why else merge, why))
    done.sort(key=lambda item: item[0].field)
    return MetadataMerge(
        fields=tuple(merge for merge, _ in done),
        tags=dict(sorted(sides["tags"].items())),
        metadata=dict(sorted(sides["metadata"].items())),
        xmp=dict(sorted(sides["xmp"].items())),
        conflicts=tuple(_sentence(keeper.key, merge, why) for merge, why in done if why),
    )


def _fields(keeper: Member, duplicates: Sequence[Member]) -> Iterator[_Field]:
    mine = _values(keeper)
    others: dict[str, dict[str, str]] = {}
    for member in duplicates:
        for name, value in _values(member).items():
            others.setdefault(name, {})[member.key] = value
        for sidecar, further in member.more.items():
            for name, value in further.items():
                if value != member.xmp.get(name):
                    others.setdefault(f"xmp.{name}", {})[sidecar] = value
    for name in sorted(others):
        field = _Field(name, mine.get(name), others[name])
        if field.differs and name not in _IDENTITY and not name.startswith(_OURS):
            yield field


def _values(member: Member) -> dict[str, str]:
    sides = {"tags": member.tags, "metadata": member.metadata, "xmp": member.xmp}
    found = {f"{kind}.{name}": text for kind, side in sides.items() for name, text in side.items()}
    if found.get("xmp.rating", "").strip() in _UNRATED and "xmp.rating" in found:
        found["xmp.rating"] = ""  # nobody rated it: that is no opinion, and contradicts none
    return found


def list_rules(members: Iterable[Member]) -> list[FieldRule]:
    """Lists without an order are united, where no rule of a policy says otherwise."""
    names = sorted({name for member in members for name in member.lists})
    return [FieldRule(field=f"xmp.{name}", rule="union", separator=";") for name in names]


def _out_of_place(field: _Field, keeper: Member, duplicates: Sequence[Member]) -> str:
    """Why places inside the picture, such as faces, may not be those of the keeper's picture."""
    if not names_places(field.name):
        return ""
    mine = keeper.width / max(keeper.height, 1)
    for member in duplicates:
        shape = member.width / max(member.height, 1)
        if member.key in field.others and abs(shape - mine) > _SAME_SHAPE * mine:
            return "places inside a picture of another shape would point elsewhere"
    return ""


class _RuleBook:
    """The first rule that is for a field.

    Rules without a wildcard are looked up. A sidecar of 512 kB can hold 9,000 lists, each with a
    rule of its own; asked one after another for each field they took half a minute.
    """

    def __init__(self, rules: Sequence[FieldRule]) -> None:
        self._named: dict[str, tuple[int, FieldRule]] = {}
        self._patterns: list[tuple[int, FieldRule]] = []
        for place, rule in enumerate(rules):
            self._named.setdefault(rule.field, (place, rule))
            # Namespaces in braces are whatever a file says, and no patterns.
            if _WILDCARD.search(rule.field.rpartition("}")[2]):
                self._patterns.append((place, rule))

    def rule_for(self, name: str) -> FieldRule:
        """The first that names the field, or matches it; without one, ``fill``."""
        found = [one for one in self._patterns if fnmatchcase(name, one[1].field)][:1]
        if name in self._named:
            found.append(self._named[name])
        return min(found, key=itemgetter(0))[1] if found else _FILL


def _judge(field: _Field, book: _RuleBook, problem: str) -> tuple[FieldMerge, str]:
    """What the field's rule says, and why it cannot say anything, if it cannot."""
    rule = book.rule_for(field.name)
    merge = FieldMerge(field.name, rule.rule, field.had, field.had, field.others)
    try:
        kept = _RULES[rule.rule](field, rule)
        if kept != field.had and problem:
            raise _Unclear(problem)
        if kept != field.had and field.kind == "xmp":
            _check_whole(field)
    except _Unclear as why:
        return merge, str(why)
    return replace(merge, kept=kept), ""


def _as_chosen(field: _Field, value: str) -> tuple[FieldMerge, str]:
    """What a person chose for a field."""
    kept = field.had if value.strip() == field.own and field.had is not None else value.strip()
    return FieldMerge(field.name, BY_A_PERSON, kept, field.had, field.others), ""


def _check_chosen(keeper: Member, fields: Sequence[_Field], chosen: Mapping[str, str]) -> None:
    known = {field.name: field.values for field in fields}
    for name, value in chosen.items():
        if value.strip() not in known.get(name, ()):
            raise MergeError(
                f"{value[:_SHOWN_TEXT]!r} cannot be chosen for {name} of {keeper.key}: "
                + ("no file has it" if name in known else "its files do not differ there")
            )


def _check_whole(field: _Field) -> None:
    if any(len(text) == _XMP_CUT for text in (field.had or "", *field.others.values())):
        raise _Unclear(f"a text was read in part, up to {_XMP_CUT} characters")


# ---- rules -----------------------------------------------------------------------------------


def _fill(field: _Field, _: FieldRule) -> str | None:
    if len(field.values) > 1:
        raise _Unclear("the values differ")
    if field.had is not None and (field.own or not field.values):
        return field.had
    return "".join(field.values)


def _keeper(field: _Field, _: FieldRule) -> str | None:
    return field.had


def _ask(_field: _Field, _: FieldRule) -> str | None:
    raise _Unclear("the policy asks")


def _union(field: _Field, rule: FieldRule) -> str | None:
    # Our reader of XMP joins lists with "; ", whatever a policy says of other fields.
    glue = "; " if field.kind == "xmp" else rule.separator
    mark = glue.strip() or glue
    if not glue.endswith(" ") and any(f"{mark} " in text for text in field.values):
        glue += " "
    words = _words([field.own], mark)
    merged = _words(field.values, mark)
    if merged == words and field.had is not None:
        return field.had
    text = glue.join(merged.values())
    if _words([text], mark) != merged:
        raise _Unclear(f"the words cannot be joined with {mark!r}")
    return text


def _words(texts: Iterable[str], mark: str) -> dict[str, str]:
    """Words by what makes two of them one; the first spelling stays."""
    found: dict[str, str] = {}
    for text in texts:
        for word in text.split(mark):
            if word.strip():
                found.setdefault(fold(word), word.strip())
    return found


def fold(word: str) -> str:
    """What two spellings of one word share: neither case nor composition of letters counts."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word.strip()).casefold())


def _restrictive(field: _Field, rule: FieldRule) -> str | None:
    unknown = [text for text in field.values if text not in rule.order]
    if unknown:
        raise _Unclear(f"{unknown[0][:_SHOWN_TEXT]!r} is not in the rule's order")
    return _one_of(field, min(field.values, key=rule.order.index, default=""))


def _earliest(field: _Field, _: FieldRule) -> str | None:
    return _one_of(field, min(field.values, key=_time, default=""))


def _latest(field: _Field, _: FieldRule) -> str | None:
    return _one_of(field, max(field.values, key=_time, default=""))


def _one_of(field: _Field, text: str) -> str:
    return field.had if field.had is not None and text == field.own else text


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _Unclear(f"{text[:_SHOWN_TEXT]!r} is no ISO 8601 date") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_RULES: dict[str, Callable[[_Field, FieldRule], str | None]] = {
    "fill": _fill,
    "union": _union,
    "restrictive": _restrictive,
    "earliest": _earliest,
    "latest": _latest,
    "keeper": _keeper,
    "ask": _ask,
}


# ---- what S3 allows --------------------------------------------------------------------------


def _misfit(kind: str, name: str, value: str, side: dict[str, str]) -> str:
    """Why S3 would refuse this value beside the others, or nothing."""
    if kind == "tags":
        return _tag_misfit(name, value, side)
    if kind == "metadata":
        return _metadata_misfit(name, value, side)
    return ""


def _tag_misfit(name: str, value: str, tags: dict[str, str]) -> str:
    if _units(name) > _TAG_NAME or _units(value) > _TAG_VALUE:
        return (
            f"does not fit: S3 allows {_TAG_NAME} characters in a tag's name and {_TAG_VALUE} in "
            "its value"
        )
    wrong = [sign for sign in name + value if not _may_tag(sign)]
    if wrong:
        return f"does not fit: S3 allows no {wrong[0]!r} in tags"
    if name.lower().startswith("aws:"):
        return "does not fit: tags whose names begin with aws: are Amazon's own"
    if name not in tags and len(tags) >= _MOST_TAGS:
        return f"does not fit: S3 allows {_MOST_TAGS} tags on an object"
    return ""


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _may_tag(sign: str) -> bool:
    return sign in _TAG_MARKS or unicodedata.category(sign)[0] in "LN"


def _metadata_misfit(name: str, value: str, metadata: dict[str, str]) -> str:
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name + value):
        return "does not fit: headers hold no control characters"
    before, after = _all_sent(metadata), _all_sent(metadata | {name: value})
    if after > max(before, _METADATA_BYTES):
        return f"does not fit: S3 allows {_METADATA_BYTES} bytes of user metadata on an object"
    return ""


def _all_sent(metadata: dict[str, str]) -> int:
    return sum(_sent(*item) for item in metadata.items())


def _sent(name: str, value: str) -> int:
    """Bytes of one piece of user metadata in a request."""
    size = len(value.encode("utf-8", "surrogatepass"))
    words = 0 if value.isascii() else -(-size // _WORD_CARRIES)
    return len(name.encode("utf-8", "surrogatepass")) + (words * _WORD_TAKES or size)


def _growth(merge: FieldMerge) -> int:
    name = merge.field.partition(".")[2]
    before = 0 if merge.had is None else _sent(name, merge.had)
    return (0 if merge.kept is None else _sent(name, merge.kept)) - before


# ---- words -----------------------------------------------------------------------------------


def _sentence(keeper: str, merge: FieldMerge, why: str) -> str:
    keys: dict[str, list[str]] = {}
    if merge.had is not None:
        keys[merge.had.strip()] = [keeper]
    for key, value in merge.others.items():
        keys.setdefault(value.strip(), []).append(key)
    told = ", ".join(f"{_shown(value)} ({_listed(found)})" for value, found in keys.items())
    return f"{merge.field}: {why}: {told}"


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN_TEXT else value[:_SHOWN_TEXT] + "...")


def _listed(keys: list[str]) -> str:
    more = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")

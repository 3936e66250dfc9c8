"""Which asset of a duplicate group stays under a policy, why, and what speaks against a merge.

What may not be touched comes before what is preferred: holds, protected prefixes and valid
licences are never lost, whatever the criteria or a person say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.errors import MergeError
from tasks.merging.rules.blocks import is_raw
from tasks.merging.rules.bursts import ask_about_bursts
from tasks.merging.rules.criteria import READABLE, Measure, measure, named_as_copies
from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import DEFAULT_KEEPER, Policy, Rule
from tasks.merging.rules.rights import Licence, last_moment, read_licence, text_of, untouchable
from tasks.records import Tier

_MOST = 5
_ODD = {
    "flat": "is of one colour",
    "tiny": "is tiny",
    "multi_frame": "has several frames, of which only the first was compared",
}


@dataclass(frozen=True, slots=True)
class KeeperChoice:
    """Who stays.

    Attributes:
        keeper: the asset that stays.
        duplicates: the others, the best first.
        reasons: why the keeper is the keeper, the decisive first.
        questions: what a person has to decide before anything is done.
        refused: why nothing may be done, or nothing. Keeper and duplicates are then for show.
    """

    keeper: Member
    duplicates: tuple[Member, ...]
    reasons: tuple[str, ...]
    questions: tuple[str, ...]
    refused: str


def choose_keeper(
    members: Sequence[Member],
    policy: Policy,
    rule: Rule,
    now: datetime,
    wanted: str | None = None,
    answered: Collection[str] = (),
) -> KeeperChoice:
    """Choose the asset that stays; the same members give the same choice in whatever order.

    Args:
        members: of one duplicate group; keys differ.
        policy: what may not be touched, and where rights are written.
        rule: whose criteria decide.
        now: the time, with its zone.
        wanted: key of the keeper that a person chose.
        answered: fields whose value a person chose, which are not asked about again.

    Raises:
        MergeError: there are no members, or none has the wanted key.
    """
    if not members:
        raise MergeError("a group without members has no keeper")
    measures = _measures(policy, rule, now, members)
    ranked = sorted(
        members,
        key=lambda one: (*(measured.rank(one) for measured in measures), one.key, one.asset_id),
    )
    kept = [(member, why) for member in ranked if (why := untouchable(member, policy))]
    keeper, reasons = ranked[0], None
    if wanted is not None:
        keeper, reasons = _by_key(ranked, wanted), ("chosen by a person",)
    refusals = []
    if len(kept) == 1 or (kept and keeper not in [member for member, _ in kept]):
        held, why = kept[0]
        if wanted is not None and held is not keeper:
            refusals.append(f"{wanted} was chosen, but {held.key} may not be touched ({why})")
        keeper, reasons = held, (f"may not be touched ({why})",)
    duplicates = tuple(member for member in ranked if member is not keeper)
    if len(kept) > 1:
        shown = _list(f"{member.key} ({why})" for member, why in kept)
        refusals.append(f"{len(kept)} assets may not be touched: {shown}")
    licences = {id(member): read_licence(member, policy, now) for member in ranked}
    refusals += _lost_rights(keeper, duplicates, licences)
    refusals += _lost_masters(keeper, duplicates)
    refusals += _not_yet(ranked, policy, now)
    return KeeperChoice(
        keeper,
        duplicates,
        _reasons(keeper, duplicates, measures) if reasons is None else reasons,
        (
            *_conflicts(ranked, policy, answered),
            *_unreadable(ranked, policy, licences),
            *_oddities(ranked),
            *(_unknown_original(keeper, ranked, rule, measures) if reasons is None else ()),
            *ask_about_bursts(_by_name(ranked)),
        ),
        "; ".join(refusals),
    )


def _measures(
    policy: Policy, rule: Rule, now: datetime, members: Sequence[Member]
) -> list[Measure]:
    """The rule's criteria; before those of age, or last, whether a member is in an archive.

    Of what is equal by all of them, what is named as a copy of another member goes.
    """
    found = [measure(criterion, policy, now) for criterion in rule.keeper]
    named = named_as_copies(one.key for one in members)
    ages = [at for at, one in enumerate(rule.keeper) if one.name in ("oldest", "newest")]
    if ages:
        return [*found[: ages[0]], READABLE, *found[ages[0] :], named]
    return [*found, READABLE, named]


def _by_key(members: Sequence[Member], key: str) -> Member:
    for member in members:
        if member.key == key:
            return member
    raise MergeError(
        f"{key!r} is not in this group; its members: {_list(one.key for one in members)}"
    )


def _reasons(
    keeper: Member, duplicates: Sequence[Member], measures: Sequence[Measure]
) -> tuple[str, ...]:
    """What separated the keeper from each duplicate: the first criterion on which they differ."""
    reasons, level = [], list(duplicates)
    for measured in measures:
        best = measured.rank(keeper)
        beaten = [member for member in level if measured.rank(member) != best]
        if beaten:
            reasons.append(measured.words(keeper, beaten))
            level = [member for member in level if measured.rank(member) == best]
    if level:
        reasons.append("first by its key, all else being equal")
    return tuple(reasons)


def _lost_rights(
    keeper: Member, duplicates: Sequence[Member], licences: dict[int, Licence]
) -> list[str]:
    """A right that the keeper does not have may not go with a duplicate."""
    refusals = []
    kept = licences[id(keeper)]
    valid = [one for one in duplicates if licences[id(one)].valid]
    if valid and not kept.valid:
        shown = _list(f"{one.key} ({licences[id(one)].words})" for one in valid)
        refusals.append(f"the keeper {keeper.key} has no valid licence, but {shown} would go")
    released = [one for one in duplicates if licences[id(one)].release]
    if released and not kept.release:
        shown = _list(one.key for one in released)
        refusals.append(f"the keeper {keeper.key} has no release, but {shown} would go with one")
    return refusals


def _lost_masters(keeper: Member, duplicates: Sequence[Member]) -> list[str]:
    """A raw file holds more than any picture that was made of it, whatever its pixels say."""
    masters = [one for one in duplicates if is_raw(one)]
    if not masters or is_raw(keeper):
        return []
    shown = _list(one.key for one in masters)
    return [f"{shown} would go for {keeper.key}, and is a camera raw file"]


def _not_yet(members: Sequence[Member], policy: Policy, now: datetime) -> list[str]:
    """What forbids to touch this group today."""
    refusals = []
    if len(members) > policy.caps.group:
        refusals.append(
            f"{len(members)} members are more than the {policy.caps.group} that caps.group allows"
        )
    least = timedelta(hours=policy.minimum_age_hours)
    young = [
        f"{one.key} ({_age(one, now):.1f} h)"
        for one in _by_name(members)
        if max(now - one.last_modified, timedelta()) < least
    ]
    if young:
        refusals.append(f"younger than {policy.minimum_age_hours:g} h: {_list(young)}")
    embargoed = []
    for one in _by_name(members):
        until = last_moment(text_of(one, policy.rights.embargo))
        if until and until > now:
            embargoed.append(f"{one.key} (until {until.date().isoformat()})")
    if embargoed:
        refusals.append(f"under embargo: {_list(embargoed)}")
    return refusals


def _age(member: Member, now: datetime) -> float:
    return max((now - member.last_modified).total_seconds() / 3600, 0)


def _conflicts(members: Sequence[Member], policy: Policy, answered: Collection[str]) -> list[str]:
    """Owners or licences that differ; case apart, since spelling is no other right."""
    questions = []
    for label, path, ask in (
        ("owner", policy.rights.owner, "who keeps the rights?"),
        ("licence", policy.rights.licence, "which one holds?"),
    ):
        given = [(one, text) for one in _by_name(members) if (text := text_of(one, path))]
        if path not in answered and len({text.casefold() for _, text in given}) > 1:
            shown = _list(f"{one.key}: {_short(text)}" for one, text in given)
            questions.append(f"{label} differs: {shown}: {ask}")
    return questions


def _unreadable(
    members: Sequence[Member], policy: Policy, licences: dict[int, Licence]
) -> list[str]:
    questions = []
    for one in _by_name(members):
        expiry = licences[id(one)].unreadable
        if expiry:
            questions.append(
                f"{one.key}: {policy.rights.expires} {_short(expiry)!r} is no ISO 8601 date: "
                "until when is it licensed?"
            )
        embargo = text_of(one, policy.rights.embargo)
        if embargo and last_moment(embargo) is None:
            questions.append(
                f"{one.key}: {policy.rights.embargo} {_short(embargo)!r} is no ISO 8601 date: "
                "until when is it under embargo?"
            )
    return questions


def _oddities(members: Sequence[Member]) -> list[str]:
    questions = []
    for one in _by_name(members):
        odd = [words for flag, words in _ODD.items() if flag in one.flags]
        if one.format == "raw":
            odd.append("is a camera raw file")
        if odd:
            questions.append(f"{one.key} {' and '.join(odd)}: is it really the same picture?")
    return questions


def _unknown_original(
    keeper: Member, members: Sequence[Member], rule: Rule, measures: Sequence[Measure]
) -> list[str]:
    """Whether the pixels leave open which member is the original, and nobody said what then.

    A rule that names its criteria has said it. Nothing is lost where the pictures are equal, or are
    equally large and only encoded anew.
    """
    if rule.keeper != DEFAULT_KEEPER:
        return []
    first = measures[0].rank(keeper)  # a licence comes before the original
    others = [
        one
        for one in members
        if not one.copy and one.content != keeper.content and measures[0].rank(one) == first
    ]
    sizes = {(one.width, one.height) for one in (keeper, *others)}
    anew = len(sizes) == 1 and all(one.tier is Tier.EXACT for one in (keeper, *others))
    if not others or anew:
        return []
    shown = _list(one.key for one in _by_name([keeper, *others]))
    return [f"cannot tell which is the original: {shown}: which one stays?"]


def _by_name(members: Sequence[Member]) -> list[Member]:
    return sorted(members, key=lambda one: (one.key, one.asset_id))


def _list(entries: Iterable[str]) -> str:
    """The first few, and how many more."""
    every = list(entries)
    more = f" and {len(every) - _MOST} more" if len(every) > _MOST else ""
    return ", ".join(every[:_MOST]) + more


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."

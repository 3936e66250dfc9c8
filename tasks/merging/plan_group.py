"""One group of a plan: the rule that is for it, the file that stays, and what is to be done.

The bucket is asked how the group's objects are now; what is not as the scan saw it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tasks.embedding.sidecar_facts import SidecarFacts
from tasks.errors import MergeError
from tasks.merging.companions import Belongings, ask_about, find_belongings
from tasks.merging.rules.actions import (
    Work,
    fingerprint,
    link_key,
    plan_operations,
    sidecar_key,
    sidecar_names,
)
from tasks.merging.rules.blocks import left_behind
from tasks.merging.rules.keeper_choice import KeeperChoice, choose_keeper
from tasks.merging.rules.lifecycle import ask_about_expiry
from tasks.merging.rules.metadata import list_rules, merge_metadata
from tasks.merging.rules.plans import Action, FieldRule, Member, PlannedGroup
from tasks.merging.rules.policy import DEFAULT_METADATA, NO_RULE, Policy, Rule
from tasks.merging.rules.proofs import MERGING, Proofs, why_unproven
from tasks.merging.sidecars import read_sidecars, with_sidecars, with_thumbnails
from tasks.records import ObjectState, Scan, Tier
from tasks.sources.store import Store

#: Actions after which the duplicates are gone.
_LEAVING = {Action.QUARANTINE, Action.REPLACE, Action.DELETE}


@dataclass(frozen=True, slots=True)
class PlanSite:
    """Where a plan is made: what all of its groups share.

    Attributes:
        store: the bucket; None where the source is a folder.
        users: sidecar key to the keys of the assets that it belongs to.
        past: a group's fingerprint to why it is not planned again; see :func:`fingerprint`.
        keepers: group id to the key of the keeper that a person chose.
        values: group id to the values that a person chose, by field.
        time: the moment that ages are counted from.
        untold: ids of assets of which the policy's filters cannot say whether they select them,
            for these filters name tags, and their tags may not be read.
    """

    scan: Scan
    policy: Policy
    store: Store | None
    users: dict[str, list[str]]
    past: dict[str, str]
    proofs: Proofs
    keepers: dict[str, str]
    values: dict[str, dict[str, str]]
    time: datetime
    untold: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of one group in the bucket.

    Attributes:
        states: of members, sidecars and what may be written, by key.
        bodies: of sidecars, by key.
        said: by sidecars, by key.
    """

    states: dict[str, ObjectState]
    bodies: dict[str, bytes]
    said: dict[str, SidecarFacts]


def plan_group(
    site: PlanSite,
    group_id: str,
    members: Sequence[Member],
    allowed: dict[str, frozenset[str] | None],
) -> PlannedGroup:
    """Plan one group. What stands against it becomes its ``refused``, a sentence for people.

    Args:
        site: what all groups of the plan share.
        group_id: the group's.
        members: two or more, as the catalog knows them.
        allowed: rule name to the ids of the assets that its filter selects; None for all.

    Raises:
        MergeError: when a chosen keeper is not in the group, or no file has a chosen value.
        SourceError: when the bucket cannot be read.
    """
    tier = max((member.tier for member in members), key=[Tier.EXACT, Tier.NEAR].index)
    rule = _rule_for(site.policy, tier, members, allowed)
    states: dict[str, ObjectState] = {}
    refused = site.past.get(fingerprint(members), "")
    unread = [member.key for member in members if member.asset_id in site.untold]
    if unread and not refused:
        refused = (
            f"the policy's filters ask for tags, and those of {unread[0]!r} may not be read; "
            "allow s3:GetObjectTagging and scan again"
        )
    if rule.action is not Action.REPORT and not refused:
        if site.store is None:
            refused = (
                f"the action {rule.action.value} needs a bucket; {site.scan.source} is a folder"
            )
        else:
            states = site.store.states(_keys(members))
            refused = _moved(members, states)
    members = [_looked_at(member, states.get(member.key)) for member in members]
    bodies: dict[str, bytes] = {}
    said: dict[str, SidecarFacts] = {}
    if site.store is not None and states and not refused:
        try:
            _check_sidecars(members, states)
            bodies, said = read_sidecars(site.store, site.scan.settings, members, states)
        except MergeError as error:
            refused = str(error)
    members = [with_sidecars(member, said) for member in members]
    choice = choose_keeper(
        members,
        site.policy,
        rule,
        site.time,
        wanted=site.keepers.get(group_id),
        answered=site.values.get(group_id, ()),
    )
    return _with_operations(
        site, group_id, tier, rule, choice, _Seen(states, bodies, said), refused
    )


def _with_operations(
    site: PlanSite,
    group_id: str,
    tier: Tier,
    rule: Rule,
    choice: KeeperChoice,
    seen: _Seen,
    refused: str,
) -> PlannedGroup:
    states, keeper, duplicates = seen.states, choice.keeper, list(choice.duplicates)
    refused = refused or choice.refused
    acting = site.store is not None and bool(states)
    asked: list[str] = []
    belongings = Belongings()
    if site.store is not None and states and rule.action in _LEAVING and not refused:
        try:
            belongings = find_belongings(site.store, keeper, duplicates, site.users)
            wanted = {*belongings.all_moving, *belongings.beside} - states.keys()
            states = states | site.store.states(sorted(wanted))
            duplicates = with_thumbnails(
                site.store, site.scan.settings, duplicates, belongings.moving, states
            )
            asked = ask_about(belongings, duplicates, states)
        except MergeError as error:
            refused = str(error)
    everyone = (keeper, *duplicates)
    merge = merge_metadata(
        keeper, duplicates, _field_rules(rule, everyone), site.values.get(group_id)
    )
    # A tag or a link takes nothing from anybody: there is nothing to ask.
    questions = (*choice.questions, *merge.conflicts) if rule.action in MERGING else ()
    if rule.action in MERGING:
        refused = refused or why_unproven([(m.content, m.key) for m in everyone], site.proofs)
    if rule.action in _LEAVING:
        questions = (*questions, *left_behind(keeper, duplicates), *asked)
        if acting:
            leaving = [states[member.key] for member in duplicates]
            questions = (*questions, *ask_about_expiry(states[keeper.key], leaving))
    operations: tuple[Any, ...] = ()
    if not refused and acting:
        try:
            work = Work(
                group_id=group_id,
                source=site.scan.source,
                keeper=keeper,
                duplicates=tuple(duplicates),
                merge=merge,
                states=states,
                sidecars=seen.bodies,
                own_sidecars=_own(site, everyone),
                quarantine=f"{site.policy.quarantine.prefix}{site.scan.id}/",
                packets={key: facts.packet for key, facts in seen.said.items()},
                moving=belongings.moving,
            )
            operations = plan_operations(rule.action, work)
        except MergeError as error:
            refused = str(error)
    relied_on = {member.key for member in everyone}
    if rule.action in MERGING:  # a sidecar that appears knows something that would be left behind
        relied_on |= {name for member in everyone for name in sidecar_names(member)}
    return PlannedGroup(
        group_id=group_id,
        fingerprint=fingerprint((choice.keeper, *choice.duplicates)),
        tier=tier,
        score=min(member.score for member in choice.duplicates),
        rule=rule.name,
        action=rule.action,
        keeper=choice.keeper.key,
        duplicates=tuple(member.key for member in choice.duplicates),
        reasons=choice.reasons,
        fields=merge.fields,
        questions=questions,
        refused=refused,
        bytes=sum(member.size for member in choice.duplicates),
        approvers=site.policy.approvers(rule),
        automatic=rule.automatic is not None
        and tier is rule.automatic.tier
        and not questions
        and not refused,
        operations=operations,
        states=tuple(states[key] for key in sorted(relied_on & set(states))),
    )


def _field_rules(rule: Rule, members: Sequence[Member]) -> tuple[FieldRule, ...]:
    """The policy's own rules of fields, then those of lists, then the defaults."""
    own = () if rule.metadata == DEFAULT_METADATA else rule.metadata
    return (*own, *list_rules(members), *DEFAULT_METADATA)


def _rule_for(
    policy: Policy,
    tier: Tier,
    members: Sequence[Member],
    allowed: dict[str, frozenset[str] | None],
) -> Rule:
    """The first rule that is for such a group; a group that no rule is for is only reported."""
    for rule in policy.rules:
        if tier in rule.tier and _all_in(members, allowed[rule.name]):
            return rule
    return Rule(name=NO_RULE)


def _all_in(members: Iterable[Member], chosen: frozenset[str] | None) -> bool:
    return chosen is None or all(member.asset_id in chosen for member in members)


def _keys(members: Sequence[Member]) -> list[str]:
    """Every key that a group's plan looks at: members, sidecars, what may be written."""
    names = {name for m in members for name in (m.key, sidecar_key(m), link_key(m.key))}
    return sorted(names.union(*(sidecar_names(m) for m in members)))


def _own(site: PlanSite, members: Sequence[Member]) -> frozenset[str]:
    """Sidecars that the catalog knows of one asset only."""
    named = {member.sidecar for member in members if member.sidecar}
    return frozenset(key for key in named if len(site.users.get(key, ())) < 2)


def _moved(members: Sequence[Member], states: dict[str, ObjectState]) -> str:
    """Why the group is not the one that was scanned, or nothing."""
    for member in members:
        if not states[member.key].exists:
            return f"{member.key!r} is no longer in the bucket: scan again"
        if states[member.key].etag != member.held:
            return f"{member.key!r} changed since it was scanned: scan again"
    return ""


def _check_sidecars(members: Sequence[Member], states: dict[str, ObjectState]) -> None:
    """Refuse a group of which a sidecar is gone, or one is there that no scan has read."""
    for member in members:
        for name in sidecar_names(member):
            known = name in member.sidecars
            if known and not states[name].exists:
                raise MergeError(f"{name!r} is no longer in the bucket: scan again")
            if states[name].exists and not known:
                raise MergeError(f"{name!r} appeared since {member.key!r} was scanned: scan again")


def _looked_at(member: Member, state: ObjectState | None) -> Member:
    if state is None:
        return replace(member, held="")
    return replace(member, held=state.held, tags=state.tags)

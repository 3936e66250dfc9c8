"""Plan: what the policy would do with every duplicate group of a scan, as data.

Nothing is written to the bucket. Objects are looked at anew, so that what is approved relies on
how they are now and not on how the last listing showed them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import names_tags, select_sql
from tasks.dedup.keepers import wraps
from tasks.embedding.sidecar_facts import SidecarFacts
from tasks.errors import MergeError, PolicyError
from tasks.merging.approvals import link_end, sign_link
from tasks.merging.companions import Belongings, ask_about, find_belongings
from tasks.merging.journal import past_outcomes, read_decisions, save_decision, save_plan
from tasks.merging.policy_file import read_policy
from tasks.merging.rules.actions import (
    Work,
    fingerprint,
    link_key,
    plan_operations,
    sidecar_key,
    sidecar_names,
)
from tasks.merging.rules.blocks import exif_as_xmp, left_behind, what_it_holds
from tasks.merging.rules.bursts import time_taken
from tasks.merging.rules.caps import refuse_above_caps
from tasks.merging.rules.keeper_choice import KeeperChoice, choose_keeper
from tasks.merging.rules.lifecycle import ask_about_expiry
from tasks.merging.rules.metadata import list_rules, merge_metadata
from tasks.merging.rules.plan_note import PlanNote, note_plan
from tasks.merging.rules.plans import (
    PLAN_FORM,
    Action,
    FieldRule,
    Member,
    Plan,
    PlannedGroup,
)
from tasks.merging.rules.policy import DEFAULT_METADATA, Policy, Rule
from tasks.merging.rules.proofs import MERGING, Proofs, why_unproven
from tasks.merging.rules.voices import said_by
from tasks.merging.sidecars import read_sidecars, with_sidecars, with_thumbnails
from tasks.progress import Progress, silent
from tasks.queries.asset_pairs import list_pairs
from tasks.queries.matches import read_matches
from tasks.queries.packets import read_packets
from tasks.queries.pair_proofs import read_pair_proofs
from tasks.queries.reviewers import share_groups
from tasks.queries.scope_assets import read_assets
from tasks.records import ARCHIVES, ObjectState, Scan, Space, Tier, now
from tasks.session import open_catalog, open_source, open_store, scope_sql
from tasks.sources.store import Store

log = logging.getLogger(__name__)

_Given = TypeVar("_Given")

#: Groups of one plan; what is beyond waits for the next, for a person has to read it.
_MOST_GROUPS = 5000
#: Actions after which the duplicates are gone.
_LEAVING = {Action.QUARANTINE, Action.REPLACE, Action.DELETE}
_FACTS = [
    "key",
    "asset_id",
    "content",
    "sha256",
    "size",
    "width",
    "height",
    "format",
    "quality",
    "last_modified",
    "storage_class",
    "flags",
    "etag",
    "tags",
    "metadata",
    "exif",
    "xmp",
    "sidecar_xmp",
    "sidecars",
]


@dataclass(frozen=True, slots=True)
class _Site:
    """Where a plan is made: what all of its groups share.

    Attributes:
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


def plan_merges(
    scan: Scan,
    space: Space,
    policy: Policy,
    *,
    keepers: dict[str, str] | None = None,
    values: dict[str, dict[str, str]] | None = None,
    again: bool = False,
    progress: Progress = silent,
) -> Plan:
    """Plan the merge of every duplicate group of a scan, and keep the plan in the catalog.

    Args:
        scan: a scan whose groups are written.
        space: where its vectors are.
        policy: what to do with which group.
        keepers: group id to the key of the keeper that a person chose.
        values: group id to the values that a person chose, by field (``tags.owner``).
        again: also groups that a person rejected, or whose merge was undone.
        progress: told how many groups are planned.

    Raises:
        PolicyError: when the policy is for another collection.
        MergeError: when a chosen keeper is not in its group, or no file has a chosen value.
        SourceError: when the bucket cannot be read.
    """
    catalog = open_catalog(scan.settings)
    plan = make_plan(
        scan, space, policy, keepers=keepers, values=values, again=again, progress=progress
    )
    with catalog.writing(scan.settings.catalog.busy_seconds):
        if again:  # not one on which the first decision holds, or whose groups were undone
            earlier = catalog.read("plans", ["plan_id"], f"scan_id = {quote(scan.id)}").height
            plan = replace(plan, round=earlier)
        save_plan(catalog, plan)
        _approve_by_rule(catalog, plan, policy)
    log.info(
        "plan %s: %d groups, %d to be acted on",
        plan.id,
        len(plan.groups),
        sum(1 for group in plan.groups if group.operations),
    )
    return plan


def plan_anew(
    scan: Scan,
    space: Space,
    policy: Policy,
    plan: Plan,
    *,
    keepers: dict[str, str],
    values: dict[str, dict[str, str]] | None = None,
) -> Plan:
    """A plan in which some groups keep what a person chose, and all others are as they were; kept.

    Only those groups are looked at in the bucket, so that somebody who waits for it waits no longer
    in a large plan than in a small one. What became of the others since is seen by the merge.

    Args:
        scan: the scan that the plan is of.
        space: where its vectors are.
        policy: the one that the plan was made by.
        plan: the plan to begin with.
        keepers: group id to the key of the keeper that a person chose.
        values: group id to the values that a person chose, by field.

    Raises:
        MergeError: when a chosen keeper is not in its group, or no file has a chosen value.
        SourceError: when the bucket cannot be read.
    """
    chosen = [*keepers, *(values or {})]
    made = make_plan(scan, space, policy, keepers=keepers, values=values, only=chosen)
    new = {group.group_id: group for group in made.groups}
    groups = tuple(new.get(group.group_id, group) for group in plan.groups)
    made = replace(made, groups=groups, assets=plan.assets)
    catalog = open_catalog(scan.settings)
    with catalog.writing(scan.settings.catalog.busy_seconds):
        save_plan(catalog, made)
    return made


def plan_scan(scan: Scan, space: Space) -> PlanNote | None:
    """The plan of a scan under the settings' policy, in the words of its report.

    Returns:
        None where there is no policy, or the scan is a dry run.

    Raises:
        PolicyError: when the policy is wrong.
    """
    path = scan.settings.merge.policy
    if path is None or scan.dry_run:
        return None
    plan = plan_merges(scan, space, read_policy(path))
    decided = read_decisions(open_catalog(scan.settings), plan)
    approved = frozenset(decided.filter(decision="approve")["group_id"])
    acting = any(group.operations for group in plan.groups)
    # All links of one mail end at one moment, which the mail tells.
    until = link_end(scan.settings)
    pages = _pages(scan, plan, until) if acting else {}
    return note_plan(plan, approved, pages, until if pages else None)


def _pages(scan: Scan, plan: Plan, until: datetime) -> dict[str, str]:
    """Reviewer to the signed page's link, where there is a gate to serve it.

    A reviewer's link is for the groups of that reviewer's part, an owner's for all.
    """
    settings = scan.settings
    if not (settings.merge.gate_url and settings.merge.secret):
        return {}
    pages = {person: sign_link(settings, plan, person, until=until) for person in settings.mail.to}
    for person, groups in share_groups(open_catalog(settings), scan).items():
        if groups:
            pages[person] = sign_link(settings, plan, person, until=until, groups=groups)
    return pages


def make_plan(
    scan: Scan,
    space: Space,
    policy: Policy,
    *,
    keepers: dict[str, str] | None = None,
    values: dict[str, dict[str, str]] | None = None,
    again: bool = False,
    only: Collection[str] = (),
    progress: Progress = silent,
) -> Plan:
    """The same plan, not kept; with ``only``, of the groups whose ids begin so."""
    catalog = open_catalog(scan.settings)
    groups = _members(catalog, scan, space)
    names = [name for name, _ in groups]
    wanted, chosen = _whole_ids(keepers or {}, names), _whole_ids(values or {}, names)
    site = _site(catalog, scan, policy, wanted, chosen, again, groups)
    groups = [(name, of) for name, of in groups if not only or name.startswith(tuple(only))]
    allowed = _allowed(catalog, scan, policy)
    planned = []
    total = min(len(groups), _MOST_GROUPS)
    for at, (group_id, members) in enumerate(groups[:_MOST_GROUPS]):
        planned.append(_plan_group(site, group_id, members, allowed))
        progress("plan", at + 1, total)
    if len(groups) > _MOST_GROUPS:
        log.warning(
            "the plan holds %d of %d groups; plan again when these are merged",
            _MOST_GROUPS,
            len(groups),
        )
    source = open_source(scan.source, scan.settings)
    plan = Plan(
        form=PLAN_FORM,
        source=scan.source,
        scan_id=scan.id,
        scope=scan.scope,
        policy=f"{policy.name} {policy.version_hash}",
        caps={
            "objects": policy.caps.objects,
            "bytes": policy.caps.bytes,
            "share": policy.caps.share,
        },
        quarantine_days=policy.quarantine.days,
        assets=catalog.count("assets", scope_sql(scan, source)),
        groups=tuple(sorted(planned, key=lambda group: group.group_id)),
    )
    return refuse_above_caps(plan)


def _whole_ids(given: dict[str, _Given], groups: Sequence[str]) -> dict[str, _Given]:
    """What was given for groups by the first characters of their ids, by the whole ids."""
    found = {}
    for start, what in given.items():
        names = [name for name in groups if name.startswith(start)]
        if len(names) != 1:
            raise MergeError(f"{len(names)} groups of the last scan begin with {start!r}")
        found[names[0]] = what
    return found


def _site(
    catalog: Catalog,
    scan: Scan,
    policy: Policy,
    keepers: dict[str, str],
    values: dict[str, dict[str, str]],
    again: bool,
    groups: Sequence[tuple[str, Sequence[Member]]],
) -> _Site:
    _check_collection(policy, scan.source)
    # Not the scan's scope alone: a raw file that is no image, or another filter's, has it too.
    source = open_source(scan.source, scan.settings)
    uses = catalog.read(
        "assets", ["key", "sidecars"], f"source = {quote(source.id)} AND removed_at IS NULL"
    )
    users: dict[str, list[str]] = {}
    for key, sidecars in uses.filter(pl.col("sidecars").list.len() > 0).iter_rows():
        for sidecar in sidecars:
            users.setdefault(sidecar, []).append(key)
    inside = pl.DataFrame(
        [(member.asset_id, member.content) for _, group in groups for member in group],
        schema={"asset_id": pl.String, "content": pl.String},
        orient="row",
    )
    return _Site(
        scan=scan,
        policy=policy,
        store=open_store(scan.source, scan.settings),
        users=users,
        past={} if again else past_outcomes(catalog, scan.scope),
        proofs=read_pair_proofs(catalog, source.id, inside),
        keepers=keepers,
        values=values,
        time=now(),
        untold=_untold(catalog, policy, source.id),
    )


def _untold(catalog: Catalog, policy: Policy, source: str) -> frozenset[str]:
    if not any(names_tags(rule.where) for rule in policy.rules):
        return frozenset()
    where = f"source = {quote(source)} AND removed_at IS NULL AND tags IS NULL"
    return frozenset(catalog.read("assets", ["asset_id"], where)["asset_id"])


def _allowed(catalog: Catalog, scan: Scan, policy: Policy) -> dict[str, frozenset[str] | None]:
    """Rule name to the assets its filter selects; None for all."""
    base = scope_sql(scan, open_source(scan.source, scan.settings))
    found: dict[str, frozenset[str] | None] = {}
    for rule in policy.rules:
        if not rule.where:
            found[rule.name] = None
            continue
        chosen = catalog.read("assets", ["asset_id"], f"({base}) AND {select_sql(rule.where)}")
        found[rule.name] = frozenset(chosen["asset_id"])
    return found


def _members(catalog: Catalog, scan: Scan, space: Space) -> list[tuple[str, list[Member]]]:
    """Group id to members, the groups with the most to save first."""
    rows = catalog.read(
        "groups", ["group_id", "asset_id", "role", "tier", "score"], f"scan_id = {quote(scan.id)}"
    )
    assets = read_assets(catalog, scan, _FACTS)
    facts = rows.join(assets, on="asset_id", how="inner")
    inside = assets.join(facts.select("asset_id"), on="asset_id", how="semi")
    originals, copies = _originals(catalog, scan, space, inside, facts)
    packets = read_packets(catalog, facts["sha256"].drop_nulls())
    groups: dict[str, list[Member]] = {}
    for row in facts.sort("group_id", "key").iter_rows(named=True):
        key, member = row["key"], _member(row, packets.get(row["sha256"] or ""))
        member = replace(member, original=key in originals, copy=key in copies)
        groups.setdefault(row["group_id"], []).append(member)

    def order(item: tuple[str, list[Member]]) -> tuple[int, str]:
        sizes = sorted(member.size for member in item[1])
        return -sum(sizes[:-1]), item[0]

    return sorted(((name, found) for name, found in groups.items() if len(found) > 1), key=order)


def _originals(
    catalog: Catalog, scan: Scan, space: Space, assets: pl.DataFrame, members: pl.DataFrame
) -> tuple[set[str], set[str]]:
    """Keys of assets that some pair calls the original and none the copy, and of the copies."""
    inside = assets["content"].implode()
    matches = read_matches(catalog, scan, space).filter(
        pl.col("left").is_in(inside) & pl.col("right").is_in(inside)
    )
    pairs = list_pairs(assets, matches, members).filter(pl.col("relation") == "duplicate")
    left, right = pairs.filter(original="left"), pairs.filter(original="right")
    copies = {*left["right"], *right["left"], *assets.filter(wraps())["key"]}
    wrapped = assets.filter(wraps().any().over("content"))["key"]
    return {*left["left"], *right["right"], *wrapped} - copies, copies


def _member(row: dict[str, Any], packet: str | None) -> Member:
    exif = json.loads(row["exif"] or "{}")
    said = said_by(packet or "")
    xmp = exif_as_xmp(exif) if packet is None else {}
    xmp |= json.loads(row["xmp"] or "{}") | said.fields
    xmp |= json.loads(row["sidecar_xmp"] or "{}")
    sidecars = sorted(key for key in row["sidecars"] or [] if key.lower().endswith(".xmp"))
    return Member(
        asset_id=row["asset_id"],
        key=row["key"],
        content=row["content"],
        size=row["size"],
        width=row["width"],
        height=row["height"],
        format=row["format"],
        last_modified=row["last_modified"],
        tier=Tier(row["tier"]),
        score=round(row["score"], 4),
        quality=row["quality"],
        flags=tuple(row["flags"] or ()),
        tags=json.loads(row["tags"] or "{}"),
        metadata=json.loads(row["metadata"] or "{}"),
        xmp=xmp,
        held=row["etag"],  # the listing's, until the object has been looked at
        sidecar=sidecars[0] if sidecars else None,
        sha256=row["sha256"] or "",
        holds=what_it_holds(exif, packet),
        sidecars=tuple(sidecars),
        packet=packet or "",
        lists=said.lists,
        taken=time_taken(exif),
        archived=row["storage_class"] in ARCHIVES,
    )


def _plan_group(
    site: _Site,
    group_id: str,
    members: Sequence[Member],
    allowed: dict[str, frozenset[str] | None],
) -> PlannedGroup:
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
    site: _Site,
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
    return Rule(name="no rule")


def _check_collection(policy: Policy, source: str) -> None:
    """Refuse a policy that was written for another collection."""
    wanted = policy.collection.rstrip("/")
    if wanted and source.rstrip("/") != wanted and not source.startswith(wanted + "/"):
        raise PolicyError(
            f"the policy {policy.name} is for {policy.collection}, and this is a scan of {source}"
        )


def _all_in(members: Iterable[Member], chosen: frozenset[str] | None) -> bool:
    return chosen is None or all(member.asset_id in chosen for member in members)


def _keys(members: Sequence[Member]) -> list[str]:
    """Every key that a group's plan looks at: members, sidecars, what may be written."""
    names = {name for m in members for name in (m.key, sidecar_key(m), link_key(m.key))}
    return sorted(names.union(*(sidecar_names(m) for m in members)))


def _own(site: _Site, members: Sequence[Member]) -> frozenset[str]:
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


def _approve_by_rule(catalog: Catalog, plan: Plan, policy: Policy) -> None:
    """Approve what the policy lets its rules approve, up to their limits."""
    for rule in policy.rules:
        if rule.automatic is None:
            continue
        ready = [
            group
            for group in plan.groups
            if group.rule == rule.name and group.automatic and group.operations
        ]
        if len(ready) > rule.automatic.groups:
            log.warning(
                "plan %s: rule %s may approve %d groups by itself and there are %d: none is; a "
                "person has to look",
                plan.id,
                rule.name,
                rule.automatic.groups,
                len(ready),
            )
            continue
        for group in ready:
            save_decision(
                catalog,
                plan,
                group,
                decision="approve",
                by=f"policy {plan.policy}",
                channel="policy",
                comment=f"rule {rule.name}",
            )

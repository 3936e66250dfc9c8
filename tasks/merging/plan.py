"""Plan: what the policy would do with every duplicate group of a scan, as data.

Nothing is written to the bucket. Objects are looked at anew, so that what is approved relies on
how they are now and not on how the last listing showed them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import names_tags, select_sql
from tasks.errors import MergeError, PolicyError
from tasks.merging.approvals import link_end, sign_link
from tasks.merging.journal import past_outcomes, read_decisions, save_decision, save_plan
from tasks.merging.members import read_members
from tasks.merging.plan_group import PlanSite, plan_group
from tasks.merging.policy_file import read_policy
from tasks.merging.rules.caps import refuse_above_caps
from tasks.merging.rules.plan_note import PlanNote, note_plan
from tasks.merging.rules.plans import PLAN_FORM, Member, Plan
from tasks.merging.rules.policy import Policy
from tasks.progress import Progress, silent
from tasks.queries.pair_proofs import read_pair_proofs
from tasks.queries.reviewers import share_groups
from tasks.records import Scan, Space, now
from tasks.session import open_catalog, open_source, open_store, scope_sql

log = logging.getLogger(__name__)

_Given = TypeVar("_Given")

#: Groups of one plan; what is beyond waits for the next, for a person has to read it.
_MOST_GROUPS = 5000


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
    groups = read_members(catalog, scan, space)
    names = [name for name, _ in groups]
    wanted, chosen = _whole_ids(keepers or {}, names), _whole_ids(values or {}, names)
    site = _site(catalog, scan, policy, wanted, chosen, again, groups)
    groups = [(name, of) for name, of in groups if not only or name.startswith(tuple(only))]
    allowed = _allowed(catalog, scan, policy)
    planned = []
    total = min(len(groups), _MOST_GROUPS)
    for at, (group_id, members) in enumerate(groups[:_MOST_GROUPS]):
        planned.append(plan_group(site, group_id, members, allowed))
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
) -> PlanSite:
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
    return PlanSite(
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


def _check_collection(policy: Policy, source: str) -> None:
    """Refuse a policy that was written for another collection."""
    wanted = policy.collection.rstrip("/")
    if wanted and source.rstrip("/") != wanted and not source.startswith(wanted + "/"):
        raise PolicyError(
            f"the policy {policy.name} is for {policy.collection}, and this is a scan of {source}"
        )


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

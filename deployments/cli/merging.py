"""The commands of merging: policy, plan, approve, reject, merge, undo, verdict, audit."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.options import CatalogUri, Json, read_settings

if TYPE_CHECKING:
    from tasks.merging.rules.policy import Policy
    from tasks.settings import Settings

plan_app = typer.Typer(
    help="Merge plans: what the policy would do, before anything is done.",
    no_args_is_help=False,
    invoke_without_command=True,
)
policy_app = typer.Typer(help="Policy files: check one, explain a decision.", no_args_is_help=True)
quarantine_app = typer.Typer(
    help="What merges moved aside, and its emptying.", no_args_is_help=True
)

PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="A plan's id, or `latest`.")]
By = Annotated[str, typer.Option("--by", help="Who decides; written into the audit.")]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--groups", "-g", help="Only these groups; may be given more than once, or comma-separated."
    ),
]
Comment = Annotated[str, typer.Option(help="Why; written into the audit.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="Policy file (YAML) [DAM_DEDUP_MERGE__POLICY]."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(policy_app, name="policy")
    app.add_typer(plan_app, name="plan")
    app.add_typer(quarantine_app, name="quarantine")
    for command in (approve, reject, merge, undo, verdict, audit):
        app.command()(command)


def split(names: list[str] | None) -> list[str]:
    """Names given more than once, or with commas between them."""
    from tasks.errors import MergeError

    found = [part.strip() for name in names or [] for part in name.split(",") if part.strip()]
    if names and not found:  # an unset variable must not mean all of them
        raise MergeError("--groups names no group")
    return found


# ---- policy ----------------------------------------------------------------------------------


@policy_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The policy file.")], as_json: Json = False
) -> None:
    """Check a policy file; every mistake is told with its line and key.

    dam-dedup policy check docs/policy-example.yaml
    """
    from deployments.cli.output import print_json
    from tasks.merging.plan import read_policy

    policy = read_policy(file)
    if as_json:
        print_json(
            {
                "name": policy.name,
                "version": policy.version_hash,
                "rules": [rule.model_dump(mode="json") for rule in policy.rules],
            }
        )
        return
    typer.echo(f"{file}: policy {policy.name} {policy.version_hash}, {len(policy.rules)} rules")
    for rule in policy.rules:
        tiers = ", ".join(tier.value for tier in rule.tier)
        where = f" where {rule.where}" if rule.where else ""
        alone = f"; approves up to {rule.automatic.groups} groups itself" if rule.automatic else ""
        typer.echo(f"  {rule.name}: {tiers}{where} -> {rule.action.value}{alone}")


@policy_app.command()
def explain(
    group: Annotated[str, typer.Argument(help="A group's id, or how it begins.")],
    policy: PolicyFile = None,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Say which rule a group of the last scan falls under, who would be the keeper, and why.

    Nothing is decided and no plan is kept.
    """
    from deployments.cli.output import print_json, show_group
    from tasks.errors import MergeError
    from tasks.merging.plan import make_plan
    from tasks.merging.rules.plans import as_data
    from tasks.reporting.summarize import last_scan

    settings = read_settings(catalog)
    scan, space, _, _ = last_scan(settings)
    plan = make_plan(scan, space, policy_of(settings, policy), only=group)
    if len(plan.groups) != 1:
        raise MergeError(f"the last scan has no group {group!r}, or several that begin so")
    if as_json:
        print_json(as_data(plan.groups[0]))
    else:
        show_group(plan.groups[0], operations=True)


# ---- plan ------------------------------------------------------------------------------------


@plan_app.callback()
def plan(
    context: typer.Context,
) -> None:
    """Merge plans: what the policy would do, before anything is done. Lists them by default."""
    if context.invoked_subcommand is None:
        list_plans(None, False)


@plan_app.command("list")
def list_plans(catalog: CatalogUri = None, as_json: Json = False) -> None:
    """List the plans there are, the newest last."""
    from deployments.cli.output import print_json
    from tasks.merging.journal import list_plans as read
    from tasks.session import open_catalog

    found = read(open_catalog(read_settings(catalog)))
    if as_json:
        print_json(found.to_dicts())
        return
    if found.is_empty():
        typer.echo("no plan yet; make one with: dam-dedup plan make --policy FILE")
    for row in found.iter_rows(named=True):
        typer.echo(
            f"{row['plan_id']}  {row['made']:%Y-%m-%d %H:%M}  {row['groups']:>5} groups  "
            f"{row['source']}  {row['policy']}"
        )


@plan_app.command("make")
def make(
    policy: PolicyFile = None,
    keeper: Annotated[
        list[str] | None, typer.Option(help="GROUP=KEY: another keeper for a group.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also groups that were rejected or undone before.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Plan the merges of the last scan's groups. Nothing is written to the bucket.

    dam-dedup plan make --policy policy.yaml

    dam-dedup plan make --policy policy.yaml --keeper g41c=masters/a.tif
    """
    from deployments.cli.scan_output import progress_bars
    from tasks.merging.plan import plan_merges
    from tasks.reporting.summarize import last_scan

    settings = read_settings(catalog)
    scan, space, _, _ = last_scan(settings)
    with progress_bars() as progress:
        made = plan_merges(
            scan,
            space,
            policy_of(settings, policy),
            keepers=_keepers(keeper),
            again=again,
            progress=progress,
        )
    _show_plan(settings, made.id, as_json=as_json, full=False)


@plan_app.command("show")
def show(
    plan_id: PlanId,
    catalog: CatalogUri = None,
    as_json: Json = False,
    full: Annotated[bool, typer.Option("--full", help="Every operation as well.")] = False,
) -> None:
    """Show a plan: each group's keeper and why, metadata merge, questions, operations, state."""
    _show_plan(read_settings(catalog), plan_id, as_json=as_json, full=full)


def _show_plan(settings: Settings, plan_id: str, *, as_json: bool, full: bool) -> None:
    from deployments.cli.output import plan_data, print_json, show_plan
    from tasks.merging.journal import read_decisions, read_events, read_plan
    from tasks.session import open_catalog

    catalog = open_catalog(settings)
    found = read_plan(catalog, plan_id)
    data = plan_data(found, read_decisions(catalog, found), read_events(catalog, found))
    if as_json:
        print_json(data)
    else:
        show_plan(found, data, operations=full)


# ---- decisions -------------------------------------------------------------------------------


def approve(
    plan_id: PlanId,
    by: By,
    groups: Groups = None,
    decisions: Annotated[
        Path | None,
        typer.Option(
            help="decisions.json of the report page: approvals, rejections and verdicts of all "
            "its groups; - reads stdin."
        ),
    ] = None,
    comment: Comment = "",
    accept_questions: Annotated[
        bool,
        typer.Option(
            "--accept-questions",
            help="Also groups with open questions; what conflicts stays as the keeper has it.",
        ),
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Approve a plan, or some of its groups. What is approved is exactly what `plan show` shows.

    dam-dedup approve 4f1c --by anna --groups g41c,g77a

    dam-dedup approve 4f1c --by anna --decisions decisions.json
    """
    if decisions is not None:
        _decide_file(plan_id, by, groups, decisions, catalog, as_json)
        return
    _decide("approve", plan_id, by, groups, comment, accept_questions, catalog, as_json)


def reject(
    plan_id: PlanId,
    by: By,
    groups: Groups = None,
    comment: Comment = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Reject a plan, or some of its groups: they are not planned again until they change."""
    _decide("reject", plan_id, by, groups, comment, True, catalog, as_json)


def _decide_file(
    plan_id: str,
    by: str,
    groups: list[str] | None,
    file: Path,
    catalog: str | None,
    as_json: bool,
) -> None:
    from deployments.cli.output import print_json, show_decided
    from tasks.errors import MergeError
    from tasks.merging.decide import decide_each
    from tasks.merging.journal import read_plan
    from tasks.merging.rules.decisions import parse_decisions
    from tasks.merging.rules.plans import as_data
    from tasks.queries.verdicts import Verdict, record_verdicts
    from tasks.session import open_catalog

    if groups:
        raise MergeError("--decisions names the groups: leave --groups out")
    try:
        found = parse_decisions(sys.stdin.read() if str(file) == "-" else _read(file))
    except ValueError as error:
        raise MergeError(f"{file} holds no decisions of a report page: {error}") from error
    settings = read_settings(catalog)
    plan = read_plan(open_catalog(settings), plan_id)
    if found.plan_hash != plan.hash:
        raise MergeError(
            f"{file} is about another plan ({found.plan_hash[:12] or 'none'}); nothing was decided"
        )
    outcome = decide_each(settings, plan, found.groups, by=by)
    said = [Verdict(one.left, one.right, one.verdict) for one in found.verdicts]
    number = record_verdicts(settings, said, by=by) if said else 0
    wanted = {one.group: one.decision for one in found.groups if one.keeper is None}
    if as_json:
        print_json(
            {
                "decided": [as_data(one) for one in outcome],
                "verdicts": number,
                "keepers": found.keepers,
            }
        )
    else:
        show_decided(plan_id, outcome)
        typer.echo(f"{number} verdicts recorded; later scans keep to them")
        if found.keepers:
            picked = " ".join(
                "--keeper " + shlex.quote(f"{group}={key}") for group, key in found.keepers.items()
            )
            typer.echo(
                f"{len(found.keepers)} with another keeper are not decided; plan them anew, "
                f"then look and approve:\n  dam-dedup plan make {picked}"
            )
    if any(one.decision != wanted[one.group_id] for one in outcome):
        raise typer.Exit(1)


def _decide(
    decision: Any,
    plan_id: str,
    by: str,
    groups: list[str] | None,
    comment: str,
    accept: bool,
    catalog: str | None,
    as_json: bool,
) -> None:
    from deployments.cli.output import print_json, show_decided
    from tasks.merging.decide import decide
    from tasks.merging.rules.plans import as_data

    settings = read_settings(catalog)
    outcome = decide(
        settings,
        plan_id,
        decision,
        by=by,
        groups=split(groups),
        comment=comment,
        accept_questions=accept,
    )
    if as_json:
        print_json([as_data(one) for one in outcome])
    else:
        show_decided(plan_id, outcome)
    if any(one.decision != decision for one in outcome) and groups:
        raise typer.Exit(1)


# ---- merge and undo --------------------------------------------------------------------------


def merge(
    plan_id: PlanId,
    by: By = "cli",
    groups: Groups = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at everything, write nothing.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Carry out what is approved of a plan. A run that was stopped is taken up by the next.

    Exit code 1 when a group was refused or failed.
    """
    from deployments.cli.output import print_json, show_merge
    from deployments.cli.scan_output import progress_bars
    from tasks.merging.merge import merge_plan
    from tasks.merging.rules.plans import as_data

    settings = read_settings(catalog)
    with progress_bars() as progress:
        outcome = merge_plan(
            settings, plan_id, by=by, groups=split(groups), dry_run=dry_run, progress=progress
        )
    if as_json:
        print_json(as_data(outcome))
    else:
        show_merge(outcome)
    if not outcome.complete:
        raise typer.Exit(1)


def undo(
    target: Annotated[str, typer.Argument(help="PLAN, PLAN/GROUP, PLAN/GROUP/NUMBER, or GROUP.")],
    by: By,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be undone.")] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Put back what a merge did: bytes, keys, tags, user metadata and sidecars.

    What changed since is left as it is, and said; exit code 1 then.
    """
    from deployments.cli.output import print_json, show_undo
    from deployments.cli.scan_output import progress_bars
    from tasks.merging.rules.plans import as_data
    from tasks.merging.undo import undo_merge

    with progress_bars() as progress:
        outcomes = undo_merge(
            read_settings(catalog), target, by=by, dry_run=dry_run, progress=progress
        )
    if as_json:
        print_json([as_data(one) for one in outcomes])
    else:
        show_undo(outcomes)
    if any(one.state in {"left", "failed"} for one in outcomes):
        raise typer.Exit(1)


@quarantine_app.command("list")
def list_objects(
    plan_id: Annotated[str, typer.Argument(metavar="[PLAN]", help="Of this plan only.")] = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """List what is in quarantine, and until when it is kept."""
    from deployments.cli.output import print_json, show_quarantine
    from tasks.merging.quarantine import list_quarantine
    from tasks.merging.rules.plans import as_data

    found = list_quarantine(read_settings(catalog), plan_id)
    if as_json:
        print_json([as_data(entry) for entry in found])
    else:
        show_quarantine(found)


@quarantine_app.command("empty")
def empty(
    by: By,
    plan_id: Annotated[str, typer.Argument(metavar="[PLAN]", help="Of this plan only.")] = "",
    early: Annotated[
        bool,
        typer.Option(
            "--early",
            help="Also what has not been there for as long as the policy says; asks again.",
        ),
    ] = False,
    confirm: Annotated[
        str, typer.Option(help="With --early: the plan's id once more, instead of being asked.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Remove for good what has been in quarantine long enough. This cannot be undone."""
    from deployments.cli.output import print_json, show_quarantine
    from deployments.cli.scan_output import progress_bars
    from tasks.errors import MergeError
    from tasks.merging.quarantine import empty_quarantine
    from tasks.merging.rules.plans import as_data

    if early and not dry_run and confirm != plan_id:
        said = typer.prompt("this cannot be undone; type the plan's id to go on", err=True)
        if said.strip() != plan_id:
            raise MergeError("nothing was removed")
    with progress_bars() as progress:
        found = empty_quarantine(
            read_settings(catalog),
            by=by,
            plan_id=plan_id,
            early=early,
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        print_json([as_data(entry) for entry in found])
    else:
        show_quarantine(found)
    if any(entry.state == "failed" for entry in found):
        raise typer.Exit(1)


# ---- verdicts and audit ----------------------------------------------------------------------


def verdict(
    left: Annotated[str, typer.Argument(help="A key or an asset id; or a CSV file.")],
    right: Annotated[str, typer.Argument(help="The other one.")] = "",
    answer: Annotated[str, typer.Argument(help="distinct, linked or duplicate.")] = "",
    by: By = "",
    comment: Comment = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Say of two pictures that they are distinct, linked or duplicates; no scan asks again.

    It holds until the picture of one of them changes.

    dam-dedup verdict a.jpg b.jpg distinct --by anna

    dam-dedup verdict decisions.csv --by anna      (columns left, right, verdict; - reads stdin)
    """
    from deployments.cli.output import print_json
    from tasks.errors import MergeError
    from tasks.queries.verdicts import Verdict, parse_verdicts, record_verdicts

    if right:
        said = [Verdict(left, right, answer, comment)]
    else:
        said = parse_verdicts(sys.stdin.read() if left == "-" else _read(Path(left)))
        if not said:
            raise MergeError(f"{left}: no row has a verdict")
    number = record_verdicts(read_settings(catalog), said, by=by)
    if as_json:
        print_json({"recorded": number})
    else:
        typer.echo(f"{number} recorded; the next scan keeps to {'it' if number == 1 else 'them'}")


def audit(
    catalog: CatalogUri = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    savings: Annotated[
        bool, typer.Option("--savings", help="The ledger of bytes and cost instead.")
    ] = False,
) -> None:
    """Who decided what, and what was done, in order; or what it saved."""
    from deployments.cli.output import print_json, show_audit, show_savings
    from tasks.csv_cells import frame_csv
    from tasks.merging.audit import read_audit
    from tasks.reporting.savings import read_savings

    settings = read_settings(catalog)
    if savings:
        ledger = read_savings(settings)
        if as_json:
            print_json(ledger)
        else:
            show_savings(ledger)
        return
    events = read_audit(settings)
    if as_csv:
        typer.echo(frame_csv(events).decode(), nl=False)
    elif as_json:
        print_json(events.to_dicts())
    else:
        show_audit(events)


# ---- helpers ---------------------------------------------------------------------------------


def policy_of(settings: Settings, file: Path | None) -> Policy:
    """The policy of the command line, else of the settings, else the one that only reports.

    Raises:
        PolicyError: when it is wrong, a filter in it included.
    """
    from tasks.merging.plan import read_policy
    from tasks.merging.rules.policy import default_policy

    path = file or settings.merge.policy
    return default_policy() if path is None else read_policy(path)


def _keepers(given: list[str] | None) -> dict[str, str]:
    from tasks.errors import MergeError

    found = {}
    for text in given or []:
        group, sign, key = text.partition("=")
        if not (group and sign and key):
            raise MergeError(f"--keeper {text!r}: write GROUP=KEY")
        found[group] = key
    return found


def _read(path: Path) -> str:
    from tasks.errors import SettingsError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error

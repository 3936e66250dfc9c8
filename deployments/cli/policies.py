"""The commands of policy files: ``policy check`` and ``policy explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.cli.help_pages import MERGE, Command, Group
from deployments.cli.options import CatalogUri, Json, PolicyFile, policy_of, read_settings

policy_app = typer.Typer(
    cls=Group, help="Policy files: check one, explain a decision.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.add_typer(policy_app, name="policy", rich_help_panel=MERGE)


@policy_app.command(cls=Command)
def check(
    file: Annotated[Path, typer.Argument(help="The policy file.")], as_json: Json = False
) -> None:
    """Check a policy file; every mistake is told with its line and key.

    dam-dedup policy check docs/policy-example.yaml
    """
    from deployments.cli.output import print_json
    from reports.words import counted
    from tasks.merging.policy_file import read_policy

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
    rules = counted(len(policy.rules), "rule")
    typer.echo(f"{file}: policy {policy.name} {policy.version_hash}, {rules}")
    for rule in policy.rules:
        tiers = ", ".join(tier.value for tier in rule.tier)
        where = f" where {rule.where}" if rule.where else ""
        alone = f"; approves up to {rule.automatic.groups} groups itself" if rule.automatic else ""
        typer.echo(f"  {rule.name}: {tiers}{where} -> {rule.action.value}{alone}")


@policy_app.command(cls=Command)
def explain(
    group: Annotated[str, typer.Argument(help="A group's id, or how it begins.")],
    policy: PolicyFile = None,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Say which rule a group of the last scan falls under, who would be the keeper, and why.

    Nothing is decided and no plan is kept.

        dam-dedup policy explain g41c --policy policy.yaml
    """
    settings = read_settings(catalog)
    chosen = policy_of(settings, policy)

    from deployments.cli.merge_output import show_group
    from deployments.cli.output import print_json
    from tasks.errors import MergeError
    from tasks.merging.plan import make_plan
    from tasks.merging.rules.plans import as_data
    from tasks.reporting.summarize import last_scan

    scan, space, _, _ = last_scan(settings)
    plan = make_plan(scan, space, chosen, only=[group] if group else ())
    if len(plan.groups) != 1:
        raise MergeError(f"the last scan has no group {group!r}, or several that begin so")
    if as_json:
        print_json(as_data(plan.groups[0]))
    else:
        show_group(plan.groups[0], operations=True)

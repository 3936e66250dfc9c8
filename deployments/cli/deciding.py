"""The commands by which a person decides: ``approve``, ``reject`` and ``verdict``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.cli.help_pages import MERGE, add
from deployments.cli.options import (
    By,
    CatalogUri,
    Comment,
    Groups,
    Json,
    PlanId,
    read_bytes,
    read_settings,
    split,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, MERGE, approve, reject, withdraw, verdict)


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
    """Reject a plan, or some of its groups: they are not planned again until they change.

    dam-dedup reject 4f1c --by anna --groups g41c --comment "two views of one shoe"
    """
    _decide("reject", plan_id, by, groups, comment, True, catalog, as_json)


def withdraw(
    plan_id: PlanId,
    by: By,
    groups: Groups = None,
    comment: Comment = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Take decisions back, of groups that nothing was done to yet; they wait for one again.

    Without --groups all approvals are taken back; a rejection has to be named.

    dam-dedup withdraw 4f1c --by anna --groups g41c
    """
    settings, chosen = read_settings(catalog), split(groups)

    from deployments.cli.output import print_json
    from reports.words import shown_key
    from tasks.merging.decide import withdraw as take_back
    from tasks.merging.rules.plans import as_data

    outcome = take_back(settings, plan_id, by=by, groups=chosen, comment=comment)
    if as_json:
        print_json([as_data(one) for one in outcome])
    for one in () if as_json else outcome:
        held = {"approve": "stays approved", "reject": "stays rejected"}.get(one.decision, "")
        said = f"{held}: {one.why}" if held else "waits for a decision again"
        typer.echo(f"{one.group_id[:8]} {shown_key(one.keeper)} {said}")
    if not outcome and not as_json:
        typer.echo("nothing was decided")
    if any(one.decision for one in outcome):
        raise typer.Exit(1)


def verdict(
    left: Annotated[str, typer.Argument(help="A key or an asset id; a group's id; or a CSV file.")],
    right: Annotated[
        str, typer.Argument(help="The other one; after a group's id, the answer.")
    ] = "",
    answer: Annotated[str, typer.Argument(help="distinct, linked or duplicate.")] = "",
    by: By = "",
    comment: Comment = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Say of two pictures that they are distinct, linked or duplicates; no scan asks again.

    Said of a group, it holds for every pair in it. It holds until the picture of one of them
    changes. A CSV file has the columns left, right and
    verdict, as the report's pairs.csv does once a column "verdict" is added; it is read as
    spreadsheets of any country save it (commas, semicolons or tabs; UTF-8, UTF-16 or Windows).

        dam-dedup verdict a.jpg b.jpg distinct --by anna

        dam-dedup verdict 4f1c02aa distinct --by anna

        dam-dedup verdict pairs.csv --by anna

        dam-dedup verdict - --by anna < pairs.csv
    """
    settings = read_settings(catalog)
    data = b"" if right else read_bytes(left)

    from deployments.cli.output import print_json
    from tasks.dedup.verdicts import VERDICTS
    from tasks.errors import MergeError
    from tasks.queries.verdicts import (
        Verdict,
        parse_verdicts,
        record_verdicts,
        verdicts_on_group,
    )
    from tasks.session import open_catalog

    if right in VERDICTS and not answer:  # a group has one answer for all of its pairs
        said = verdicts_on_group(open_catalog(settings), left, right, comment)
    elif right:
        said = [Verdict(left, right, answer, comment)]
    else:
        said = parse_verdicts(data)
        if not said:
            raise MergeError(f"{left}: no row has a verdict")
    number = record_verdicts(settings, said, by=by)
    if as_json:
        print_json({"recorded": number})
    else:
        typer.echo(f"{number} recorded; the next scan keeps to {'it' if number == 1 else 'them'}")


def _decide_file(
    plan_id: str,
    by: str,
    groups: list[str] | None,
    file: Path,
    catalog: str | None,
    as_json: bool,
) -> None:
    from tasks.errors import MergeError
    from tasks.merging.rules.decisions import parse_decisions

    if groups:
        raise MergeError("--decisions names the groups: leave --groups out")
    try:
        found = parse_decisions(read_bytes(str(file)).decode("utf-8-sig"))
    except ValueError as error:
        raise MergeError(f"{file} holds no decisions of a report page: {error}") from error
    settings = read_settings(catalog)

    from deployments.cli.merge_output import show_decided
    from deployments.cli.output import print_json
    from tasks.merging.decide import decide_each
    from tasks.merging.journal import read_plan
    from tasks.merging.rules.plans import as_data
    from tasks.queries.verdicts import Verdict, record_verdicts
    from tasks.session import open_catalog

    plan = read_plan(open_catalog(settings), plan_id)
    if found.plan_hash != plan.hash:
        raise MergeError(
            f"{file} is about another plan ({found.plan_hash[:12] or 'none'}); nothing was decided"
        )
    outcome = decide_each(settings, plan, found.groups, by=by)
    said = [Verdict(one.left, one.right, one.verdict) for one in found.verdicts]
    number = record_verdicts(settings, said, by=by) if said else 0
    wanted = {
        one.group: "" if one.decision == "withdraw" else one.decision
        for one in found.groups
        if not one.plans_anew
    }
    if as_json:
        print_json(
            {
                "decided": [as_data(one) for one in outcome],
                "verdicts": number,
                "keepers": found.keepers,
                "values": found.values,
            }
        )
    else:
        show_decided(plan_id, outcome)
        typer.echo(f"{number} verdicts recorded; later scans keep to them")
        anew = [one for one in found.groups if one.plans_anew]
        if anew:
            picked = " ".join(
                [f"--keeper {shlex.quote(f'{name}={key}')}" for name, key in found.keepers.items()]
                + [
                    f"--value {shlex.quote(f'{name}:{field}={value}')}"
                    for name, values in found.values.items()
                    for field, value in values.items()
                ]
            )
            typer.echo(
                f"{len(anew)} with another keeper or value are not decided; plan them anew, "
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
    settings, chosen = read_settings(catalog), split(groups)

    from deployments.cli.merge_output import show_decided
    from deployments.cli.output import print_json
    from tasks.merging.decide import decide
    from tasks.merging.rules.plans import as_data

    outcome = decide(
        settings,
        plan_id,
        decision,
        by=by,
        groups=chosen,
        comment=comment,
        accept_questions=accept,
    )
    if as_json:
        print_json([as_data(one) for one in outcome])
    else:
        show_decided(plan_id, outcome)
    if any(one.decision != decision for one in outcome) and groups:
        raise typer.Exit(1)

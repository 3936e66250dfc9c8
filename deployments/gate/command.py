"""The commands ``gate`` and ``link``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.help_pages import MERGE, OPERATE, add
from deployments.cli.options import CatalogUri, PlanId, read_settings

if TYPE_CHECKING:
    from deployments.gate.review_actions import Replan
    from tasks.settings import Settings

#: An analysis may come in the address (rank.by.preprocessed).
_HEAD_BYTES = 512 * 1024


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, OPERATE, gate)
    add(app, MERGE, link)


def gate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8088,
    catalog: CatalogUri = None,
    no_keys: Annotated[
        bool,
        typer.Option(
            "--no-keys", help="Answer strangers without a key: a proxy decides who may ask."
        ),
    ] = False,
) -> None:
    """Serve the gate over HTTP: is this image already there? And the approval pages.

    Routes: /analyze /duplicate /update; /api/cores/NAME and /solr/NAME for clients of another
    image search service; /health /metrics; /docs says how to ask. The model is loaded once, and
    what comes at the same time is analysed together.

    Without DAM_DEDUP_GATE__API_KEYS it listens on loopback addresses alone, and answers no other
    web site's pages. With DAM_DEDUP_MERGE__SECRET it shows the pages that signed links lead to.
    It speaks plain HTTP: put a proxy with TLS in front of it, reached at
    DAM_DEDUP_MERGE__GATE_URL.

        dam-dedup gate --port 8088 --catalog var/catalog

        curl --data-binary @boots.jpg -H "Content-Type: image/jpeg" localhost:8088/duplicate
    """
    settings = read_settings(catalog)

    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    from deployments.gate.app import create_app
    from deployments.gate.connections import guarded
    from deployments.gate.keys import Keys

    keys = Keys(settings, anybody=no_keys)
    keys.check_address(host)
    app = create_app(settings, replan=_replan(settings), keys=keys)
    pages = "" if settings.merge.secret else " (no approval pages: DAM_DEDUP_MERGE__SECRET unset)"
    print(f"gate on http://{host}:{port}/docs{pages}", file=sys.stderr)  # noqa: T201
    # No access log: an address is a key to a decision.
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        log_level="warning",
        # None: uvicorn's lines take the form that all others have.
        log_config=None if settings.logs.format == "json" else LOGGING_CONFIG,
        timeout_keep_alive=30,
        backlog=512,
        timeout_graceful_shutdown=30,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        http=guarded(header_seconds=settings.gate.header_seconds, most=settings.gate.connections),
    )


def link(
    plan_id: PlanId,
    reviewer: Annotated[
        str, typer.Option("--reviewer", help="Who decides with it; written into the audit.")
    ],
    done: Annotated[
        bool,
        typer.Option("--done", help="Instead: to all that was merged at its source, to undo it."),
    ] = False,
    catalog: CatalogUri = None,
) -> None:
    """Print the signed link at which a reviewer decides on a plan.

    Whoever has the link decides in the reviewer's name: send it to nobody else.

        dam-dedup link latest --reviewer anna@example.org

        dam-dedup link latest --reviewer anna@example.org --done
    """
    settings = read_settings(catalog)

    from tasks.merging.approvals import sign_link, sign_undo_link
    from tasks.merging.journal import read_plan
    from tasks.session import open_catalog

    sign = sign_undo_link if done else sign_link
    typer.echo(sign(settings, read_plan(open_catalog(settings), plan_id), reviewer))


def _replan(settings: Settings) -> Replan | None:
    """Plans again by the settings' policy; without one, the page offers no other keeper."""
    path = settings.merge.policy
    if path is None:
        return None

    def replan(
        plan_id: str, keepers: dict[str, str], values: dict[str, dict[str, str]] | None = None
    ) -> str:
        from tasks.errors import MergeError
        from tasks.merging.journal import read_plan
        from tasks.merging.plan import plan_anew
        from tasks.merging.policy_file import read_policy
        from tasks.reporting.summarize import last_scan
        from tasks.session import open_catalog

        plan, policy = read_plan(open_catalog(settings), plan_id), read_policy(path)
        if plan.policy != f"{policy.name} {policy.version_hash}":
            raise MergeError(
                "this plan was made by another policy than the one in force now: plan again with "
                "`dam-dedup plan make --keeper GROUP=KEY`"
            )
        scan, space, _, _ = last_scan(settings, plan.scan_id)
        return plan_anew(scan, space, policy, plan, keepers=keepers, values=values).id

    return replan

"""Alarms: Prefect automations that tell an operator what went wrong, and what to do.

The Prefect server itself sends them, by mail or to a webhook: an alarm that needed a worker would
stay silent when the worker is what died.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection as Collection_
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deployments.collection_file import Collection
from flows.merge import ASKING
from flows.telling import COVERAGE_LOW, MAIL_FAILED, MERGE_WAITING, SCANNED, resource_of
from tasks.errors import SettingsError
from tasks.settings import load_settings
from tasks.settings_parts import AlarmSettings, MailSettings

if TYPE_CHECKING:
    from prefect.automations import Automation
    from prefect.events.schemas.automations import EventTrigger

_PREFIX = "dam-dedup: "
_ZOMBIES = f"{_PREFIX}crash runs whose worker died"
# A run that has not begun has a name that Prefect made up: the deployment's says what is waiting.
_RUN = (
    "{{ deployment.name }} ({{ flow_run.name }}): "
    "{{ flow_run.state.message or flow_run.state.name }}\n{{ flow_run|ui_url or '' }}\n\n"
)


@dataclass(frozen=True, slots=True)
class Alarm:
    """One fault: how it is noticed and what the operator reads.

    Attributes:
        name: in the automation's name.
        subject: of the message, after the collection.
        todo: what to do.
        trigger: how it is noticed.
        run: whether the message is about one run.
    """

    name: str
    subject: str
    todo: str
    trigger: EventTrigger
    run: bool = True


def alarms_of(one: Collection) -> list[Alarm]:
    """Every alarm of a collection."""
    from prefect.events.schemas.automations import EventTrigger, Posture

    told = one.notifications
    again = timedelta(hours=told.again_hours)
    runs = {
        "match": {"prefect.resource.id": ["prefect.flow-run.*"]},
        "match_related": {"prefect.resource.id": [f"prefect.tag.collection:{one.name}"]},
    }

    def of_a_run(*states: str) -> EventTrigger:
        return EventTrigger(
            **runs,
            expect={f"prefect.flow-run.{state}" for state in states},
            posture=Posture.Reactive,
            threshold=1,
            within=again,
        )

    def of_ours(event: str) -> EventTrigger:
        return EventTrigger(
            match={"prefect.resource.id": [resource_of(one.name)]},
            expect={event},
            posture=Posture.Reactive,
            threshold=1,
            within=again,
        )

    late = EventTrigger(
        **runs,
        after={"prefect.flow-run.Late"},
        expect={
            f"prefect.flow-run.{state}"
            for state in ("Pending", "Running", "Cancelled", "Completed", "Failed", "Crashed")
        },
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(minutes=told.late_minutes),
    )
    silent = EventTrigger(
        match={"prefect.resource.id": [resource_of(one.name)]},
        expect={SCANNED},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(hours=told.scan_hours),
    )
    return [
        Alarm(
            "a run failed",
            "a run failed",
            "What to do: open the run, whose message says what is wrong. After it is corrected, "
            "start the run again: nothing that was done is done twice.",
            of_a_run("Failed", "TimedOut"),
        ),
        Alarm(
            "a run crashed",
            "a run crashed",
            "What to do: see whether the worker's machine ran out of memory or was restarted, and "
            "that the worker is online. The next scan goes on where this one stopped.",
            of_a_run("Crashed"),
        ),
        Alarm(
            "a run is late",
            f"a run has waited for {told.late_minutes:g} minutes",
            "What to do: start a worker for the run's work pool (prefect worker start --pool "
            "NAME), or see what the running ones are busy with.",
            late,
        ),
        Alarm(
            "no scan",
            f"no scan has finished for {told.scan_hours:g} hours",
            "What to do: see whether the deployment's schedule is on, a worker is online, and what "
            "its last runs say.",
            silent,
            run=False,
        ),
        Alarm(
            "coverage is low",
            f"less than {told.coverage:.0%} of the images could be read",
            "{{ event.payload.said }}\n\nWhat to do: coverage.csv of the report names each image "
            "and the reason.",
            of_ours(COVERAGE_LOW),
            run=False,
        ),
        Alarm(
            "a mail failed",
            "the mail of a scan was not sent",
            "{{ event.payload.said }}\n\nWhat to do: see DAM_DEDUP_MAIL__HOST and the others. The "
            "next scan tells the same news again.",
            of_ours(MAIL_FAILED),
            run=False,
        ),
        Alarm(
            "a merge waits",
            f"approved merges have waited for more than {told.merge_days:g} days",
            "{{ event.payload.said }}\n\nWhat to do: the page of the last merge run says what is "
            "in the way: a cap of the policy, a hold, or an object that changed since.",
            of_ours(MERGE_WAITING),
            run=False,
        ),
    ]


def bring_up_alarms(
    collections: Sequence[Collection],
    *,
    gone: Collection_[str] = (),
    dry_run: bool = False,
    prune: bool = False,
) -> list[str]:
    """Make or renew the automations of all collections; a line for each that is not as it was.

    Whether somebody switched one off stays. Alarms of collections that are not named here are
    somebody else's. Must be called with Prefect's API set.

    Args:
        collections: whose alarms there should be.
        gone: titles of collections that were deployed from here and are no longer.
        dry_run: change nothing.
        prune: remove the alarms of those that are gone.

    Raises:
        SettingsError: when a webhook's variable is not set.
    """
    return asyncio.run(_bring_up(collections, gone, dry_run=dry_run, prune=prune))


async def _bring_up(
    collections: Sequence[Collection], gone: Collection_[str], *, dry_run: bool, prune: bool
) -> list[str]:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        there = {found.name: found for found in await client.read_automations()}
    lines, mine = list[str](), {_ZOMBIES}
    wanted = [_zombies()]
    for one in collections:
        blocks = await _blocks(one, dry_run=dry_run)
        if not blocks:
            lines.append(f"{'no alarms':<10} {one.title}: nobody is named who is to be told")
        wanted += list(_automations(one, blocks))
    for automation in wanted:
        mine.add(automation.name)
        found = there.get(automation.name)
        if found is None:
            lines.append(f"{'created':<10} alarm {automation.name}")
            if not dry_run:
                await automation.acreate()
        elif not _same(found, automation):
            lines.append(f"{'changed':<10} alarm {automation.name}")
            if not dry_run:
                automation.id = found.id
                automation.enabled = found.enabled  # who switched it off knows why
                await automation.aupdate()
    titles = {one.title for one in collections}
    for name, found in there.items():
        title = name.removeprefix(_PREFIX).partition(": ")[0]
        if not name.startswith(_PREFIX) or name in mine or title not in titles | set(gone):
            continue
        removed = prune or title in titles
        lines.append(f"{'removed' if removed else 'left over':<10} alarm {name}")
        if removed and not dry_run:
            async with get_client() as client:
                await client.delete_automation(found.id)
    return lines


def _same(found: Any, wanted: Automation) -> bool:
    def facts(one: Any) -> Any:
        trigger = one.trigger.model_dump(mode="json", exclude={"id"})
        trigger = {
            name: sorted(value) if isinstance(value, list) else value
            for name, value in trigger.items()
        }
        return trigger, [action.model_dump(mode="json") for action in one.actions]

    return bool(facts(found) == facts(wanted))


def _automations(one: Collection, blocks: Sequence[Any]) -> Iterator[Automation]:
    from prefect.automations import Automation
    from prefect.events.actions import SendNotification

    for alarm in alarms_of(one) if blocks else []:
        yield Automation(
            name=f"{_PREFIX}{one.title}: {alarm.name}",
            description=alarm.subject,
            trigger=alarm.trigger,
            actions=[
                SendNotification(
                    block_document_id=block,
                    subject=f"{one.title}: {alarm.subject}",
                    body=(_RUN if alarm.run else "") + alarm.todo,
                )
                for block in blocks
            ],
        )


async def _blocks(one: Collection, *, dry_run: bool) -> list[Any]:
    """Ids of the blocks through which the server tells a collection's operators."""
    from uuid import UUID

    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook

    told, found = one.notifications, list[Any]()
    name = f"dam-dedup-{one.name.lower().replace('_', '-').replace('.', '-')}"
    mail = mail_address(told, load_settings().mail)
    hook = webhook_address(told)
    if dry_run:
        return [UUID(int=0)] * ((mail is not None) + (hook is not None))
    if mail:
        # Prefect has no block of its own for SMTP. This one hands its address to Apprise as it
        # is, which takes mailto:// addresses.
        found.append(await SlackWebhook(url=mail).asave(f"{name}-mail", overwrite=True))
    if hook:
        block = CustomWebhookNotificationBlock(
            name=name,
            url="{{address}}",
            secrets={"address": hook},
            json_data={"text": "*{{subject}}*\n{{body}}"},
        )
        found.append(await block.asave(f"{name}-webhook", overwrite=True))
    return found


def webhook_address(told: AlarmSettings) -> str | None:
    """The webhook's address, taken from the variable that ``$NAME`` names.

    Raises:
        SettingsError: when there is no such variable.
    """
    given = told.webhook.get_secret_value() if told.webhook else ""
    if not given.startswith("$"):
        return given or None
    if not os.environ.get(given[1:]):
        raise SettingsError(f"notifications: webhook: the variable {given[1:]} is not set")
    return os.environ[given[1:]]


def mail_address(told: AlarmSettings, mail: MailSettings) -> str | None:
    """The operators' mail as Apprise writes an address of a mail server; None without operators."""
    if not told.to:
        return None
    login = ""
    if mail.username and mail.password:
        password = mail.password.get_secret_value()
        login = f"{quote(mail.username, safe='')}:{quote(password, safe='')}@"
    mode = {"none": "insecure", "starttls": "starttls", "tls": "ssl"}[mail.tls]
    sender, people = quote(mail.sender, safe=""), quote(",".join(told.to), safe="")
    scheme = "mailto" if mail.tls == "none" else "mailtos"
    return (
        f"{scheme}://{login}{mail.host}:{mail.port}/?mode={mode}&smtp={quote(mail.host)}"
        f"&from={sender}&to={people}&format=text"
    )


def _zombies() -> Automation:
    """Runs whose worker was killed with them would stay "Running" for ever.

    Source: Prefect's documentation, "Detect zombie flows".
    """
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    # A suspended run has no process, and waits for a person's answer for days.
    ends = {
        f"prefect.flow-run.{end}"
        for end in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended")
    }
    return Automation(
        name=_ZOMBIES,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", ASKING, *ends},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related={"prefect.resource.id": ["prefect.tag.dam-dedup"]},  # no one else's
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=120),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat for 120 s: its worker died"
            )
        ],
    )

"""Ingest: one upload is checked, decided about, entered and recorded, all under one lease.

Whoever holds the catalog's writing lease is the only one who decides: of two identical uploads in
the same second the later one sees the earlier, also from another process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from tasks.catalog import schema
from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.filters import select_sql
from tasks.dedup.verify import NEAR_SCORE, SIMILAR_SCORE
from tasks.errors import CatalogError, PolicyError, SettingsError
from tasks.intake.alerts import save_alerts
from tasks.intake.analyze import Analyzer, analysis_json, read_analysis
from tasks.intake.blocklist import Alert, find_alerts, suspect_of
from tasks.intake.check import Checker
from tasks.intake.update import ReadObject, enter_object, read_object, update_asset
from tasks.merging.rules.bursts import in_words, taken_apart, time_taken
from tasks.merging.rules.ingest_policy import Admit, IngestPolicy
from tasks.queries.verdicts import Verdict, record_verdicts
from tasks.records import (
    Analysis,
    Checked,
    CheckQuestion,
    Finding,
    Space,
    Tier,
    asset_id,
    digest,
    now,
)
from tasks.session import default_source, open_catalog, open_source, pa_table
from tasks.settings import Settings
from tasks.sources.collection import is_collection

_NONE: Mapping[str, str] = MappingProxyType({})
#: Matches that rules are asked about; more copies of one picture than that decide no differently.
_MOST_FINDINGS = 1000
#: What nobody may do by a match whose originals were not compared at full size.
_ACTING = frozenset({Admit.REJECT, Admit.LINK, Admit.OVERWRITE})
_COLUMNS = [
    "sequence",
    "admission_id",
    "source",
    "key",
    "asset_id",
    "sha256",
    "content",
    "decision",
    "rule",
    "policy",
    "reason",
    "match_asset",
    "match_key",
    "score",
    "tier",
    "alerts",
    "answer_to",
    "by",
    "channel",
    "at",
]


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of an upload.

    Attributes:
        id: of its record; a question is answered by it.
        decision: ``reject``, ``link``, ``ask``, ``overwrite`` or ``add``.
        asset_id: of the asset that now holds the picture; empty where none does.
        rule: that decided; empty where none did.
        reason: in words.
        match: the asset that decided, if one did.
    """

    id: str
    decision: str
    key: str
    asset_id: str
    rule: str
    reason: str
    match: Finding | None
    checked: Checked
    alerts: tuple[Alert, ...]

    @property
    def added(self) -> bool:
        """Whether the picture is in the catalog now."""
        return bool(self.asset_id)


@dataclass(frozen=True, slots=True)
class AdmissionDecision:
    """What a policy says of an upload."""

    action: Admit
    rule: str
    reason: str
    match: Finding | None


def admit(
    settings: Settings,
    analysis: Analysis,
    checker: Checker,
    key: str,
    *,
    source: str = "",
    policy: IngestPolicy,
    tags: Mapping[str, str] = _NONE,
    metadata: Mapping[str, str] = _NONE,
    name: str = "",
    etag: str = "",
    channel: str = "cli",
    analyzer: Analyzer | None = None,
) -> Admission:
    """Check an upload, decide, enter it or not, and record that.

    Before an upload is rejected, linked or put in another's place because of a match, the two
    originals are compared at full size. Where that cannot be, as with an asset of a collection
    whose bytes were never kept, a person is asked.

    No bucket is touched, ever. An object of ``s3://`` that is rejected stays where it is, and the
    next scan sees it: such a bucket is guarded by asking before the upload. What such an object
    shows is read from the object itself, whatever was handed in.

    Args:
        settings: with the catalog.
        analysis: of the upload; of an object only its SHA-256 counts.
        checker: of the same settings.
        key: under which it comes; an asset that is there under this key is no match of itself.
        source: empty: the default source.
        policy: what to do about which match.
        tags: of an asset of a collection.
        metadata: likewise.
        name: likewise.
        etag: that an object of a bucket must have, where the caller knows it.
        channel: where the upload came in, for the record.
        analyzer: to read an object with; none: one is made, which loads the model.

    Raises:
        AssetChangedError: when an object's bytes are not those that were analysed.
        AssetGoneError: when there is no such object.
        PolicyError: when a rule overwrites and the source is no ``gate://`` collection.
        CatalogBusyError: when somebody else writes for too long; nothing was decided.
    """
    catalog = open_catalog(settings)
    place = open_source(source or default_source(catalog, settings), settings)
    if policy.overwrites and not is_collection(place.id):
        raise PolicyError(
            f"policy {policy.policy}: overwrite replaces entries of gate:// collections only, and "
            f"{place.id} is none: its objects say what is there. Use reject, link, ask or add"
        )
    seen: ReadObject | None = None
    if not is_collection(place.id):
        seen = read_object(
            settings, place, key, etag=etag, analyzer=analyzer, sha256=analysis.picture.sha256
        )
        analysis = seen.analysis
    own = asset_id(place.id, key)
    with catalog.writing(settings.catalog.busy_seconds):
        question = CheckQuestion(
            source=f"{place.id}/{place.prefix}" if place.prefix else place.id,
            threshold=_threshold(policy, settings),
            limit=_MOST_FINDINGS,
            exclude=(own,),
        )
        checked = checker.check(analysis, question)
        suspect = suspect_of(analysis, key, place.id)
        alerts = tuple(find_alerts(catalog, [suspect], analysis.space.id))
        said = decide(
            policy,
            checked.found,
            _allowed(catalog, policy, checked.found),
            alerts,
            other_shots(catalog, analysis, checked.found),
        )
        said = _compared(said, checker, analysis)
        save_alerts(catalog, alerts, channel=channel)
        entered = ""
        if said.action in (Admit.ADD, Admit.LINK, Admit.OVERWRITE):
            instead = said.match.key if said.match and said.action is Admit.OVERWRITE else key
            entered = (
                enter_object(settings, seen)
                if seen
                else update_asset(
                    settings,
                    analysis,
                    instead,
                    source=question.source,
                    tags=tags,
                    metadata=metadata,
                    name=name,
                    analyzer=analyzer,
                )
            )
        if said.action is Admit.LINK and said.match:
            linked = Verdict(entered, said.match.asset_id, "linked", said.reason)
            record_verdicts(settings, [linked], by=f"policy {policy.label}", channel=channel)
        asked = said.action is Admit.ASK
        row = {
            "source": question.source,
            "key": key,
            "asset_id": entered,
            "sha256": analysis.picture.sha256,
            "content": analysis.picture.content,
            "decision": said.action.value,
            "rule": said.rule,
            "policy": policy.label,
            "reason": said.reason,
            "match_asset": said.match.asset_id if said.match else None,
            "match_key": said.match.key if said.match else None,
            "score": said.match.score if said.match else None,
            "tier": said.match.tier if said.match else None,
            "alerts": [alert.id for alert in alerts],
            "by": f"policy {policy.label}",
            "channel": channel,
            "detail": json.dumps(
                {"tags": dict(tags), "metadata": dict(metadata), "name": name} if asked else {}
            ),
            "analysis": json.dumps(analysis_json(analysis, settings)) if asked else None,
        }
        record = _record(catalog, row)
    return Admission(
        record, said.action.value, key, entered, said.rule, said.reason, said.match, checked, alerts
    )


def decide(
    policy: IngestPolicy,
    found: Sequence[Finding],
    allowed: Mapping[str, frozenset[str]],
    alerts: Sequence[Alert],
    shots: Mapping[str, str] = _NONE,
) -> AdmissionDecision:
    """What a policy says: the first rule that a match satisfies, unless the blocklist is stricter.

    An upload that was taken at another time than its match is another shot of the same: where the
    policy would keep it out, link it or put it in the other's place, a person is asked.

    Args:
        policy: the policy.
        found: the matches, the best first.
        allowed: rule's name to the assets its filter selects; rules without a filter are missing.
        alerts: of the blocklist.
        shots: asset id to how far apart the two were taken, of assets that are another shot.
    """
    said = AdmissionDecision(
        Admit.ADD, "", "matches nothing" if not found else "no rule applies", None
    )
    for rule in policy.ingest.rules:
        match = next(
            (
                one
                for one in found
                if Tier(one.tier) in rule.tier
                and (rule.name not in allowed or one.asset_id in allowed[rule.name])
            ),
            None,
        )
        if match:
            words = f"{match.tier} {match.score:.2f}, {match.changes or match.relation}"
            reason = f"matches {match.key!r} ({words}); rule {rule.name!r}: {rule.action.value}"
            action = rule.action
            if match.asset_id in shots and action is not Admit.ADD:
                action = Admit.ASK
                reason += f"; taken {shots[match.asset_id]} apart: another shot?"
            said = AdmissionDecision(action, rule.name, reason, match)
            break
    for alert in sorted(alerts, key=lambda one: not one.certain):
        action = policy.ingest.blocked if alert.certain else policy.ingest.resembling
        if _strictness(action) > _strictness(said.action):
            said = AdmissionDecision(action, alert.rule, alert.as_text(), None)
    return said


def _compared(said: AdmissionDecision, checker: Checker, analysis: Analysis) -> AdmissionDecision:
    """The decision, or a question where it would act on originals that nobody compared."""
    if said.match is None or said.action not in _ACTING:
        return said
    why = checker.why_not_compared(analysis, said.match)
    if not why:
        return said
    return replace(said, action=Admit.ASK, reason=f"{said.reason}; {why}: are they the same?")


def other_shots(catalog: Catalog, analysis: Analysis, found: Sequence[Finding]) -> dict[str, str]:
    """Asset id to how far apart, in words, of matches that EXIF says are other shots."""
    own = time_taken(analysis.picture.exif)
    others = [one for one in found if one.content != analysis.picture.content]
    if not own or not others:
        return {}
    names = ", ".join(quote(one.asset_id) for one in others)
    rows = catalog.read("assets", ["asset_id", "exif"], f"asset_id IN ({names})")
    shots = {}
    for asset, exif in rows.iter_rows():
        apart = taken_apart(own, time_taken(json.loads(exif or "{}")))
        if apart is not None:
            shots[asset] = in_words(apart)
    return shots


def list_questions(settings: Settings) -> pl.DataFrame:
    """The uploads that wait for an answer, the oldest first."""
    rows = read_admissions(settings)
    answered = rows["answer_to"].drop_nulls()
    return rows.filter(
        (pl.col("decision") == Admit.ASK.value) & ~pl.col("admission_id").is_in(answered.implode())
    )


def read_admissions(settings: Settings) -> pl.DataFrame:
    """Everything that was decided about uploads, in order."""
    return open_catalog(settings).read("admissions", _COLUMNS)


def answer(
    settings: Settings,
    question: str,
    word: Literal["add", "reject"],
    *,
    by: str,
    channel: str = "cli",
) -> str:
    """Settle a question; returns the id of the asset, or nothing where the upload stays out.

    Args:
        settings: with the catalog.
        question: its id, or how that begins.
        word: ``add`` or ``reject``.
        by: who says so.
        channel: where.

    Raises:
        CatalogError: when no open question, or several, begin so.
        AssetChangedError: when the object is no longer what was asked about.
    """
    if not by.strip():
        raise SettingsError("say who answers (--by NAME): it is kept with the answer")
    if word not in ("add", "reject"):
        raise SettingsError(f"{word!r:.40} is no answer: say add or reject")
    catalog = open_catalog(settings)
    with catalog.writing(settings.catalog.busy_seconds):
        waiting = list_questions(settings).filter(
            pl.col("admission_id").str.starts_with(question.strip())
        )
        if waiting.height != 1 or not question.strip():
            raise CatalogError(
                f"{waiting.height} open questions begin with {question!r}; `dam-dedup ingest list` "
                "shows them"
            )
        asked = waiting.row(0, named=True)
        where = f"admission_id = {quote(asked['admission_id'])}"
        kept = catalog.read("admissions", ["admission_id", "analysis", "detail"], where)
        entered = ""
        if word == "add" and not is_collection(asked["source"]):
            place = open_source(asked["source"], settings)
            entered = enter_object(
                settings, read_object(settings, place, asked["key"], sha256=asked["sha256"])
            )
        elif word == "add":
            document = json.loads(kept["analysis"][0])
            space = Space(**document["space"])  # the seal is over it
            given = json.loads(kept["detail"][0])
            entered = update_asset(
                settings,
                read_analysis(document, settings, space),
                asked["key"],
                source=asked["source"],
                **given,
            )
        copied = (
            "source",
            "key",
            "sha256",
            "content",
            "rule",
            "policy",
            "match_asset",
            "match_key",
            "score",
            "tier",
            "alerts",
        )
        row = {column: asked[column] for column in copied}
        _record(
            catalog,
            row
            | {
                "asset_id": entered,
                "decision": word,
                "reason": f"answered by {by.strip()}",
                "answer_to": asked["admission_id"],
                "by": " ".join(by.split()),
                "channel": channel,
                "detail": "{}",
            },
        )
    return entered


def _strictness(action: Admit) -> int:
    return {Admit.REJECT: 2, Admit.ASK: 1}.get(action, 0)


def _threshold(policy: IngestPolicy, settings: Settings) -> float:
    """Low enough for every tier that a rule asks about."""
    lowest = SIMILAR_SCORE if Tier.SIMILAR in policy.tiers else NEAR_SCORE
    return min(lowest, settings.match.threshold)


def _allowed(
    catalog: Catalog, policy: IngestPolicy, found: Sequence[Finding]
) -> dict[str, frozenset[str]]:
    """Rule's name to the found assets that its filter selects."""
    if not found:
        return {}
    listed = ", ".join(quote(one.asset_id) for one in found)
    return {
        rule.name: frozenset(
            catalog.read(
                "assets", ["asset_id"], f"asset_id IN ({listed}) AND {select_sql(rule.where)}"
            )["asset_id"]
        )
        for rule in policy.ingest.rules
        if rule.where.strip()
    }


def _record(catalog: Catalog, row: dict[str, Any]) -> str:
    sequence = time.time_ns()
    name = digest(str(row["source"]), str(row["key"]), str(row["sha256"]), str(sequence))
    full = row | {"admission_id": name, "sequence": sequence, "at": now()}
    catalog.upsert("admissions", pa_table([full], schema.ADMISSIONS))
    return name

"""Findings as the JSON that callers get."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np

from tasks.records import Checked, CheckQuestion, Finding


def checked_document(
    checked: Checked, question: CheckQuestion, fields: Sequence[str] = ()
) -> dict[str, Any]:
    """One page of findings, with the offset of the next page."""
    end = question.offset + len(checked.found)
    return {
        "total": checked.total,
        "offset": question.offset,
        "next": end if end < checked.total and checked.found else None,
        "threshold": question.threshold,
        "mode": checked.mode,
        "candidates": checked.candidates,
        "verified": checked.verified,
        "silenced": checked.silenced,
        "space": checked.space.id,
        "found": [finding_document(one, fields) for one in checked.found],
    }


def finding_document(finding: Finding, fields: Sequence[str] = ()) -> dict[str, Any]:
    """A finding with its facts beside it; with ``fields``, only these."""
    try:
        evidence = json.loads(finding.evidence) if finding.evidence else None
    except ValueError:
        evidence = finding.evidence
    whole = {
        **{str(name): as_json(value) for name, value in finding.facts.items()},
        "asset_id": finding.asset_id,
        "key": finding.key,
        "source": finding.source,
        "score": as_json(finding.score),
        "tier": str(finding.tier),
        "content": finding.content,
        "relation": finding.relation,
        "evidence": as_json(evidence),
        "changes": finding.changes,
        "verdict": finding.verdict,
    }
    return {name: whole.get(name) for name in fields} if fields else whole


def as_json(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are not finite are null, times are ISO 8601."""
    match value:
        case np.generic():
            return as_json(value.item())
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case datetime() | date():
            return value.isoformat()
        case Mapping():
            return {str(name): as_json(one) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [as_json(one) for one in value]
    return str(value)

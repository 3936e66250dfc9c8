"""What became of the keys that a bucket said had changed."""

from __future__ import annotations

from typing import Any

from reports.run import code
from reports.words import counted
from tasks.intake.bucket_events import Followed

_TOP = 20


def followed_data(done: Followed) -> dict[str, Any]:
    """As plain data, for JSON."""
    return {
        "found": [
            {
                "key": one.key,
                "asset_id": one.asset_id,
                "matches": one.checked.total,
                "listed": [
                    {
                        "key": match.key,
                        "score": match.score,
                        "tier": match.tier,
                        "changes": match.changes,
                        "verdict": match.verdict,
                    }
                    for match in one.checked.found
                ],
                "alerts": [alert.as_text() for alert in one.alerts],
            }
            for one in done.found
        ],
        "removed": list(done.removed),
        "unreadable": done.unreadable,
        "failed": done.failed,
        "refused": done.refused,
        "passed_over": done.passed_over,
    }


def followed_markdown(done: Followed) -> str:
    """For the run page."""
    matching = [one for one in done.found if one.checked.total]
    lines = [
        f"## {counted(len(done.found), 'image')} checked, {len(matching)} with matches, "
        f"{len(done.removed)} removed",
        "",
    ]
    for one in matching[:_TOP]:
        best = one.checked.found[0]
        lines.append(
            f"- {code(one.key)}: {counted(one.checked.total, 'match', 'matches')}, the best "
            f"{code(best.key)} ({best.tier}, {best.score:.2f}, {code(best.changes)})"
        )
    lines += [f"- alert: {code(alert.as_text())}" for one in done.found for alert in one.alerts]
    lines += [f"- {code(key)}: {code(why)}" for key, why in (done.unreadable | done.failed).items()]
    lines += [f"- refused: {n} of bucket {code(name)}" for name, n in done.refused.items()]
    lines += [f"- passed over: {n} {why}" for why, n in done.passed_over.items()]
    return "\n".join(lines)

"""Lifecycle rules of a bucket: a keeper that one of them removes is none."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.records import ObjectState


def ask_about_expiry(keeper: ObjectState, duplicates: Sequence[ObjectState]) -> list[str]:
    """A question, where a lifecycle rule removes the keeper before one of its duplicates.

    Args:
        keeper: as it is in the bucket.
        duplicates: those that would leave.
    """
    outliving = [one.key for one in duplicates if not one.expires or one.expires > keeper.expires]
    if not keeper.expires or not outliving:
        return []
    return [
        f"a lifecycle rule of the bucket removes the keeper {keeper.key} on {keeper.expires}, and "
        f"{outliving[0]} later or never: is it the right keeper?"
    ]


def why_expiring(planned: ObjectState | None, found: ObjectState) -> str:
    """Why nothing may leave for a keeper which a lifecycle rule removes, unseen by the plan.

    A rule may be new, or be for a tag that the keeper took over from a duplicate.
    """
    if not found.expires or (planned is not None and planned.expires):
        return ""
    return f"a lifecycle rule of the bucket removes it on {found.expires}"

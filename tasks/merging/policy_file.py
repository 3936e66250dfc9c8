"""The policy file, read and checked."""

from __future__ import annotations

from pathlib import Path

from tasks.catalog.filters import render_filter
from tasks.errors import FilterError, PolicyError
from tasks.merging.rules.ingest_policy import filters
from tasks.merging.rules.policy import Policy, load_policy
from tasks.settings import Settings


def read_policy(path: Path) -> Policy:
    """A policy file, its filters checked as well.

    Raises:
        PolicyError: naming file, line and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"cannot read the policy {path}: {error}") from error
    policy = load_policy(text, str(path))
    check_filters(policy)
    return policy


def why_lapsed(settings: Settings, planned_by: str) -> str:
    """Why a rule's own approval does not hold any more: its policy says something else by now.

    Nobody but the rule has looked at such a group. A policy of another name is not the one that
    was changed, and says nothing of it.

    Args:
        settings: with the policy that is in force, if there is one.
        planned_by: name and version hash of the policy that the plan was made by.

    Returns:
        Nothing while it holds.

    Raises:
        PolicyError: when the policy in force cannot be read.
    """
    if settings.merge.policy is None:
        return ""
    policy = read_policy(settings.merge.policy)
    name, _, version = planned_by.rpartition(" ")
    if policy.name != name or policy.version_hash == version:
        return ""
    return (
        f"a rule of the policy {name} approved it by itself, and the policy was changed since: "
        "plan again"
    )


def check_filters(policy: Policy) -> None:
    """Check the filters of a policy's rules.

    Raises:
        PolicyError: naming the rule and what is wrong.
    """
    for rule in policy.rules:
        try:
            render_filter(rule.where)
        except FilterError as error:
            raise PolicyError(f"rule {rule.name}: where: {error}") from error
    for place, where in filters(policy.ingest, policy.alerts):
        try:
            render_filter(where)
        except FilterError as error:
            raise PolicyError(f"{place}: where: {error}") from error

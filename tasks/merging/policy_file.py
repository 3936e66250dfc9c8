"""The policy file, read and checked."""

from __future__ import annotations

from pathlib import Path

from tasks.catalog.filters import render_filter
from tasks.errors import FilterError, PolicyError
from tasks.merging.rules.ingest_policy import filters
from tasks.merging.rules.policy import Policy, load_policy


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

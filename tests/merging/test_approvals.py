"""Signed links: what they say comes back as it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.merging.approvals import Claim, _bits
from tasks.merging.rules.plans import PLAN_FORM, Action, Plan, PlannedGroup
from tasks.records import Tier, digest, now


def plan_of(number: int) -> Plan:
    groups = tuple(
        PlannedGroup(
            group_id=digest(str(n)),
            fingerprint=str(n),
            tier=Tier.NEAR,
            score=0.9,
            rule="all",
            action=Action.REPORT,
            keeper="k",
            duplicates=("d",),
            reasons=(),
            fields=(),
            questions=(),
            refused="",
            bytes=1,
            approvers=(),
            automatic=False,
            operations=(),
            states=(),
        )
        for n in range(number)
    )
    return Plan(
        form=PLAN_FORM,
        source="s",
        scan_id="x",
        scope="s",
        policy="p",
        caps={},
        quarantine_days=1,
        assets=1,
        groups=groups,
    )


@given(st.data(), st.integers(0, 70))
def test_a_scope_names_exactly_its_groups(data, number):
    plan = plan_of(number)
    ids = [group.group_id for group in plan.groups]
    chosen = data.draw(st.sets(st.sampled_from(ids)) if ids else st.just(set()))
    claim = Claim(plan.id, plan.hash, "anna", now(), _bits(plan, chosen | {"of another plan"}))
    assert claim.groups(plan) == chosen


@given(st.binary(max_size=20), st.integers(0, 20))
def test_whatever_a_scope_holds_it_names_groups_of_the_plan(scope, number):
    plan = plan_of(number)
    groups = Claim(plan.id, plan.hash, "anna", now(), scope).groups(plan)
    assert groups <= {group.group_id for group in plan.groups}

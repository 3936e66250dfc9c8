"""What a merge run says of itself: what failed, and what did nothing, does not look fine."""

from __future__ import annotations

import pytest

from flows.merge import refuse_nothing_done
from reports.merge import merge_headline, merge_markdown, undo_headline, undo_markdown
from tasks.errors import MergeError
from tasks.merging.merge import GroupOutcome, MergeOutcome
from tasks.merging.undo import UndoOutcome


def outcome(*states: str, dry_run: bool = False) -> MergeOutcome:
    groups = tuple(
        GroupOutcome(f"{at:032x}", f"k{at}.jpg", "quarantine", state, 2, 1500, "" if at else "why")
        for at, state in enumerate(states)
    )
    return MergeOutcome("a1b2", "run", dry_run, groups)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((), "NOTHING WAS MERGED: no group of the plan was approved and not yet done"),
        (("merged", "merged"), "2 merged, 3.0 kB moved"),
        (("already merged",), "1 already merged"),
        (
            ("merged", "failed", "refused"),
            "NOT DONE: 2 of 3 groups could not be merged (1 failed, 1 merged, 1 refused)",
        ),
    ],
)
def test_a_merge_says_first_what_went_wrong(states, said):
    assert merge_headline(outcome(*states)) == said
    assert merge_markdown(outcome(*states)).startswith(f"**{said}.**")


def test_groups_that_failed_come_first_in_the_table():
    text = merge_markdown(outcome("merged", "merged", "failed"))
    assert text.index("k2.jpg") < text.index("k0.jpg")
    assert "dry run: nothing was written" in merge_markdown(outcome("would merge", dry_run=True))


def test_an_undo_that_did_nothing_or_left_something_says_so():
    one = UndoOutcome("op", "copy", "a.jpg", "undone")
    left = UndoOutcome("op", "copy", "b.jpg", "left", "it changed since")
    assert undo_headline([]) == "NOTHING WAS UNDONE: nothing of it is merged"
    assert undo_headline([one]) == "1 undone"
    assert undo_markdown([one, left]).startswith("**NOT ALL UNDONE: 1 left, 1 undone.**")


@pytest.mark.parametrize(
    ("states", "fails"),
    [
        (("failed", "refused"), True),
        (("failed", "waiting"), True),
        (("merged", "failed"), False),
        (("already merged", "refused"), False),
        (("waiting",), False),
        ((), False),
    ],
)
def test_a_run_in_which_nothing_could_be_merged_fails(states, fails):
    done = [outcome(*states)]
    if not fails:
        refuse_nothing_done(done)
        return
    with pytest.raises(MergeError, match="nothing was merged"):
        refuse_nothing_done(done)

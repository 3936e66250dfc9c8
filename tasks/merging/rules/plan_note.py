"""What a merge plan says of a scan's groups, in the words of a report."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class GroupNote:
    """What a merge plan says of one group.

    Attributes:
        action: the policy's word: ``quarantine``, ``delete``, ``tag`` ...; ``report``: nothing.
        acting: whether anything would be done.
        files: how many objects would leave their place.
        bytes: size of these.
        questions: what a person has to decide.
        refused: why nothing may be done, or nothing.
        approved: whether the policy approved it by itself.
        approvers: who may decide; empty: anybody.
    """

    action: str
    acting: bool
    files: int
    bytes: int
    questions: tuple[str, ...] = ()
    refused: str = ""
    approved: bool = False
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanNote:
    """A merge plan in the words of a report.

    Attributes:
        acting: groups that would be acted on.
        asking: of these, how many have open questions.
        refused: groups that may not be merged.
        approved: groups that the policy approved by itself.
        bytes: size of what would leave.
        form: link to the Prefect UI's form, filled in but for the decision.
        pages: reviewer to the link of the signed page.
        policy: name and version of the policy.
        groups: group id to what is planned for it.
    """

    id: str
    acting: int
    asking: int
    refused: int
    approved: int
    bytes: int
    form: str | None = None
    pages: dict[str, str] = field(default_factory=dict)
    policy: str = ""
    groups: dict[str, GroupNote] = field(default_factory=dict, repr=False)

"""From a decision about a group to the operations that carry it out: one function an action.

What the duplicates know goes to the keeper first; only then is anything moved or removed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from tasks.errors import MergeError
from tasks.merging.rules.metadata import MetadataMerge
from tasks.merging.rules.plans import Action, Member, Operation, OperationKind
from tasks.merging.rules.sidecar import EMPTY, MergedFile, link_sidecar, merge_sidecar
from tasks.merging.rules.voices import one_packet
from tasks.records import ObjectState, digest

#: Tags by which a duplicate names its keeper.
DUPLICATE_TAG, GROUP_TAG = "dam-dedup-duplicate-of", "dam-dedup-group"
#: S3 allows so many tags, and so many characters of a value.
_MOST_TAGS, _TAG_VALUE = 10, 256
#: S3 allows so many bytes in a key; stores that keep files allow so many between two slashes.
_KEY_BYTES, _SEGMENT_BYTES = 1024, 255
#: Suffix of a link record: what stands where a duplicate was.
LINK_SUFFIX = ".duplicate-of.json"


@dataclass(frozen=True, slots=True)
class Work:
    """One group to be acted on.

    Attributes:
        states: of every member, of every sidecar, and of what may be written, by key.
        sidecars: bytes of the sidecars there are, by key.
        own_sidecars: keys of sidecars that serve one member only, and may be written to for it.
        packets: what the sidecars say, by key: XMP as a decoder process read it.
        moving: keys of what belongs to a member and leaves with it, by the member's key.
        quarantine: prefix of this plan's quarantine.
    """

    group_id: str
    source: str
    keeper: Member
    duplicates: tuple[Member, ...]
    merge: MetadataMerge
    states: Mapping[str, ObjectState]
    sidecars: Mapping[str, bytes]
    own_sidecars: frozenset[str]
    quarantine: str
    packets: Mapping[str, str] = field(default_factory=dict)
    moving: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def plan_operations(action: Action, work: Work) -> tuple[Operation, ...]:
    """The operations of an action, in their order.

    Raises:
        MergeError: when the action cannot be done to this group; says why.
    """
    return tuple(_ACTIONS[action](work))


def sidecar_key(member: Member) -> str:
    """Where a member's sidecar is, or would be written."""
    return member.sidecar or f"{member.key}.xmp"


def sidecar_names(member: Member) -> tuple[str, ...]:
    """Its sidecars, and every name under which one could appear."""
    folder, slash, name = member.key.rpartition("/")
    stem = name.rpartition(".")[0] or name
    usual = (f"{member.key}.xmp", f"{folder}{slash}{stem}.xmp")
    return tuple(dict.fromkeys((*member.sidecars, *usual)))


def link_key(key: str) -> str:
    """Where the link record of a duplicate is written."""
    return key + LINK_SUFFIX


def _report(_: Work) -> list[Operation]:
    return []


def _tag(work: Work) -> list[Operation]:
    operations = []
    for member in work.duplicates:
        state = work.states[member.key]
        tags = state.tags | {
            DUPLICATE_TAG: _tag_value(work.keeper),
            GROUP_TAG: work.group_id,
        }
        if len(tags) > _MOST_TAGS:
            raise MergeError(
                f"{member.key!r} has {len(state.tags)} tags, and S3 allows {_MOST_TAGS}: remove "
                "two, or choose another action"
            )
        reason = f"a duplicate of {work.keeper.key}"
        if tags != state.tags:
            operations.append(
                Operation(
                    OperationKind.TAG, member.key, state, reason, tags=dict(sorted(tags.items()))
                )
            )
    return operations


def _link(work: Work) -> list[Operation]:
    original = (
        work.keeper.xmp.get("original_document_id") or f"urn:dam-dedup:{work.keeper.asset_id}"
    )
    operations: list[Operation] = []
    for member in work.duplicates:
        key = sidecar_key(member)
        if key in work.states and work.states[key].exists and key not in work.own_sidecars:
            raise MergeError(
                f"{key!r} is the sidecar of {member.key!r} and of another asset: no link is "
                "written into it"
            )
        old = work.sidecars.get(key)
        new = link_sidecar(old, work.keeper.key, original)
        operations += _put(work, key, old, new, f"derived from {work.keeper.key}")
    return operations


def _metadata(work: Work) -> list[Operation]:
    """What the duplicates know, to the keeper: tags, user metadata and sidecar."""
    state = work.states[work.keeper.key]
    # Names as the store gave them, where nothing about them changes.
    metadata = {**state.metadata}
    metadata |= {
        name: value
        for name, value in work.merge.metadata.items()
        if value != work.keeper.metadata.get(name)
    }
    tags = work.merge.tags
    operations: list[Operation] = []
    if metadata != state.metadata:
        if state.held:  # a new version would not be held, and could be destroyed
            raise MergeError(
                f"the keeper {state.key!r} is under {state.held}, and is not rewritten to take "
                "over the duplicates' user metadata"
            )
        operations.append(
            Operation(
                OperationKind.REWRITE,
                work.keeper.key,
                state,
                "takes over the duplicates' user metadata and tags",
                tags=tags,
                metadata=dict(sorted(metadata.items())),
            )
        )
    elif tags != state.tags:
        reason = "takes over the duplicates' tags"
        operations.append(Operation(OperationKind.TAG, work.keeper.key, state, reason, tags=tags))
    return operations + _gained(work)


def _gained(work: Work) -> list[Operation]:
    """What the duplicates' files and sidecars say, into the keeper's sidecar."""
    keeper = work.keeper
    key = sidecar_key(keeper)
    others: list[bytes] = []
    files: list[MergedFile] = []
    for member in work.duplicates:
        first, *further = [
            "" if name == key else work.packets.get(name, "") for name in (*member.sidecars, "")
        ]
        alike = member.sha256 and member.sha256 == keeper.sha256
        said = [one_packet([first, "" if alike else member.packet]), *further]
        others += [packet.encode() for packet in said if packet]
        if whole := one_packet(said):
            files.append(MergedFile(member.key, member.sha256, whole.encode()))
    gained = {
        name: value for name, value in work.merge.xmp.items() if value != keeper.xmp.get(name)
    }
    base = work.packets.get(key, "").encode() or None
    new = merge_sidecar(
        base,
        others,
        gained,
        withheld=work.merge.withheld,
        own=keeper.packet.encode() or None,
        files=files,
    )
    if new == (EMPTY if base is None else base):
        return []
    old = work.sidecars.get(key)
    return list(_put(work, key, old, new, "takes over what the duplicates say"))


def _quarantine(work: Work) -> list[Operation]:
    operations = _metadata(work)
    for member, key in _leaving(work):
        state = work.states[key]
        to = work.quarantine + key
        _check_key(to)
        reason = (
            f"a duplicate of {work.keeper.key}" if key == member.key else f"belongs to {member.key}"
        )
        operations.append(Operation(OperationKind.COPY, key, state, reason, to=to))
        operations.append(Operation(OperationKind.DELETE, key, state, reason, to=to))
    return operations


def _replace(work: Work) -> list[Operation]:
    operations = _quarantine(work)
    for member in work.duplicates:
        record = {
            "duplicate_of": work.keeper.key,
            "source": work.source,
            "content": work.keeper.content,
            "moved_to": work.quarantine + member.key,
        }
        body = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False).encode()
        key = link_key(member.key)
        _check_key(key)
        if work.states[key].exists:
            raise MergeError(f"{key!r} exists: the link record of {member.key!r} cannot be written")
        operations += _put(work, key, None, body, f"stands for {member.key}", "application/json")
    return operations


def _delete(work: Work) -> list[Operation]:
    operations = _metadata(work)
    for member, key in _leaving(work):
        reason = (
            f"a duplicate of {work.keeper.key}" if key == member.key else f"belongs to {member.key}"
        )
        operations.append(Operation(OperationKind.DELETE, key, work.states[key], reason))
    return operations


_ACTIONS: dict[Action, Callable[[Work], list[Operation]]] = {
    Action.REPORT: _report,
    Action.TAG: _tag,
    Action.LINK: _link,
    Action.METADATA: _metadata,
    Action.QUARANTINE: _quarantine,
    Action.REPLACE: _replace,
    Action.DELETE: _delete,
}


def _leaving(work: Work) -> list[tuple[Member, str]]:
    """Every object that leaves: the duplicates, each after what belongs to it."""
    leaving: dict[str, Member] = {}
    for member in work.duplicates:
        for key in work.moving.get(member.key, ()):
            if work.states[key].held:
                raise MergeError(
                    f"{key!r} belongs to {member.key!r} and is under {work.states[key].held}: "
                    "it cannot leave with it"
                )
            leaving.setdefault(key, member)
        leaving[member.key] = member
    return [(member, key) for key, member in leaving.items()]


def _put(
    work: Work,
    key: str,
    old: bytes | None,
    new: bytes,
    reason: str,
    content_type: str = "application/rdf+xml",
) -> Sequence[Operation]:
    if old == new:
        return ()
    if work.states[key].held:
        raise MergeError(f"{key!r} is under {work.states[key].held}, and is not written over")
    return (
        Operation(
            OperationKind.PUT,
            key,
            work.states[key],
            reason,
            body=base64.b64encode(new).decode(),
            had=None if old is None else base64.b64encode(old).decode(),
            content_type=content_type,
        ),
    )


def _tag_value(keeper: Member) -> str:
    """The keeper's key in the few characters that S3 allows in a tag, else its asset id."""
    text = quote(keeper.key, safe="/ +-=._:@").replace("%", "=")
    return text if len(text) <= _TAG_VALUE else f"asset:{keeper.asset_id}"


def _check_key(key: str) -> None:
    data = key.encode()
    if len(data) > _KEY_BYTES or max(map(len, data.split(b"/"))) > _SEGMENT_BYTES:
        raise MergeError(
            f"the key {key[:80]!r}... would be longer than S3 allows: shorten the quarantine's "
            "prefix in the policy, or choose another action"
        )


def fingerprint(members: Sequence[Member]) -> str:
    """Names the exact members and their content, in any order."""
    return digest(*sorted(f"{member.asset_id} {member.content}" for member in members))

"""What the sidecars of a group's members say, as they are now; parsed in decoder processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.embedding.sidecar_facts import SidecarFacts
from tasks.errors import AssetChangedError, AssetGoneError, ImageError, MergeError
from tasks.merging.rules.plans import Member
from tasks.merging.rules.voices import one_packet, said_by
from tasks.queries.sidecars import SIDECAR_BYTES, parse_sidecar
from tasks.records import ObjectState
from tasks.settings import Settings
from tasks.sources.store import Store


def with_sidecars(member: Member, said: Mapping[str, SidecarFacts]) -> Member:
    """A member with all that its sidecars say: the first counts before its file, others beside."""
    found = {key: said_by(said[key].packet) for key in member.sidecars if key in said}
    first = found.get(member.sidecar or "")
    return replace(
        member,
        xmp=member.xmp | (first.fields if first else {}),
        more={key: one.fields for key, one in found.items() if key != member.sidecar},
        lists=member.lists.union(*(one.lists for one in found.values())),
    )


def read_sidecars(
    store: Store,
    settings: Settings,
    members: Sequence[Member],
    states: Mapping[str, ObjectState],
) -> tuple[dict[str, bytes], dict[str, SidecarFacts]]:
    """Bytes of the members' sidecars, and what a decoder process read in them.

    Raises:
        MergeError: when one cannot be read: what it says would be lost.
    """
    bodies: dict[str, bytes] = {}
    said: dict[str, SidecarFacts] = {}
    for key in sorted({key for member in members for key in member.sidecars}):
        if states[key].exists:
            bodies[key], said[key] = _read_sidecar(store, settings, states[key])
    return bodies, said


def _read_sidecar(
    store: Store, settings: Settings, state: ObjectState
) -> tuple[bytes, SidecarFacts]:
    key = state.key
    if state.size > SIDECAR_BYTES:
        raise MergeError(f"the sidecar {key!r} cannot be read: it is larger than 4 MiB")
    try:
        data = store.read(key, state.etag, SIDECAR_BYTES)
        return data, parse_sidecar(settings, key, data)
    except (AssetGoneError, AssetChangedError) as error:
        raise MergeError(f"{error}: scan again") from None
    except ImageError as error:
        raise MergeError(
            f"the sidecar {key!r} cannot be read: {error}; mend or remove it"
        ) from None


def with_thumbnails(
    store: Store,
    settings: Settings,
    members: Sequence[Member],
    moving: Mapping[str, Sequence[str]],
    states: Mapping[str, ObjectState],
) -> list[Member]:
    """The members with what their cameras' thumbnails (``.thm``) say of them, which leave.

    Args:
        store: the bucket.
        settings: what reading one may cost.
        members: of a group.
        moving: keys that leave with a member, by its key.
        states: of these keys.

    Raises:
        MergeError: when one cannot be read.
    """
    found = []
    for member in members:
        more, packets = dict(member.more), []
        for key in moving.get(member.key, ()):
            if key.lower().endswith(".thm") and states[key].exists:
                _, facts = _read_sidecar(store, settings, states[key])
                more[key] = said_by(facts.packet).fields
                packets.append(facts.packet)
        packet = one_packet([member.packet, *packets]) if packets else member.packet
        found.append(replace(member, more=more, packet=packet))
    return found

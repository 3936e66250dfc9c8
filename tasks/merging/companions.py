"""Files that belong to a picture (sidecars, a video, edits): which move with it, and which stay.

A name says what belongs together: ``IMG_8.MOV`` and ``IMG_8.AAE`` to ``IMG_8.HEIC``. Which files
share a name is read from the bucket, not from the catalog: a raw file that no scan looks at has its
sidecar all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.merging.rules.blocks import belongs_to, is_companion
from tasks.merging.rules.plans import Member
from tasks.records import ObjectState
from tasks.sources.store import Store


@dataclass(frozen=True, slots=True)
class Belongings:
    """What belongs to the duplicates of a group.

    Attributes:
        moving: keys that leave with a member, by its key.
        staying: keys that serve another file too.
        beside: keys of the keeper's own companions.
    """

    moving: dict[str, tuple[str, ...]] = field(default_factory=dict)
    staying: frozenset[str] = frozenset()
    beside: tuple[str, ...] = ()

    @property
    def all_moving(self) -> list[str]:
        """Every key that leaves with a member, once."""
        return sorted({key for keys in self.moving.values() for key in keys})


def find_belongings(
    store: Store,
    keeper: Member,
    duplicates: Sequence[Member],
    users: Mapping[str, Collection[str]],
) -> Belongings:
    """What leaves with the duplicates.

    Args:
        store: the bucket.
        keeper: what stays.
        duplicates: what would leave.
        users: of each sidecar, the keys of the assets that the catalog knows it is of.

    Raises:
        StoreRefusedError: when the bucket may not be listed.
    """
    gone = {member.key for member in duplicates}
    moving: dict[str, tuple[str, ...]] = {}
    staying: set[str] = set()
    for member in duplicates:
        stem = stem_of(member.key)
        listed = store.beside(stem)
        mine = {key for key in listed if belongs_to(key, member.key)} | set(member.sidecars)
        others = {
            key
            for key in listed
            if key not in gone and "." not in key[len(stem) + 1 :] and not is_companion(key)
        }
        kept = {
            key
            for key in mine
            if key != keeper.sidecar
            and not (others and not key.startswith(f"{member.key}."))
            and not set(users.get(key, ())) - gone
        }
        staying |= mine - kept
        moving[member.key] = tuple(sorted(kept))
    beside = [key for key in store.beside(stem_of(keeper.key)) if belongs_to(key, keeper.key)]
    return Belongings(moving, frozenset(staying), tuple(sorted(beside)))


def ask_about(
    belongings: Belongings, duplicates: Sequence[Member], states: Mapping[str, ObjectState]
) -> list[str]:
    """Questions about videos and edits that leave with a duplicate and that the keeper has not."""
    has = {(states[key].etag, states[key].size) for key in belongings.beside if key in states}
    questions, told = [], set[str]()
    for member in duplicates:
        keys = [
            key
            for key in belongings.moving.get(member.key, ())
            if not key.lower().endswith((".xmp", ".thm"))
            and (states[key].etag, states[key].size) not in has
            and key not in told
        ]
        told.update(keys)
        if keys:
            questions.append(
                f"{member.key} would leave, and with it what belongs to it and no other file "
                f"holds: {', '.join(keys)}: may it go?"
            )
    return questions


def stem_of(key: str) -> str:
    """A key without its last extension."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"

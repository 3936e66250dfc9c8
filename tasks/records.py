"""The nouns. Anything counted in millions is an Arrow table or a polars frame instead."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tasks.settings import Settings

if TYPE_CHECKING:  # decoder processes import this module: they should not pay for polars
    import numpy as np
    import numpy.typing as npt

#: Long side of stored thumbnails, and of what is compared.
THUMBNAIL_SIDE = 384


class Kind(StrEnum):
    """The one word in which scans differ: which assets are queried, is the index rebuilt."""

    INCREMENTAL = "incremental"
    FULL = "full"


class Tier(StrEnum):
    """How sure a match is (see docs/design.md, "Words")."""

    EXACT = "exact"
    NEAR = "near"
    SIMILAR = "similar"


class Role(StrEnum):
    """What an asset is in its duplicate group."""

    KEEPER = "keeper"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan: handed from stage to stage; the catalog carries the bulk.

    Attributes:
        scope: names the set of assets that are compared with one another: source and filter.
        across: filter of the other side; where there is one, only pairs between the assets of
            ``where`` and these are looked for.
    """

    id: str
    kind: Kind
    source: str
    where: str
    scope: str
    threshold: float
    dry_run: bool
    refresh_metadata: bool
    started: datetime
    settings: Settings = field(repr=False)
    across: str = ""


@dataclass(frozen=True, slots=True)
class SearchNote:
    """How the candidates of a scan were searched for, and what that found.

    Attributes:
        mode: exact, balanced or speed.
        recall: share of the exact nearest that the lists of a sample hold.
        best: share of the sample whose best hit is in its list.
        sample: contents drawn for it; 0: nothing was estimated.
        ranked: share of the contents that each is compared with.
        neighbours: length of a list.
    """

    mode: str
    recall: float = 1.0
    best: float = 1.0
    sample: int = 0
    ranked: float = 1.0
    neighbours: int = 0


#: Storage classes of S3 whose objects cannot be read before somebody restores them.
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")


@dataclass(frozen=True, slots=True)
class Listing:
    """One object as a listing shows it.

    Attributes:
        file: names what the key leads to, where several keys may lead to one file (links).
        linked: whether the key is a symbolic link to it.
        restored: whether it is in an archive, and can be read for the time being.
    """

    key: str
    etag: str
    size: int
    last_modified: datetime
    storage_class: str | None = None
    file: str | None = None
    linked: bool = False
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """What one small request tells of an object: its head bytes and its metadata.

    Attributes:
        tags: None where they may not be read, which is not the same as none.
    """

    head: bytes
    etag: str
    size: int
    last_modified: datetime
    version_id: str | None = None
    content_type: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] | None = field(default_factory=dict)
    storage_class: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object as a merge finds it, and as it must still be when the merge is applied.

    Attributes:
        etag: empty where there is no such object.
        metadata: user metadata as the store hands it out, undecoded.
        headers: what else a copy must keep: ContentType, CacheControl, StorageClass ...
        held: why it may not be removed (``legal hold``, ``retained until 2030-01-01``), or nothing.
        expires: the day (``2030-01-01``) on which a lifecycle rule of the bucket removes it, as far
            as the store tells; it says nothing of whether two states are equal, for the rule is not
            the object's.
    """

    key: str
    etag: str = ""
    size: int = 0
    version_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    held: str = ""
    expires: str = field(default="", compare=False)

    @property
    def exists(self) -> bool:
        """Whether there is such an object."""
        return bool(self.etag)


@dataclass(frozen=True, slots=True)
class Picture:
    """All that one read of an image gives.

    Attributes:
        sha256: of the bytes, hex.
        content: of the decoded, upright pixels, hex; equal pixels give equal content.
        phash: 64-bit perceptual hash.
        pixels: uint8 array (side, side, 3), RGB, the model's input.
        thumbnail: JPEG, longest side at most 384 px.
        features: compact local features of the thumbnail, where they were asked for.
        quality: JPEG quality as the IJG library counts it, of a JPEG.
        flags: what a careful merge must know (``flat``, ``tiny``, ``aspect``, ``multi_frame``).
        packet: all that the file says of its picture (EXIF, IPTC-IIM, XMP, texts), as one XMP
            packet; empty where it says nothing.
    """

    sha256: str
    content: str
    phash: int
    width: int
    height: int
    mode: str
    format: str
    thumbnail: bytes
    pixels: npt.NDArray[np.uint8]
    features: bytes = b""
    quality: int | None = None
    flags: tuple[str, ...] = ()
    exif: dict[str, str] = field(default_factory=dict)
    xmp: dict[str, str] = field(default_factory=dict)
    packet: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space; scores compare only inside one."""

    model: str
    revision: str
    preprocessing: str
    dim: int

    @property
    def id(self) -> str:
        """A short name for the space, the same on every machine."""
        return digest(self.model, self.revision, self.preprocessing, str(self.dim))


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that a scan, a check or an update needs to know of an image, without its bytes.

    Attributes:
        picture: without its pixels.
        vector: float16 (dim,), unit length.
        space: where the vector lives.
        size: bytes of the file.
        original: the file itself, where it is at hand; it never travels with an analysis.
    """

    picture: Picture
    vector: npt.NDArray[np.float16]
    space: Space
    size: int
    original: bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CheckQuestion:
    """What a check asks for besides the image.

    Attributes:
        source: what it is compared with; empty: the default source.
        where: SQL-style filter of what it is compared with.
        threshold: lowest score found; below 0.5 nothing is alike.
        limit: findings on one page.
        offset: findings before the page.
        exclude: asset ids or keys that are left out.
        mode: how neighbours are searched: auto, balanced, speed or exact.
    """

    source: str = ""
    where: str = ""
    threshold: float = 0.7
    limit: int = 10
    offset: int = 0
    exclude: tuple[str, ...] = ()
    mode: str = "auto"


@dataclass(frozen=True, slots=True)
class Finding:
    """One asset that the image was verified against and matches.

    Attributes:
        relation: ``equal bytes``, ``equal pixels`` or ``verified``.
        evidence: the measurements, JSON as the catalog keeps it; empty where there are none.
        changes: the evidence in words.
        verdict: a person's word on the pair: duplicate, linked or nothing; linked also where both
            come from one document.
        facts: width, height, size, format, last_modified, label, tags, metadata ...
    """

    asset_id: str
    key: str
    source: str
    score: float
    tier: str
    content: str
    relation: str
    evidence: str
    changes: str
    verdict: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        found: one page, highest score first, then by key.
        total: findings on all pages.
        candidates: contents that were worth a look.
        verified: of these, how many were looked at now; the others were known.
        silenced: findings that a person called distinct: counted, not listed.
        mode: the search that was used: exact, balanced or speed.
        space: where the neighbours were looked for.
    """

    found: tuple[Finding, ...]
    total: int
    candidates: int
    verified: int
    silenced: int
    mode: str
    space: Space


@dataclass(frozen=True, slots=True)
class Document:
    """Something to deliver."""

    name: str
    media_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a document went.

    Attributes:
        link: where a browser opens it.
        until: when the link ends at the latest; None: it does not.
        sooner: whether it may end before, with credentials of which nobody knows how long they
            last.
    """

    name: str
    place: str
    link: str | None = None
    until: datetime | None = None
    sooner: bool = False


def digest(*parts: str) -> str:
    """128-bit hex digest of a sequence of texts; ``("ab", "c")`` and ``("a", "bc")`` differ."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "big"))
        state.update(data)
    return state.hexdigest()


def asset_id(source: str, key: str) -> str:
    """The id of the asset at a key of a source."""
    return digest(source, key)


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def as_text(values: dict[str, Any]) -> dict[str, str]:
    """Values as text, for metadata that may hold anything."""
    return {str(key): str(value) for key, value in values.items() if value not in (None, "")}

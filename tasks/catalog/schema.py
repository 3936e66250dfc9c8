"""The catalog's tables, as Arrow schemas with a version.

A change of a table's name, columns or types raises the version and needs a migration (see
:mod:`tasks.catalog.migrations`); a new table needs neither, since tables are made when missing.

Keys carry Lance's primary-key metadata and no scalar index: that pair is what keeps two writers
from inserting the same key twice (docs/design.md, "Catalog"). Key columns must not be nullable.
"""

from __future__ import annotations

import pyarrow as pa

#: Raised whenever a schema below changes; stored in the ``about`` table.
SCHEMA_VERSION = 3

#: The one row that says what the catalog is. ``migrating_from`` and ``stage`` are set while a
#: migration is at work; ``release`` is the release that made the catalog or last migrated it.
ABOUT = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("schema_version", pa.int32()),
        pa.field("migrating_from", pa.int32()),
        pa.field("stage", pa.string()),
        pa.field("release", pa.string()),
    ]
)

_TIME = pa.timestamp("us", "UTC")


def _key(name: str) -> pa.Field:
    return pa.field(
        name, pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}
    )


#: What is kept of one object's listing and probe; written by sync.
ASSET_LISTING: list[pa.Field] = [
    _key("asset_id"),
    pa.field("source", pa.string()),
    pa.field("key", pa.string()),
    pa.field("prefix", pa.string()),
    pa.field("name", pa.string()),
    pa.field("extension", pa.string()),
    pa.field("etag", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("version_id", pa.string()),
    pa.field("last_modified", _TIME),
    pa.field("storage_class", pa.string()),
    pa.field("content_type", pa.string()),
    pa.field("format", pa.string()),
    pa.field("label", pa.string()),
    pa.field("tags", pa.json_()),
    pa.field("metadata", pa.json_()),
    pa.field("sidecars", pa.list_(pa.string())),
    pa.field("sidecar_xmp", pa.json_()),
    pa.field("revision", pa.string()),
    pa.field("skipped", pa.string()),
    pa.field("removed_at", _TIME),
]

#: What is kept of one read of the bytes; written by embed. ``read_revision`` says of which bytes.
ASSET_READING: list[pa.Field] = [
    pa.field("read_revision", pa.string()),
    pa.field("reader", pa.string()),
    pa.field("failed", pa.string()),
    pa.field("message", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("content", pa.string()),
    pa.field("phash", pa.uint64()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("mode", pa.string()),
    pa.field("quality", pa.int32()),
    pa.field("flags", pa.list_(pa.string())),
    pa.field("exif", pa.json_()),
    pa.field("xmp", pa.json_()),
]

ASSETS = pa.schema([*ASSET_LISTING, *ASSET_READING])
LISTING = pa.schema(ASSET_LISTING)
READING = pa.schema([ASSET_LISTING[0], *ASSET_READING])
STORAGE_CLASS = pa.schema([ASSET_LISTING[0], pa.field("storage_class", pa.string())])
TOMBSTONE = pa.schema([ASSET_LISTING[0], pa.field("removed_at", _TIME)])

THUMBNAILS = pa.schema([_key("content"), pa.field("jpeg", pa.large_binary())])

#: What a file says of its picture (EXIF, IPTC-IIM, XMP, texts) as one XMP packet, by the first half
#: of the file's SHA-256: for merges, which bring it to the keeper. A file that says nothing has an
#: empty packet; one that was read by a release before this table has no row.
PACKETS = pa.schema([_key("file"), pa.field("packet", pa.string())])
#: Of assets whose files nobody can read again, those of collections ``gate://``: the file as it was
#: handed in, or a JPEG of it, for the proof of what claims to be a copy. ``width`` and ``height``
#: are this picture's own, ``size`` its bytes.
RENDITIONS = pa.schema(
    [
        _key("content"),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("size", pa.int64()),
        pa.field("data", pa.large_binary()),
    ]
)
#: What a first look at a picture needs (:mod:`tasks.dedup.first_look`): ``data`` is at most 16 kB,
#: ``rule`` names how it was made. Features of another rule are made anew from the thumbnail.
FEATURES = pa.schema(
    [_key("content"), pa.field("rule", pa.string()), pa.field("data", pa.large_binary())]
)

SPACES = pa.schema(
    [
        _key("space"),
        pa.field("model", pa.string()),
        pa.field("revision", pa.string()),
        pa.field("preprocessing", pa.string()),
        pa.field("dim", pa.int32()),
    ]
)

#: What verification said of a pair of contents, refusals included: no scan asks twice. It knows
#: nothing of the embedding model, nor of names, places and copies.
PAIRS = pa.schema(
    [
        _key("pair_id"),
        pa.field("left", pa.string()),
        pa.field("right", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("evidence", pa.string()),
    ]
)

#: What two originals, compared at full size, said of a pair of contents (``proof_id`` is the pair's
#: id). ``verdict``: same, differs, unknown or unreadable; ``box``: around what differs most, as x0,
#: y0, x1, y1 in 0..1 of the right picture; ``excess``: how much, in units of the pair's own noise;
#: ``bytes``: of the two files that were read; ``verified_by``: the rule that found the fit.
PROOFS = pa.schema(
    [
        _key("proof_id"),
        pa.field("left", pa.string()),
        pa.field("right", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("verified_by", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("box", pa.list_(pa.float32())),
        pa.field("excess", pa.float32()),
        pa.field("bytes", pa.int64()),
        pa.field("message", pa.string()),
        pa.field("at", _TIME),
    ]
)

#: The nearest contents of a content among all of a scope. A content that has a list has been
#: compared with everything there.
NEIGHBOURS = pa.schema(
    [
        _key("list_id"),
        pa.field("scope", pa.string()),
        pa.field("content", pa.string()),
        pa.field("space", pa.string()),
        pa.field("k", pa.int32()),
        pa.field("names", pa.list_(pa.string())),
        pa.field("cosines", pa.list_(pa.float32())),
    ]
)

#: The centroids of a large scope's inverted lists (IVF), and what was measured of the neighbour
#: lists made with them. A scope with exact lists has none. ``trained_on``: contents in scope when
#: the centroids were made; ``centroids``: float32 (lists, dim); ``recall_at_1`` and the columns
#: after it as in ``searches``.
CENTROIDS = pa.schema(
    [
        _key("centroids_id"),
        pa.field("scope", pa.string()),
        pa.field("space", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("trained_on", pa.int64()),
        pa.field("centroids", pa.large_binary()),
        pa.field("recall", pa.float32()),
        pa.field("recall_at_1", pa.float32()),
        pa.field("sample_size", pa.int32()),
        pa.field("compared_share", pa.float32()),
        pa.field("list_length", pa.int32()),
    ]
)

#: The inverted lists that a content is compared with, by number, the nearest centroid's first.
ASSIGNMENTS = pa.schema(
    [
        _key("assignment_id"),
        pa.field("scope", pa.string()),
        pa.field("space", pa.string()),
        pa.field("content", pa.string()),
        pa.field("lists", pa.list_(pa.int32())),
    ]
)

#: How a scan searched for candidates, and what was measured of it: ``recall``, the share of the
#: exact nearest that the lists of a sample hold; ``recall_at_1``, the share of the sample whose
#: best hit is in its list; ``compared_share``, the share of the contents each is compared with.
SEARCHES = pa.schema(
    [
        _key("scan_id"),
        pa.field("mode", pa.string()),
        pa.field("recall", pa.float32()),
        pa.field("recall_at_1", pa.float32()),
        pa.field("sample_size", pa.int32()),
        pa.field("compared_share", pa.float32()),
        pa.field("list_length", pa.int32()),
    ]
)

#: Labelled samples: what a collection's thresholds are worth.
CALIBRATIONS = pa.schema(
    [
        _key("calibration_id"),
        pa.field("scope", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("made", _TIME),
        pa.field("labelled", pa.int32()),
        pa.field("result", pa.string()),
    ]
)

GROUPS = pa.schema(
    [
        _key("member_id"),
        pa.field("scan_id", pa.string()),
        pa.field("scope", pa.string()),
        pa.field("group_id", pa.string()),
        pa.field("asset_id", pa.string()),
        pa.field("role", pa.string()),
        pa.field("tier", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("state", pa.string()),
    ]
)

SCANS = pa.schema(
    [
        _key("scan_id"),
        pa.field("kind", pa.string()),
        pa.field("source", pa.string()),
        pa.field("where", pa.string()),
        pa.field("scope", pa.string()),
        pa.field("threshold", pa.float32()),
        pa.field("dry_run", pa.bool_()),
        pa.field("state", pa.string()),
        pa.field("started", _TIME),
        pa.field("finished", _TIME),
        pa.field("space", pa.string()),
        pa.field("counts", pa.string()),
    ]
)

#: The filter of the reference side, of scans across two filters.
CROSS_FILTERS = pa.schema([_key("scan_id"), pa.field("reference_filter", pa.string())])
#: What the report of a scan was made of: its numbers, the versions of the program and its rules and
#: what it says of the plan (``provenance``, JSON; ``plan_notes``, a note on each group, as packed
#: JSON), and the versions of the tables that hold the rest (``table_versions``, JSON).
REPORTS = pa.schema(
    [
        _key("scan_id"),
        pa.field("scope", pa.string()),
        pa.field("threshold", pa.float32()),
        pa.field("started", _TIME),
        pa.field("finished", _TIME),
        pa.field("totals", pa.string()),
        pa.field("provenance", pa.string()),
        pa.field("plan_notes", pa.large_binary()),
        pa.field("table_versions", pa.string()),
        pa.field("mailed", pa.bool_()),
    ]
)

#: Merge plans; ``body`` is the plan's canonical JSON, whose sha256 is ``hash``.
PLANS = pa.schema(
    [
        _key("plan_id"),
        pa.field("hash", pa.string()),
        pa.field("scan_id", pa.string()),
        pa.field("scope", pa.string()),
        pa.field("source", pa.string()),
        pa.field("policy", pa.string()),
        pa.field("made", _TIME),
        pa.field("groups", pa.int32()),
        pa.field("body", pa.large_string()),
    ]
)

#: What people and rules decided about a plan's groups; rows are only ever added.
DECISIONS = pa.schema(
    [
        _key("decision_id"),
        pa.field("plan_id", pa.string()),
        pa.field("hash", pa.string()),
        pa.field("scope", pa.string()),
        pa.field("group_id", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("by", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("comment", pa.string()),
        pa.field("at", _TIME),
    ]
)

#: What was done to the bucket, and before that: what was about to be. Rows are only ever added.
JOURNAL = pa.schema(
    [
        _key("event_id"),
        pa.field("sequence", pa.int64()),
        pa.field("run_id", pa.string()),
        pa.field("plan_id", pa.string()),
        pa.field("scope", pa.string()),
        pa.field("group_id", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("number", pa.int32()),
        pa.field("kind", pa.string()),
        pa.field("key", pa.string()),
        pa.field("event", pa.string()),
        pa.field("by", pa.string()),
        pa.field("at", _TIME),
        pa.field("bytes", pa.int64()),
        pa.field("detail", pa.string()),
    ]
)

#: A person's word on a pair of assets with the contents they had; rows are only ever added.
VERDICTS = pa.schema(
    [
        _key("verdict_id"),
        pa.field("sequence", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("left_asset", pa.string()),
        pa.field("right_asset", pa.string()),
        pa.field("left_key", pa.string()),
        pa.field("right_key", pa.string()),
        pa.field("left", pa.string()),
        pa.field("right", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("by", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("comment", pa.string()),
        pa.field("at", _TIME),
    ]
)

#: What became of every upload, and of every question that one raised; rows are only ever added.
#: ``answer_to`` is the row whose question this one settles; ``analysis`` is kept of questions.
ADMISSIONS = pa.schema(
    [
        _key("admission_id"),
        pa.field("sequence", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("key", pa.string()),
        pa.field("asset_id", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("content", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("policy", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("match_asset", pa.string()),
        pa.field("match_key", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("tier", pa.string()),
        pa.field("alerts", pa.list_(pa.string())),
        pa.field("answer_to", pa.string()),
        pa.field("by", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("at", _TIME),
        pa.field("detail", pa.string()),
        pa.field("analysis", pa.large_string()),
    ]
)

#: What must not come in, known by its hashes and vectors; neither pixels nor a thumbnail are kept.
#: ``featureless``: it shows too little for anything to resemble it.
BLOCKLIST = pa.schema(
    [
        _key("entry_id"),
        pa.field("sequence", pa.int64()),
        pa.field("name", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("content", pa.string()),
        pa.field("phash", pa.uint64()),
        pa.field("featureless", pa.bool_()),
        pa.field("reason", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("by", pa.string()),
        pa.field("at", _TIME),
        pa.field("removed_at", _TIME),
        pa.field("removed_by", pa.string()),
    ]
)
BLOCKLIST_REMOVAL = pa.schema(
    [BLOCKLIST.field("entry_id"), BLOCKLIST.field("removed_at"), BLOCKLIST.field("removed_by")]
)
BLOCKLIST_VECTORS = pa.schema(
    [
        _key("vector_id"),
        pa.field("entry_id", pa.string()),
        pa.field("space", pa.string()),
        pa.field("vector", pa.list_(pa.float16())),
    ]
)

#: What was found where it should not be; once for each content and what it is held against.
ALERTS = pa.schema(
    [
        _key("alert_id"),
        pa.field("sequence", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("entry_id", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("left_source", pa.string()),
        pa.field("left", pa.string()),
        pa.field("left_content", pa.string()),
        pa.field("right_source", pa.string()),
        pa.field("right", pa.string()),
        pa.field("right_content", pa.string()),
        pa.field("relation", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("evidence", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("scan_id", pa.string()),
        pa.field("at", _TIME),
    ]
)

#: Up to which blocklist entry a content was held against the list, or that it was held against the
#: other side of an alert's pair (``screened_against`` says which).
SCREENING_PROGRESS = pa.schema(
    [
        _key("progress_id"),
        pa.field("content", pa.string()),
        pa.field("screened_against", pa.string()),
        pa.field("up_to_entry", pa.int64()),
    ]
)

#: The last event of each key that was followed, and what the object was then.
LAST_EVENTS = pa.schema(
    [
        _key("asset_id"),
        pa.field("source", pa.string()),
        pa.field("key", pa.string()),
        pa.field("sequencer", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("at", _TIME),
    ]
)

TABLES: dict[str, pa.Schema] = {
    "assets": ASSETS,
    "thumbnails": THUMBNAILS,
    "packets": PACKETS,
    "renditions": RENDITIONS,
    "features": FEATURES,
    "spaces": SPACES,
    "pairs": PAIRS,
    "proofs": PROOFS,
    "neighbours": NEIGHBOURS,
    "centroids": CENTROIDS,
    "assignments": ASSIGNMENTS,
    "searches": SEARCHES,
    "calibrations": CALIBRATIONS,
    "groups": GROUPS,
    "scans": SCANS,
    "cross_filters": CROSS_FILTERS,
    "reports": REPORTS,
    "plans": PLANS,
    "decisions": DECISIONS,
    "journal": JOURNAL,
    "verdicts": VERDICTS,
    "admissions": ADMISSIONS,
    "blocklist": BLOCKLIST,
    "blocklist_vectors": BLOCKLIST_VECTORS,
    "alerts": ALERTS,
    "screening_progress": SCREENING_PROGRESS,
    "last_events": LAST_EVENTS,
}

#: Filter columns that get a scalar index. Never the key column (see above).
INDEXES: dict[str, dict[str, str]] = {
    "assets": {
        "key": "BTREE",
        "prefix": "BTREE",
        "size": "BTREE",
        "last_modified": "BTREE",
        "label": "BITMAP",
        "format": "BITMAP",
        "content": "BTREE",
    },
    "groups": {"scan_id": "BITMAP"},
    # A check asks for all that was ever said of one content.
    "pairs": {"left": "BTREE", "right": "BTREE"},
}


def embeddings(dim: int) -> pa.Schema:
    """Schema of one space's vectors: unit length, float16 (halves disk; products are fp32)."""
    return pa.schema([_key("content"), pa.field("vector", pa.list_(pa.float16(), dim))])


def key_of(schema: pa.Schema) -> str:
    """The name of a table's key column: always the first."""
    return str(schema.names[0])

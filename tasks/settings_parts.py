"""The parts of the settings: what may be set, its bounds, its default and what it is for."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode


def _split(value: Any) -> Any:
    """Accept ``a,b`` as well as ``["a", "b"]`` for a list."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return json.loads(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _expanded(value: Any) -> Any:
    """A path with its ``~`` and ``$NAME`` put in: all that use the setting then mean one place."""
    if not isinstance(value, str | Path) or "://" in str(value):
        return value
    text = os.path.expandvars(Path(value).expanduser()) if str(value) else str(value)
    if left := re.search(r"\$(\{\w+\}|[A-Za-z_]\w*)", text):
        raise ValueError(f"the variable {left[0]} in it is not set")
    return text


def _web_address(value: str | None) -> str | None:
    if value and not re.match(r"https?://[^/]", value):
        raise ValueError(f"it begins with no scheme; write http://{value} or https://{value}")
    return value


#: A folder, a file, or an address as s3://bucket/prefix.
Place = Annotated[str, BeforeValidator(_expanded)]
FilePath = Annotated[Path, BeforeValidator(_expanded)]
Words = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Pauses = Annotated[list[Annotated[int, Field(ge=0)]], NoDecode, BeforeValidator(_split)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class S3Settings(_Part):
    """How to reach S3."""

    endpoint_url: Annotated[str | None, AfterValidator(_web_address)] = Field(
        None, description="URL of an S3 server other than AWS"
    )
    region: str | None = Field(None, description="Region of the buckets; none: as AWS's tools say")
    path_style: bool = Field(
        False, description="Name the bucket in the path, not in the host name, as many servers want"
    )
    credentials_block: str | None = Field(
        None,
        description="Name of a Prefect Secret block that holds JSON with access_key_id and "
        "secret_access_key; none: the credentials that AWS's tools find",
    )
    access_key_id: SecretStr | None = Field(None, exclude=True, description="Set from the block")
    secret_access_key: SecretStr | None = Field(
        None, exclude=True, description="Set from the block"
    )
    session_token: SecretStr | None = Field(None, exclude=True, description="Set from the block")
    ca_bundle: FilePath | None = Field(
        None,
        description="File of the authorities (PEM) by which the S3 server's certificate is known, "
        "where it is none of the usual ones",
    )
    proxy: Annotated[str | None, AfterValidator(_web_address)] = Field(
        None,
        description="Address of a proxy for S3 alone; none: as HTTPS_PROXY and NO_PROXY say",
    )
    checksums: Literal["when_supported", "when_required"] | None = Field(
        None,
        description="when_required: no checksums but those that S3 insists on, for servers that "
        "refuse them; none: as AWS's tools are told",
    )
    request_payer: bool = Field(
        False, description="Pay for requests to buckets whose owner lets the requester pay"
    )
    connections: int = Field(16, ge=1, le=256, description="Most requests under way at once")
    timeout_seconds: float = Field(
        30, gt=0, description="Seconds without an answer after which a request is given up"
    )


class SourceSettings(_Part):
    """Which assets there are."""

    uri: Place | None = Field(
        None,
        description="What is scanned where nothing else is named: s3://bucket/prefix or a folder",
    )
    include: Words = Field(
        default_factory=list,
        description="Only keys that match one of these glob patterns, as photos/*.jpg; none: all",
    )
    exclude: Words = Field(
        default_factory=list, description="No keys that match one of these glob patterns"
    )
    label_keys: Words = Field(
        default_factory=lambda: ["label"],
        description="Tags whose value becomes the asset's label; then user metadata so named",
    )
    minimum_listing: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Refuse a listing that holds less than this share of the known assets: "
        "storage that answers in part must not look like a mass removal",
    )
    missing_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the images that the storage may fail to show in passing; a scan with "
        "more (and more than 3) tries them again, then ends as failed",
    )
    retry_pauses: Pauses = Field(
        default_factory=lambda: [30, 120, 600],
        description="Seconds to wait before each further try of such images",
    )


class LimitSettings(_Part):
    """What one image may cost. Beyond it the image is reported, and the scan goes on."""

    bytes: int = Field(256 * 1024**2, gt=0, description="Largest file that is read, in bytes")
    pixels: int = Field(120_000_000, gt=0, description="Most pixels of an image that is decoded")
    side: int = Field(60_000, gt=0, description="Longest side of an image, in pixels")
    jpeg_scans: int = Field(
        100, gt=0, description="Most scans of a progressive JPEG; more is an attack on the decoder"
    )
    seconds: float = Field(20, gt=0, description="Longest time that decoding one image may take")
    memory_bytes: int = Field(
        2 * 1024**3, ge=512 * 1024**2, description="Most memory of one decoder process, in bytes"
    )
    inflight_bytes: int = Field(
        512 * 1024**2, gt=0, description="Most bytes of downloads held in memory at once"
    )


class EmbeddingSettings(_Part):
    """Which model turns pictures into vectors."""

    model: str = Field("bundled", description="'bundled', a Hugging Face id, or a local folder")
    revision: str | None = Field(
        None, description="Revision of a Hugging Face model: a branch, tag or commit; none: main"
    )
    pooling: Literal["auto", "cls", "mean", "gem", "pooler"] = Field(
        "auto", description="How the model's output becomes one vector; auto: as the model is made"
    )
    image_size: int | None = Field(
        None, ge=16, le=2048, description="Side of the model's input in pixels; none: the model's"
    )
    device: str = Field("auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the model; auto: the fastest that the device has"
    )
    batch_size: int = Field(
        32,
        ge=1,
        le=4096,
        description="Images given to the model at once; where it is not set, a GPU takes as many "
        "as its memory allows, 128 at most",
    )
    decoders: int | None = Field(
        None, ge=1, description="Processes that decode images; none: one a core"
    )


class MatchSettings(_Part):
    """When two assets are duplicates."""

    threshold: float = Field(
        0.7, ge=0.5, le=1, description="Lowest score of a pair that is reported as duplicates"
    )
    neighbours: int = Field(
        30, ge=1, le=200, description="Nearest images of each image that a scan verifies"
    )
    check_neighbours: int = Field(
        20, ge=1, le=200, description="The same in a check of one image, where somebody waits"
    )
    mode: Literal["auto", "exact", "balanced", "speed"] = Field(
        "auto",
        description="How the nearest images are searched for; auto: by the number of images",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="Processes that verify pairs, threads where there are few; none: one a core",
    )
    feature_cache_images: int = Field(
        4000,
        ge=100,
        description="Images whose local features are kept in memory during a scan, about 0.6 MB "
        "each",
    )
    block_rows: int = Field(
        2048, ge=16, le=65536, description="Vectors compared in one matrix product"
    )


class EngineSettings(_Part):
    """Where the shards of a scan run: reading, verification and proof."""

    kind: Literal["processes", "dask"] = Field(
        "processes", description="processes: of this machine; dask: the workers of a Dask scheduler"
    )
    address: str | None = Field(
        None, description="The Dask scheduler, as tcp://host:8786; for the kind dask"
    )
    gpu: bool = Field(
        False, description="Send shards only to Dask workers that offer the resource GPU"
    )
    wait_seconds: float = Field(
        300, gt=0, description="Seconds to wait while the scheduler has no worker at all"
    )

    @model_validator(mode="after")
    def _need_an_address(self) -> EngineSettings:
        if self.kind == "dask" and not self.address:
            raise ValueError("the kind dask needs an address, as tcp://host:8786")
        return self


class CatalogSettings(_Part):
    """Where the catalog is."""

    uri: Place = Field("var/catalog", description="A folder, or s3://bucket/prefix")
    busy_seconds: float = Field(
        300, ge=0, description="Seconds to wait while another process writes to the catalog"
    )
    scan_wait_seconds: float = Field(
        86_400, ge=0, description="Seconds to wait until another scan or merge has ended"
    )
    keep_days: float = Field(
        7,
        ge=1,
        le=3660,
        description="Days for which the report of a scan can be made again exactly as it was",
    )


class DeliverySettings(_Part):
    """Where documents go."""

    folder: FilePath | None = Field(
        Path("var/reports"), description="Folder that gets the documents of each scan"
    )
    bucket: str | None = Field(
        None, description="s3://bucket/prefix that gets the documents of each scan as well"
    )
    public_url: str | None = Field(
        None, description="Address at which people read the bucket's documents in a browser"
    )
    link_days: int = Field(
        7, ge=0, le=7, description="Days for which a presigned link opens a document; 0: no links"
    )
    page_groups: int = Field(
        500,
        ge=1,
        description="Groups with large pictures in report.html; later ones get small ones",
    )


def _address(text: str) -> str:
    """One mail address; it must not bring a header, nor a second address."""
    if not text.isprintable() or any(char in text for char in ',;<>"') or text != text.strip():
        raise ValueError(f"{text[:80]!r} is not one plain mail address, like anna@example.org")
    return text


def _sender(text: str) -> str:
    if not text.isprintable() or "@" not in text:
        raise ValueError(
            f"{text[:80]!r} is no sender, like dam@example.org or DAM <dam@example.org>"
        )
    return text


def _unsubscribe(text: str) -> str:
    if not re.fullmatch(r"(mailto:|https://)[!-;=?-~]+", text) or "," in text:
        raise ValueError(f"{text[:80]!r} must be one mailto: or https:// address")
    return text


Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[list[Address], NoDecode, BeforeValidator(_split)]
Unsubscribe = Annotated[
    list[Annotated[str, AfterValidator(_unsubscribe)]], NoDecode, BeforeValidator(_split)
]


class Share(_Part):
    """The part of the collection that one reviewer may decide on; both conditions must hold."""

    prefixes: tuple[str, ...] = Field((), description="Keys begin with one of these")
    where: str = Field("", max_length=4000, description="Filter, as of a scan")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """A text alone is a filter, a list alone are prefixes."""
        if isinstance(value, str):
            return {"where": value}
        return {"prefixes": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _says_something(self) -> Share:
        if not self.where.strip() and not any(self.prefixes):
            raise ValueError(
                "a reviewer needs a filter or prefixes; who may see all is in MAIL__TO"
            )
        return self


class MailSettings(_Part):
    """The summary mail; nobody gets one until ``to`` or ``reviewers`` names somebody."""

    host: str = Field("localhost", description="Mail server")
    port: int = Field(25, ge=1, le=65535, description="Port of the mail server")
    tls: Literal["none", "starttls", "tls"] = Field(
        "starttls", description="Encryption: none, starttls (often port 587) or tls (often 465)"
    )
    username: str | None = Field(None, description="Login at the mail server; none: no login")
    password: SecretStr | None = Field(None, description="Password of the login")
    sender: Annotated[str, AfterValidator(_sender)] = Field(
        "dam-dedup@localhost", description="Who mails come from: an address, or NAME <address>"
    )
    to: Addresses = Field(
        default_factory=list, description="The collection's owners: they get all groups"
    )
    reviewers: dict[Address, Share] = Field(
        default_factory=dict,
        description='Who decides on a part only, as JSON: {"anna@example.org": ["shoes/"], '
        '"ben@example.org": "tags.owner = \'ben\'"}: prefixes, or a filter',
    )
    when: Literal["news", "always", "digest"] = Field(
        "news",
        description="news: only when groups changed; digest: all news since the last mail, some "
        "hours apart; always: after every scan",
    )
    digest_hours: float = Field(
        24, ge=1, le=24 * 366, description="Hours between two digests, at least"
    )
    unsubscribe: Unsubscribe = Field(
        default_factory=list,
        description="mailto: and https:// addresses that mail programs offer for unsubscribing",
    )
    server_block: str | None = Field(
        None,
        description="Name of a Prefect EmailServerCredentials block (package prefect-email) that "
        "holds the mail server's data, for flow runs",
    )
    language: str = Field(
        "en",
        pattern="^[a-z]{2,3}$",
        description="Language of mails, report, form and the page of what was merged: en or de",
    )
    attempts: int = Field(
        3, ge=1, le=10, description="Times a mail is tried when the server fails in passing"
    )
    retry_seconds: float = Field(
        2, gt=0, description="Seconds before the second attempt; longer before later ones"
    )
    timeout_seconds: float = Field(
        30, gt=0, description="Seconds without an answer of the mail server until it has failed"
    )

    # Of the field, not of the whole: an error shows its input, and here is a password.
    @field_validator("reviewers")
    @classmethod
    def _one_role_each(cls, value: dict[str, Share], info: ValidationInfo) -> dict[str, Share]:
        both = sorted(set(info.data.get("to", ())) & set(value))
        if both:
            raise ValueError(f"{', '.join(both)}: in MAIL__TO too, who get everything; keep one")
        return value


class MergeSettings(_Part):
    """What is done with duplicates; without a policy they are only reported."""

    policy: FilePath | None = Field(
        None, description="Policy file (YAML): what is done with duplicates; none: only reported"
    )
    gate_url: str | None = Field(
        None, description="Address at which people reach the approval pages, as https://dam/gate"
    )
    secret: SecretStr | None = Field(
        None, description="Signs the links of approval pages; 32 characters or more"
    )
    link_days: int = Field(
        7, ge=1, le=60, description="Days for which a link to an approval page can be used"
    )
    cost_per_gb_month: float = Field(
        0.023, ge=0, description="What storage costs per GB and month, for the savings shown"
    )


class AlarmSettings(_Part):
    """When the operator is told that something is wrong, and how; `dam-dedup deploy` reads it."""

    to: Addresses = Field(
        default_factory=list, description="Mail addresses of the operators who are told of faults"
    )
    webhook: SecretStr | None = Field(
        None,
        description="Address that gets {'text': ...} for each fault, as Slack, Mattermost and "
        "others take it; $NAME: the address is in this variable",
    )
    # Prefect waits for what does not happen for 10 seconds at least, and refuses less.
    late_minutes: float = Field(
        60, ge=0.2, description="A run that has not begun so long after its time is told as late"
    )
    scan_hours: float = Field(
        48, ge=0.003, description="Hours without a finished scan after which that is told"
    )
    coverage: float = Field(
        0.95,
        ge=0,
        le=1,
        description="Share of the images that a scan must have read; below it that is told",
    )
    merge_days: float = Field(
        7, gt=0, description="Days that an approved merge may wait until that is told"
    )
    again_hours: float = Field(
        6, gt=0, description="Hours in which the same fault is told no second time"
    )


class GateSettings(_Part):
    """The HTTP service that is asked before an image is added."""

    secret: SecretStr | None = Field(
        None,
        description="Seals the analyses that clients keep, so that a changed one is refused; 32 "
        "characters or more",
    )
    api_keys: list[SecretStr] = Field(
        default_factory=list,
        description="Keys that clients show, as a JSON list of keys or of sha256:HEX of keys; "
        "none: only this machine may ask",
    )
    max_upload_bytes: int = Field(
        64 * 1024**2, gt=0, description="Most bytes of one request, and of one fetched image"
    )
    inflight_bytes: int = Field(
        512 * 1024**2, gt=0, description="Uploads held at once; beyond it callers get 429"
    )
    picture_bytes: int = Field(
        512 * 1024**2,
        ge=0,
        description="Most bytes of disk for pictures made for the light table of the review "
        "pages; 0: these pages show previews only",
    )
    rendition_side: int = Field(
        2048,
        ge=0,
        le=16_384,
        description="Longest side in pixels of the picture that is kept of each asset of a "
        "collection gate://, whose file is read only once: uploads are compared with it at this "
        "size before a policy acts on them; 0: none is kept, and a person is asked instead",
    )
    queue: int = Field(
        64, ge=1, le=10_000, description="Images, checks, updates that may wait; more get a 429"
    )
    workers: int | None = Field(
        None, ge=1, le=256, description="Threads that compare images; none: 4"
    )
    request_seconds: float = Field(60, gt=0, description="Seconds that one request may take in all")
    upload_seconds: float = Field(60, gt=0, description="Seconds that sending one request may take")
    header_seconds: float = Field(
        10, gt=0, description="Seconds that sending the header of one request may take"
    )
    connections: int = Field(
        512, ge=8, le=65_536, description="Connections at once; one more closes the oldest idle one"
    )
    page_rows: int = Field(1000, ge=1, le=100_000, description="Most results of one answer")
    allow_private_addresses: bool = Field(
        False, description="Fetch image URLs from private networks too"
    )
    url_seconds: float = Field(20, gt=0, description="Seconds that fetching an image URL may take")
    url_redirects: int = Field(
        3, ge=0, le=20, description="Redirects followed when an image URL is fetched"
    )


class MetricsSettings(_Part):
    """The numbers of scans, for Prometheus."""

    pushgateway: Annotated[str | None, AfterValidator(_web_address)] = Field(
        None,
        description="Address of a Prometheus Pushgateway that gets the numbers of each scan; none: "
        "they are sent nowhere",
    )
    job: str = Field(
        "dam_dedup", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="The job label of these numbers"
    )
    username: str | None = Field(None, description="Login at the Pushgateway; none: no login")
    password: SecretStr | None = Field(None, description="Password of the login")
    timeout_seconds: float = Field(
        10, gt=0, description="Seconds without an answer after which the numbers are not sent"
    )


class LogsSettings(_Part):
    """What is logged by the command line and the gate."""

    format: Literal["text", "json"] = Field(
        "text",
        description="text: lines for people; json: one JSON object a line, with the ids of scan "
        "and collection. Prefect's processes take it from deployments/logging.yaml",
    )

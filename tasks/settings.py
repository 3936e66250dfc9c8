"""Settings: one tree, read from ``DAM_DEDUP_...`` variables and ``.env``.

Nesting is written with two underscores: ``DAM_DEDUP_LIMITS__PIXELS=50000000``. Lists are
comma-separated or JSON. Credentials are not settings: they come from the standard AWS chain
(environment, profile, instance role) or from a Prefect Secret block named by
``DAM_DEDUP_S3__CREDENTIALS_BLOCK``, which is loaded at run time.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tasks.errors import SettingsError

PREFIX = "DAM_DEDUP_"
#: Variables with our prefix that are not settings: read by deployments or printed by the stack.
OTHER_VARIABLES = {"DAM_DEDUP_HOME", "DAM_DEDUP_STACK_MAIL_DIR"}
_ENV_FILE = ".env"


def _split(value: Any) -> Any:
    """Accept ``a,b`` as well as ``["a", "b"]`` for a list."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        return json.loads(text)
    return [part.strip() for part in text.split(",") if part.strip()]


Words = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class S3Settings(_Part):
    """How to reach S3."""

    endpoint_url: str | None = Field(None, description="A server other than AWS")
    region: str | None = None
    path_style: bool = Field(False, description="bucket in the path, not in the host name")
    credentials_block: str | None = Field(
        None, description="Prefect Secret block: JSON with access_key_id, secret_access_key"
    )
    access_key_id: SecretStr | None = Field(None, exclude=True, description="Set from the block")
    secret_access_key: SecretStr | None = Field(None, exclude=True)
    session_token: SecretStr | None = Field(None, exclude=True)
    connections: int = Field(16, ge=1, le=256)
    timeout_seconds: float = Field(30, gt=0)


class SourceSettings(_Part):
    """Which assets there are."""

    uri: str | None = Field(None, description="s3://bucket/prefix or a folder")
    include: Words = Field(default_factory=list, description="Glob patterns; empty means all")
    exclude: Words = Field(default_factory=list, description="Glob patterns")
    label_keys: Words = Field(
        default_factory=lambda: ["label"],
        description="Tags, then user metadata, whose value becomes the asset's label",
    )
    minimum_listing: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Refuse a listing that holds less than this share of the known assets",
    )


class LimitSettings(_Part):
    """What one image may cost. Beyond it the image is reported, and the scan goes on."""

    bytes: int = Field(256 * 1024**2, gt=0)
    pixels: int = Field(120_000_000, gt=0)
    side: int = Field(60_000, gt=0)
    jpeg_scans: int = Field(100, gt=0)
    seconds: float = Field(20, gt=0)
    memory_bytes: int = Field(2 * 1024**3, ge=512 * 1024**2)
    inflight_bytes: int = Field(512 * 1024**2, gt=0, description="Downloads held at once")


class EmbeddingSettings(_Part):
    """Which model turns pictures into vectors."""

    model: str = Field("bundled", description="'bundled', a Hugging Face id, or a local folder")
    revision: str | None = None
    pooling: Literal["auto", "cls", "mean", "gem", "pooler"] = "auto"
    image_size: int | None = Field(None, ge=16, le=2048)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = Field(32, ge=1, le=4096)
    decoders: int | None = Field(None, ge=1, description="Decoder processes; default: the cores")


class MatchSettings(_Part):
    """When two assets are duplicates."""

    threshold: float = Field(0.7, ge=0.5, le=1)
    neighbours: int = Field(
        30, ge=1, le=200, description="Nearest images of each image that a scan verifies"
    )
    check_neighbours: int = Field(
        20, ge=1, le=200, description="The same in a check of one image, where somebody waits"
    )
    mode: Literal["auto", "exact", "balanced", "speed"] = Field(
        "auto", description="How the nearest are searched for; auto: by the number of images"
    )
    workers: int | None = Field(
        None, ge=1, description="Threads that verify pairs; default: the cores"
    )
    features_held: int = Field(
        4000, ge=100, description="Images whose features are held at once, about 0.6 MB each"
    )
    block: int = Field(2048, ge=16, le=65536, description="Rows per matrix product")


class CatalogSettings(_Part):
    """Where the catalog is."""

    uri: str = Field("var/catalog", description="A folder, or s3://bucket/prefix")
    busy_seconds: float = Field(300, ge=0, description="How long to wait for another writer")
    turn_seconds: float = Field(86_400, ge=0, description="How long to wait for another scan")
    keep_days: float = Field(
        7, ge=1, le=3660, description="Reports of scans so old can be made again as they were"
    )


class DeliverySettings(_Part):
    """Where documents go."""

    folder: Path | None = Field(Path("var/reports"))
    bucket: str | None = Field(None, description="s3://bucket/prefix")
    public_url: str | None = Field(None, description="Where the bucket's reports can be read")
    link_days: int = Field(7, ge=0, le=7, description="Life of a presigned link; 0: none")
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

    host: str = "localhost"
    port: int = Field(25, ge=1, le=65535)
    tls: Literal["none", "starttls", "tls"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: Annotated[str, AfterValidator(_sender)] = "dam-dedup@localhost"
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
        description="news: only when groups changed; digest: the news since the last mail, "
        "DIGEST_HOURS apart; always: after every scan",
    )
    digest_hours: float = Field(24, ge=1, le=24 * 366, description="Between two digests")
    unsubscribe: Unsubscribe = Field(
        default_factory=list, description="mailto: and https:// addresses for List-Unsubscribe"
    )
    server_block: str | None = Field(
        None, description="EmailServerCredentials block (package prefect-email), in flow runs"
    )
    attempts: int = Field(3, ge=1, le=10, description="When the server fails in passing")
    retry_seconds: float = Field(2, gt=0, description="Before the second attempt; then longer")
    timeout_seconds: float = Field(30, gt=0)

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

    policy: Path | None = Field(None, description="Policy file (YAML)")
    gate_url: str | None = Field(None, description="Where approval pages are reached from outside")
    secret: SecretStr | None = Field(
        None, description="Signs approval links; 32 characters or more"
    )
    link_days: int = Field(7, ge=1, le=60, description="Life of an approval link")
    cost_per_gb_month: float = Field(0.023, ge=0, description="For the savings ledger")


class GateSettings(_Part):
    """The HTTP gate: check before you add."""

    secret: SecretStr | None = Field(
        None, description="Seals analysed JSON, so that a changed one is refused; 32 characters up"
    )
    api_keys: list[SecretStr] = Field(
        default_factory=list,
        description="JSON list of keys, or of sha256:HEX of keys; none: loopback addresses only",
    )
    max_upload_bytes: int = Field(64 * 1024**2, gt=0, description="Of one request, and of one URL")
    inflight_bytes: int = Field(
        512 * 1024**2, gt=0, description="Uploads held at once; beyond it callers get 429"
    )
    queue: int = Field(
        64, ge=1, le=10_000, description="Images, checks, updates that may wait; more get a 429"
    )
    workers: int | None = Field(None, ge=1, le=256, description="Threads that check; default: 4")
    request_seconds: float = Field(60, gt=0, description="What one request may take in all")
    upload_seconds: float = Field(60, gt=0, description="What sending a request may take")
    header_seconds: float = Field(10, gt=0, description="What sending a request's header may take")
    connections: int = Field(
        512, ge=8, le=65_536, description="At once; one more closes the oldest idle one"
    )
    page_rows: int = Field(1000, ge=1, le=100_000, description="Most results of one answer")
    allow_private_addresses: bool = Field(
        False, description="Fetch image URLs from private networks too"
    )
    url_seconds: float = Field(20, gt=0, description="What fetching an image URL may take")
    url_redirects: int = Field(3, ge=0, le=20, description="Followed when fetching an image URL")


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=_ENV_FILE,
        extra="ignore",
        frozen=True,
    )

    collection: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    source: SourceSettings = SourceSettings()
    s3: S3Settings = S3Settings()
    limits: LimitSettings = LimitSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    match: MatchSettings = MatchSettings()
    catalog: CatalogSettings = CatalogSettings()
    delivery: DeliverySettings = DeliverySettings()
    mail: MailSettings = MailSettings()
    merge: MergeSettings = MergeSettings()
    gate: GateSettings = GateSettings()


def variables() -> dict[str, str]:
    """Every settings variable with its description and default, for ``.env.example`` and errors."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            for inner, inner_field in part.model_fields.items():
                if inner_field.exclude:
                    continue
                default = inner_field.get_default(call_default_factory=True)
                shown = ",".join(default) if isinstance(default, list) else default
                shown = "none" if shown in (None, "", {}) else shown
                found[f"{PREFIX}{name}__{inner}".upper()] = (
                    f"{inner_field.description or ''} (default: {shown})".strip()
                )
        else:
            found[f"{PREFIX}{name}".upper()] = f"(default: {field.default})"
    return found


def _unknown_variables() -> list[str]:
    known = variables()
    complaints = []
    for name in {**dotenv_values(_ENV_FILE), **os.environ}:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in OTHER_VARIABLES or upper in known:
            continue
        if any(k.startswith(upper + "__") for k in known):  # a whole part as JSON
            continue
        complaints.append(_unknown(name))
    return complaints


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings.

    Args:
        **overrides: parts given by the caller, ``{"catalog": {"uri": "x"}}``; they win over the
            environment, which wins over ``.env``, and leave a part's other values alone.

    Raises:
        SettingsError: naming each wrong variable, its value and what is allowed.
    """
    complaints = _unknown_variables()
    complaints += [
        f"{name}: no such part" for name in overrides if name not in Settings.model_fields
    ]
    settings: Settings | None = None
    try:
        settings = Settings(**overrides)  # which merges parts
    except ValidationError as error:
        found = [_explain(detail) for detail in error.errors()]
        complaints += [complaint for complaint in found if complaint not in complaints]
    except ValueError as error:
        complaints.append(str(error))
    if complaints or settings is None:
        raise SettingsError("settings are wrong:\n  " + "\n  ".join(complaints))
    return settings


def _explain(detail: Any) -> str:
    where = "__".join(str(part) for part in detail["loc"] if not isinstance(part, int))
    name = f"{PREFIX}{where}".upper()
    if detail["type"] == "extra_forbidden":
        return _unknown(name)  # without the value: it may be a mistyped password
    return f"{name}={detail.get('input')!r}: {detail['msg']}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.upper(), variables(), n=1)
    return f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else "")

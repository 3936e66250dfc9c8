"""Settings: one tree, read from ``DAM_DEDUP_...`` variables and ``.env``.

Nesting is written with two underscores: ``DAM_DEDUP_LIMITS__PIXELS=50000000``. Lists are
comma-separated or JSON. Credentials are not settings: they come from the standard AWS chain
(environment, profile, instance role) or from a Prefect Secret block named by
``DAM_DEDUP_S3__CREDENTIALS_BLOCK``, which is loaded at run time.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.errors import SettingsError
from tasks.settings_parts import (
    AlarmSettings,
    CatalogSettings,
    DeliverySettings,
    EmbeddingSettings,
    EngineSettings,
    GateSettings,
    LimitSettings,
    LogsSettings,
    MailSettings,
    MatchSettings,
    MergeSettings,
    MetricsSettings,
    S3Settings,
    Share,
    SourceSettings,
)

__all__ = [
    "AlarmSettings",
    "CatalogSettings",
    "DeliverySettings",
    "EmbeddingSettings",
    "EngineSettings",
    "GateSettings",
    "LimitSettings",
    "LogsSettings",
    "MailSettings",
    "MatchSettings",
    "MergeSettings",
    "MetricsSettings",
    "S3Settings",
    "Settings",
    "Share",
    "SourceSettings",
    "load_settings",
    "title_of",
    "variables",
]

PREFIX = "DAM_DEDUP_"
#: Variables with our prefix that are not settings: read by deployments or printed by the stack.
OTHER_VARIABLES = {"DAM_DEDUP_HOME", "DAM_DEDUP_STACK_MAIL_DIR"}
#: Variables of the release before to what they are called now. They are read, with a warning,
#: until the next release.
RENAMED = {
    "DAM_DEDUP_MATCH__FEATURES_HELD": "DAM_DEDUP_MATCH__FEATURE_CACHE_IMAGES",
    "DAM_DEDUP_MATCH__BLOCK": "DAM_DEDUP_MATCH__BLOCK_ROWS",
    "DAM_DEDUP_CATALOG__TURN_SECONDS": "DAM_DEDUP_CATALOG__SCAN_WAIT_SECONDS",
}
ENV_FILE = ".env"


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        extra="ignore",
        frozen=True,
    )

    collection: str = Field(
        "default",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of the collection in reports and mails",
    )
    source: SourceSettings = SourceSettings()
    s3: S3Settings = S3Settings()
    limits: LimitSettings = LimitSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    match: MatchSettings = MatchSettings()
    engine: EngineSettings = EngineSettings()
    catalog: CatalogSettings = CatalogSettings()
    delivery: DeliverySettings = DeliverySettings()
    mail: MailSettings = MailSettings()
    merge: MergeSettings = MergeSettings()
    gate: GateSettings = GateSettings()
    alarms: AlarmSettings = AlarmSettings()
    metrics: MetricsSettings = MetricsSettings()
    logs: LogsSettings = LogsSettings()

    @property
    def title(self) -> str:
        """The collection's name for people, as deployments and runs carry it."""
        return title_of(self.collection)

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, parts: dict[str, Any]) -> dict[str, Any]:
        """Values under the names of the release before; where both are given, today's wins."""
        for old, new in RENAMED.items():
            part, _, field = old.removeprefix(PREFIX).lower().partition("__")
            values = parts.get(part)
            if isinstance(values, dict) and field in values:
                warnings.warn(
                    f"{old} is now called {new}; the old name goes with the next release",
                    FutureWarning,
                    stacklevel=2,
                )
                today = new.removeprefix(PREFIX).lower().partition("__")[2]
                kept = {name: value for name, value in values.items() if name != field}
                parts = {**parts, part: {today: values[field], **kept}}
        return parts


def title_of(collection: str) -> str:
    """A collection's name for people: ``product-shots`` is ``Product shots``."""
    words = " ".join(part for part in re.split(r"[-_]+", collection) if part) or collection
    return words[0].upper() + words[1:]


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
                shown = ",".join(map(str, default)) if isinstance(default, list) else default
                shown = "none" if shown in (None, "", {}) else shown
                found[f"{PREFIX}{name}__{inner}".upper()] = (
                    f"{inner_field.description} (default: {shown})"
                )
        else:
            found[f"{PREFIX}{name}".upper()] = f"{field.description} (default: {field.default})"
    return found


def _unknown_variables() -> list[str]:
    known = variables() | RENAMED
    complaints = []
    for name in {**dotenv_values(ENV_FILE), **os.environ}:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in OTHER_VARIABLES | known.keys():
            continue
        if any(k.startswith(upper + "__") for k in known):  # a whole part as JSON
            continue
        complaints.append(_unknown(name))
    return complaints


def _temporary_folder() -> list[str]:
    """What is wrong with ``TMPDIR``: the catalog's library uses it unseen and fails in mid-scan."""
    place = os.environ.get("TMPDIR", "")
    there = Path(place).is_dir()
    if not place or (there and os.access(place, os.W_OK | os.X_OK)):
        return []
    what = "a folder that may not be written to" if there else "not a folder"
    return [f"TMPDIR={place!r}: {what}; make one there, or unset the variable"]


def load_settings(**overrides: Any) -> Settings:
    """Read and check the settings.

    Args:
        **overrides: parts given by the caller, ``{"catalog": {"uri": "x"}}``; they win over the
            environment, which wins over ``.env``, and leave a part's other values alone.

    Raises:
        SettingsError: naming each wrong variable, its value and what is allowed; ``TMPDIR`` too,
            when it is no folder to write to.
    """
    complaints = [*_unknown_variables(), *_temporary_folder()]
    complaints += [
        f"{name}: no such part" for name in overrides if name not in Settings.model_fields
    ]
    settings: Settings | None = None
    try:
        settings = Settings(**overrides)  # which merges parts
    except ValidationError as error:
        found = [_setting_problem(detail) for detail in error.errors()]
        complaints += [complaint for complaint in found if complaint not in complaints]
    except ValueError as error:
        complaints.append(str(error))
    if complaints or settings is None:
        raise SettingsError("settings are wrong:\n  " + "\n  ".join(complaints))
    return settings


def _setting_problem(detail: Any) -> str:
    where = "__".join(str(part) for part in detail["loc"] if not isinstance(part, int))
    name = f"{PREFIX}{where}".upper()
    if detail["type"] == "extra_forbidden":
        return _unknown(name)  # without the value: it may be a mistyped password
    return f"{name}={detail.get('input')!r}: {detail['msg']}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.upper(), variables(), n=1)
    return f"{name}: no such setting" + (f"; did you mean {near[0]}?" if near else "")

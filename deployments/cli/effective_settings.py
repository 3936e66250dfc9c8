"""Which settings are in force, and where each value came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr

from tasks.settings import ENV_FILE, PREFIX, RENAMED, load_settings, variables


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting as it is in force.

    Attributes:
        name: its variable.
        value: as text; a secret is masked.
        origin: ``default``, ``environment`` or ``.env``, with the variable where it is another
            one: an old name, or one that holds a whole part as JSON.
    """

    name: str
    value: str
    origin: str

    def as_dict(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


def effective_settings() -> list[EffectiveSetting]:
    """All settings, in the order in which they are documented.

    Raises:
        SettingsError: when the settings are wrong.
    """
    found = load_settings()
    environment = {name.upper(): name for name in os.environ}
    file = {name.upper(): name for name in dotenv_values(ENV_FILE)}
    rows = []
    for name in variables():
        value: Any = found
        for part in name.removeprefix(PREFIX).lower().split("__"):
            value = getattr(value, part)
        rows.append(EffectiveSetting(name, _shown(value), _origin(name, environment, file)))
    return rows


def _origin(name: str, environment: Mapping[str, str], file: Mapping[str, str]) -> str:
    """The first place that sets a variable: by its name, an old name, or as part of a JSON."""
    others = [old for old, new in RENAMED.items() if new == name]
    part = name.rpartition("__")[0]
    for place, known in (("environment", environment), (ENV_FILE, file)):
        for candidate in (name, *others, part):
            if candidate in known:
                other = "" if candidate == name else f", as {known[candidate]}"
                return place + other
    return "default"


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "**********" if value.get_secret_value() else ""
    if isinstance(value, list | tuple):
        return ",".join(_shown(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(one)}" for key, one in value.items())
    if isinstance(value, Path | str | bool | int | float):
        return str(value)
    return "" if value is None else repr(value)

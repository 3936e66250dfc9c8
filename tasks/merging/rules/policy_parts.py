"""What every section of a policy file is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints


class Part(BaseModel):
    """A section: no key that is not known, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def listed(value: Any) -> Any:
    """Accept one text where a list of texts belongs."""
    return (value,) if isinstance(value, str) else value


def unique_names(names: Iterable[str], what: str = "rules") -> None:
    """Refuse a name that comes twice.

    Raises:
        ValueError: naming those that do.
    """
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise ValueError(f"two {what} are named {', '.join(map(repr, twice))}")


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(listed)]

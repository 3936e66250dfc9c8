"""What is wrong with a file, for the people who wrote it: line, key, words, a hint."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tasks.merging.rules.yaml_lines import Located, Path

#: Line, path, words.
Problem = tuple[int, Path, str]


def explain(error: ValidationError, found: Located, root: type[BaseModel]) -> list[Problem]:
    """Everything that is wrong with a document, what could not be read of it included.

    Args:
        error: what its validation as ``root`` raised.
        found: the document.
        root: the model of the whole document.
    """
    problems = list(found.problems)
    # What could not be read is None in the data: that validation misses it is no news.
    unread = {path for _, path, _ in problems if path}
    for detail in error.errors(include_url=False):
        path = _written(found.data, detail["loc"])
        # A list whose entries are all wrong is not empty: each entry says so itself.
        cascade = detail["type"] == "too_short" and detail.get("input")
        if path not in unread and not cascade:
            problems.append((found.line(path), path, _words(detail, root)))
    return problems


def shown_problems(problems: Iterable[Problem]) -> list[str]:
    """Each as ``LINE: key.path: words``, by line."""
    ordered = sorted(problems, key=lambda problem: problem[0])
    return [f"{line}: {_dotted(path)}{words}" for line, path, words in ordered]


def _written(data: Any, loc: Path) -> Path:
    """A place as it stands in the file, without what validation adds to it."""
    path: list[str | int] = []
    for part in loc:
        if isinstance(part, int) != isinstance(data, list):
            continue
        path.append(part)
        if isinstance(data, list):
            data = data[part] if isinstance(part, int) and part < len(data) else None
        else:
            data = data.get(part) if isinstance(data, dict) and isinstance(part, str) else None
    return tuple(path)


def _dotted(path: Path) -> str:
    """``rules[0].keeper[2]: ``; nothing for the file as a whole."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"{text.removeprefix('.')}: " if text else ""


def _words(detail: Any, root: type[BaseModel]) -> str:
    """What is wrong with one value, with a hint where there is one."""
    kind, loc, given = detail["type"], detail["loc"], detail.get("input")
    if kind == "extra_forbidden":
        known = [name for model in _models_at(root, loc[:-1]) for name in model.model_fields]
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        return f"no such key; {hint}"
    if kind == "missing":
        return "is missing"
    if given is None:
        return "nothing is given; leave the key out or give it a value"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "keys and values are expected here"
    if kind == "tuple_type":
        return f"{_shown(given)}: a list is expected"
    if kind == "too_short":
        return "the list is empty"
    message = re.sub(r"<[\w.]+: ('\w+')>", r"\1", str(detail["msg"]))  # members of an enum
    message = message.removeprefix("Value error, ")
    plain = not isinstance(given, dict | list | tuple | BaseModel)
    text = f"{_shown(given)}: {message}" if plain else message
    if kind in ("literal_error", "enum") and isinstance(given, str):
        expected = re.findall(r"'([^']+)'", detail["ctx"]["expected"])
        near = difflib.get_close_matches(given, expected, n=1)
        return text + (f"; did you mean {near[0]}?" if near else "")
    if kind == "string_type" and isinstance(given, bool | int | float):
        return text + "; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(given, str):
        return text + "; write it without quotes"
    return text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _models_at(root: type[BaseModel], loc: Path) -> list[type[BaseModel]]:
    """The model whose keys stand at a place."""
    models: list[type[BaseModel]] = [root]
    for part in loc:
        if isinstance(part, str):
            models = [
                inner
                for model in models
                if part in model.model_fields
                for inner in _models_in(model.model_fields[part].annotation)
            ]
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)

"""YAML as plain data, with the line of every key: for files whose errors people must find.

Only what a settings file needs: texts, numbers, yes and no, nothing, lists and mappings. Anchors
and aliases are refused (a few lines of them unfold to gigabytes), and so are tags, which would
make objects. Dates stay texts, since what reads them says which dates it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import yaml

#: Where in a document: names of keys and indexes into lists.
Path = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
_MAX_DEPTH = 20
_SHORT = "tag:yaml.org,2002:"
_SCALARS = {_SHORT + name for name in ("bool", "int", "float", "null")}
_TEXTS = {_SHORT + name for name in ("str", "timestamp", "merge", "value")}


@dataclass(frozen=True, slots=True)
class Located:
    """A document's data.

    Attributes:
        data: dicts, lists, str, int, float, bool and None; keys are always texts.
        lines: the line of every key and list entry, from 1.
        problems: what is wrong: line, path, words.
    """

    data: Any
    lines: dict[Path, int]
    problems: list[tuple[int, Path, str]] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest thing around it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_yaml(text: str) -> Located:
    """Read one YAML document.

    Problems, of which a broken document has exactly one, are in the result; nothing is raised.
    """
    found = Located(None, {})
    problem = _unreadable(text)
    if problem:
        found.problems.append((problem[0], (), problem[1]))
        return found
    node = yaml.compose(text, yaml.SafeLoader)
    if node is None:
        found.problems.append((1, (), "the file is empty"))
        return found
    found.lines[()] = node.start_mark.line + 1
    return Located(_plain(node, (), found), found.lines, found.problems)


def _unreadable(text: str) -> tuple[int, str] | None:
    """The line and the words of what forbids to read on, if anything does."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return 1, f"the file is larger than {MAX_BYTES // 1024} kB"
    try:
        depth = documents = 0
        # Events come one by one, before anything is built from them.
        for event in yaml.parse(text, yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                words = "anchors and aliases (&name, *name) are not allowed: write the value out"
                return line, words + _star(text, line)
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                return line, "no YAML file of one document: a second one begins"
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > _MAX_DEPTH:
                return line, f"nested more than {_MAX_DEPTH} levels deep"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        words = ", ".join(part for part in (error.context, error.problem) if part)
        alias = "alias" in (error.context or "")
        return line, f"no YAML: {words}" + (_star(text, line) if alias else "")
    except yaml.reader.ReaderError as error:
        where = error.position if isinstance(error.position, int) else 0
        shown = f"#x{error.character:04x}" if isinstance(error.character, int) else "bytes"
        return text.count("\n", 0, where) + 1, f"no YAML: character {shown} is not allowed"
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # "\UFFFFFFFF": no such character
        return 1, f"no YAML: {error}"
    return None


def _star(text: str, line: int) -> str:
    """A hint for ``field: *.rights``, which is the start of an alias to YAML."""
    lines = text.splitlines()
    starred = line <= len(lines) and "*" in lines[line - 1]
    return "; a text that begins with * needs quotes: '*.rights'" if starred else ""


def _plain(node: yaml.Node, path: Path, found: Located) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _SHORT + "map":
        return _mapping(node, path, found)
    if isinstance(node, yaml.SequenceNode) and node.tag == _SHORT + "seq":
        entries = []
        for index, entry in enumerate(node.value):
            found.lines[*path, index] = entry.start_mark.line + 1
            entries.append(_plain(entry, (*path, index), found))
        return entries
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, path, found)
    _complain(node, path, found, f"the tag {_shown(node.tag)} is not allowed")
    return None


def _mapping(node: yaml.MappingNode, path: Path, found: Located) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            _complain(key, path, found, "a key must be a word")
            continue
        name = key.value  # the word as written: "on" and "2026" are no yes and no number here
        here = (*path, name)
        if name in values:
            first = found.lines[here]
            _complain(key, here, found, f"is given twice, first on line {first}")
            continue
        found.lines[here] = key.start_mark.line + 1
        values[name] = _plain(value, here, found)
    return values


def _scalar(node: yaml.ScalarNode, path: Path, found: Located) -> Any:
    if node.tag in _TEXTS:
        if any(0xD800 <= ord(character) < 0xE000 for character in node.value):
            _complain(node, path, found, "half a character (a lone surrogate) is no text")
        return node.value
    if node.tag not in _SCALARS:
        _complain(node, path, found, f"the tag {_shown(node.tag)} is not allowed")
        return None
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError, KeyError, IndexError):
        _complain(node, path, found, f"{node.value[:40]!r} cannot be read")
        return None
    if isinstance(value, float) and not math.isfinite(value):
        _complain(node, path, found, f"{node.value!r} is no finite number")
    return value


def _complain(node: yaml.Node, path: Path, found: Located, words: str) -> None:
    found.problems.append((node.start_mark.line + 1, path, words))


def _shown(tag: str) -> str:
    return "!!" + tag.removeprefix(_SHORT) if tag.startswith(_SHORT) else tag

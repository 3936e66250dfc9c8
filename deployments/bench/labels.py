"""Labels as they come back, in a CSV file that any program may have written, and what they say."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.labelling import COLUMNS, VERDICTS
from tasks.dedup.estimate import (
    EDGES,
    ENOUGH,
    AtThreshold,
    Stratum,
    at_thresholds,
    labels_needed,
    recommend,
    stratum_name,
    stratum_of,
)
from tasks.errors import SettingsError

if TYPE_CHECKING:
    import polars as pl

_NAMES = [stratum_name(number) for number in range(len(EDGES) - 1)]
#: The columns that are read; keys are for people, and may have been escaped.
_READ = tuple(name for name in COLUMNS if name not in ("left", "right"))
_LARGEST = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Label:
    """One row of labels.csv; ``stratum`` is its number, ``verdict`` empty where none was given."""

    pair_id: str
    score: float
    stratum: int
    population: int
    verdict: str


def read_labels(path: Path) -> list[Label]:
    """The rows of a labels.csv.

    Raises:
        SettingsError: when a row is malformed; names the line and what is allowed.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise SettingsError(f"{path} is larger than {_LARGEST // 1024**2} MiB: no labels.csv")
        text = path.read_text("utf-8-sig")  # spreadsheet programs put a byte order mark first
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8; save it as CSV in UTF-8") from error
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    labels: list[Label] = []
    lines: dict[str, int] = {}
    populations: dict[int, int] = {}
    try:
        missing = [name for name in _READ if name not in (reader.fieldnames or [])]
        if missing:
            raise ValueError(
                f"no column {', '.join(missing)}; the first line must name, separated by commas: "
                + ", ".join(_READ)
            )
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"must have {len(reader.fieldnames or [])} cells")
            label = _label(row)
            if label.pair_id in lines:
                raise ValueError(f"the pair of line {lines[label.pair_id]} again; keep one of them")
            lines[label.pair_id] = reader.line_num
            if populations.setdefault(label.stratum, label.population) != label.population:
                raise ValueError(
                    f"population {label.population} where earlier rows of the stratum "
                    f"{_NAMES[label.stratum]} have {populations[label.stratum]}; do not mix samples"
                )
            labels.append(label)
    except (ValueError, csv.Error) as error:
        line = max(1, reader.reader.line_num)  # a DictReader is a row late with its own
        raise SettingsError(f"{path}, line {line}: {error}") from error
    for number, rows in Counter(label.stratum for label in labels).items():
        if rows > populations[number]:
            raise SettingsError(
                f"{path}: {rows} rows of the stratum {_NAMES[number]}, whose population is "
                f"{populations[number]}; do not mix samples"
            )
    return labels


def _label(row: dict[str, str]) -> Label:
    pair_id = row["pair_id"].strip()
    if not pair_id or len(pair_id) > 100:
        raise ValueError("pair_id must have 1 to 100 characters")
    verdict = row["verdict"].strip().lower()
    if verdict and verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict[:40]!r} must be {', '.join(VERDICTS)} or empty")
    if (name := row["stratum"].strip()) not in _NAMES:
        raise ValueError(f"stratum {name[:40]!r} must be one of {', '.join(_NAMES)}")
    stratum = _NAMES.index(name)
    try:
        score = float(row["score"])
    except ValueError:
        raise ValueError(f"score {row['score'][:40]!r} must be a number like 0.725") from None
    if not EDGES[stratum] <= score <= EDGES[stratum + 1] or stratum_of([score])[0] != stratum:
        raise ValueError(f"score {score} must lie in its stratum, {name}")
    population = row["population"].strip()
    if not (population.isascii() and population.isdigit() and 0 < int(population[:16]) < 10**15):
        raise ValueError(f"population {population[:40]!r} must be a whole number above 0")
    return Label(pair_id, score, stratum, int(population), verdict)


def strata_of(labels: list[Label], left_out: set[str]) -> list[Stratum]:
    """The strata with the verdicts that count.

    Args:
        labels: all rows.
        left_out: pairs whose verdicts do not count.
    """
    populations = {label.stratum: label.population for label in labels}
    said = Counter(
        (label.stratum, label.verdict) for label in labels if label.pair_id not in left_out
    )
    return [
        Stratum(
            EDGES[number],
            populations.get(number, 0),
            said[number, "duplicate"],
            said[number, "distinct"],
            said[number, "unsure"],
        )
        for number in range(len(EDGES) - 1)
    ]


def assess(rows: list[Label], pairs: pl.DataFrame) -> dict[str, Any]:
    """What the labels say, as it is kept and printed.

    A verdict counts while the last scan gives its pair the score that it was drawn with: another
    rule or model puts other pairs into the strata, and changed assets have other pairs.
    """
    known = dict(pairs.select("pair_id", "score").iter_rows())
    unknown = {row.pair_id for row in rows if abs(known.get(row.pair_id, -1.0) - row.score) > 1e-4}
    strata = strata_of(rows, unknown)
    found = at_thresholds(strata)
    return {
        "pairs": len(rows),
        "labelled": sum(stratum.labelled for stratum in strata),
        "duplicates": sum(stratum.duplicates for stratum in strata),
        "distinct": sum(stratum.distinct for stratum in strata),
        "unsure": sum(stratum.unsure for stratum in strata),
        "unlabelled": sum(not row.verdict and row.pair_id not in unknown for row in rows),
        "unknown": len(unknown),
        "thresholds": [asdict(at) for at in found],
        "strata": [asdict(stratum) for stratum in strata],
        "recommended": recommend(found),
        "advice": _advice(strata, found),
    }


def _advice(strata: list[Stratum], found: list[AtThreshold]) -> str:
    threshold = recommend(found)
    if threshold is not None:
        return (
            f"threshold {threshold}: the lowest whose precision is {ENOUGH} or more even at its "
            f"lower bound; set DAM_DEDUP_MATCH__THRESHOLD={threshold}"
        )
    if not any(stratum.labelled for stratum in strata):
        return "no threshold: no pair is labelled duplicate or distinct"
    hopeful = [at for at in found if at.population and at.precision.high >= ENOUGH]
    if not hopeful:
        return f"no threshold: the precision is below {ENOUGH} at all of them"
    # The one that comes closest: the others take more labels, or are worse.
    best = max(hopeful, key=lambda at: at.precision.low)
    needed = labels_needed([stratum for stratum in strata if stratum.low >= best.threshold])
    return (
        f"too few labels to recommend a threshold: none has a lower bound of {ENOUGH}, "
        f"{best.threshold} comes closest with {best.precision.low:.3f}; it takes {needed} or more "
        f"labels in each range of scores from {best.threshold} on"
    )

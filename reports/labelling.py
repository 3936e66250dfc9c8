"""Documents for labelling pairs by hand: labels.csv, and the page on which a person fills it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reports.environment import environment
from reports.words import data_uri, shown_key
from tasks.csv_cells import escape_cell
from tasks.records import Document, digest

#: The columns of labels.csv; the page exports the same.
COLUMNS = ("pair_id", "left", "right", "score", "stratum", "population", "verdict")
#: What a verdict may be; empty: not labelled yet.
VERDICTS = ("duplicate", "distinct", "unsure")


@dataclass(frozen=True, slots=True)
class DrawnPair:
    """One pair to be labelled.

    Attributes:
        pair_id: the pair's name in the catalog.
        left: a key that has the left picture.
        right: a key that has the right picture.
        left_content: names the left thumbnail.
        right_content: names the right thumbnail.
        score: as verified.
        stratum: the stratum it was drawn from.
        population: how many pairs that stratum has.
    """

    pair_id: str
    left: str
    right: str
    left_content: str
    right_content: str
    score: float
    stratum: str
    population: int

    @property
    def cells(self) -> list[str]:
        """The row of labels.csv, without a verdict."""
        return [
            self.pair_id,
            _cell(self.left),
            _cell(self.right),
            f"{self.score:.6f}",
            self.stratum,
            str(self.population),
            "",
        ]


def labels_csv(pairs: Iterable[DrawnPair]) -> Document:
    """The pairs in the order in which they are to be labelled, without verdicts."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(pair.cells for pair in pairs)
    return Document("labels.csv", "text/csv; charset=utf-8", text.getvalue().encode())


def label_page(pairs: Sequence[DrawnPair], thumbnails: Mapping[str, bytes]) -> Document:
    """``label.html``: two pictures at a time and three buttons; nothing is sent anywhere.

    Args:
        pairs: in the order in which they are shown.
        thumbnails: content to JPEG.
    """
    body = (
        environment()
        .get_template("label.html")
        .render(
            pairs=pairs,
            columns=COLUMNS,
            verdicts=VERDICTS,
            # Verdicts are kept in the browser under this name, apart from those of other samples.
            sample=digest(*(pair.pair_id for pair in pairs)),
            picture=lambda content: data_uri(thumbnails.get(content)),
            hashed=_hashed,
        )
    )
    return Document("label.html", "text/html; charset=utf-8", body.encode())


def _cell(key: str) -> str:
    """A key that no spreadsheet takes for a formula; what is invisible is made visible."""
    return shown_key(escape_cell(key))


def _hashed(text: str) -> str:
    """The source that lets exactly this inline text through a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

"""``dam-dedup bench documents``: what is drawn, and what is counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from deployments.bench import documents
from deployments.bench.documents import COPIES, families_of, make_sheets, run_documents
from deployments.bench.families import FAMILIES
from deployments.bench.later_families import LATER_FAMILIES
from deployments.bench.pair_answers import Answer, answer_pair, read_known
from deployments.cli.main import app
from tasks.dedup.verify import NEAR_SCORE

RUN = CliRunner()
BY_NAME = {family.name: family for family in (*FAMILIES, *LATER_FAMILIES)}


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_things_of_a_family_differ_in_a_part_only(name):
    (first, one), (field, other) = BY_NAME[name].things("1", 2)
    assert not first
    assert field in BY_NAME[name].fields
    apart = (np.asarray(one, np.int16) != np.asarray(other, np.int16)).any(axis=-1).mean()
    assert 0 < apart < 0.5


def test_a_seed_draws_the_same_documents_again():
    sheets = [make_sheets(BY_NAME["badge"], seed, 2) for seed in (3, 3, 4)]
    files = [[sheet.data for sheet in made] for made in sheets]
    assert files[0] == files[1] != files[2]
    assert {sheet.copy for sheet in sheets[0]} == {"", *COPIES}


def test_families_are_for_fitting_or_for_reporting():
    fitting = {family.name for family in families_of("fitting")}
    reporting = {family.name for family in families_of("reporting")}
    later = {family.name for family in families_of("later")}
    assert fitting | reporting | later == set(BY_NAME)
    assert len(fitting) + len(reporting) + len(later) == len(BY_NAME)
    assert min(len(fitting), len(reporting | later)) >= 8
    # Their wrong pairs taught the rule.
    assert {"chat", "goods", "label", "chart", "invoice", "timetable"} <= fitting


def test_what_is_wrong_is_counted_by_tier(monkeypatch):
    """All pairs get one score: then all different ones are wrong, and all copies found."""
    monkeypatch.setattr(documents, "FAMILIES", (BY_NAME["badge"],))
    monkeypatch.setattr(documents, "answer_pair", lambda _: Answer(0.96, 0.96))
    (row, every), pairs = run_documents(things=2)
    files = 1 + len(COPIES)
    assert row.wrong_exact == row.different == files**2
    assert row.found == row.copies == 2 * len(COPIES)
    assert row.exact == row.encoded == 2 * len(documents.ENCODED)
    assert row.precision == pytest.approx((len(pairs) - files**2) / len(pairs))
    assert (every.wrong_exact, every.recall) == (row.wrong_exact, 1.0)


def test_the_command_prints_a_row_a_family(monkeypatch):
    monkeypatch.setattr(documents, "FAMILIES", (BY_NAME["code"], BY_NAME["bottle"]))
    monkeypatch.setattr(documents, "answer_pair", lambda _: Answer(0.2, 0.2))
    found = RUN.invoke(app, ["bench", "documents", "--things", "2", "--json"])
    assert found.exit_code == 0, found.output
    assert [row["family"] for row in json.loads(found.stdout)] == ["code", "all"]


@pytest.mark.long
def test_letters_at_the_edge_of_a_page_and_of_a_tile():
    """A board of departures, light on dark: its scan, and another one's picture in a frame.

    Two letters reach into an otherwise empty tile of the scan, whose blur the bare ground does not
    tell. The crop begins at its letters, and what lies beyond it is no ground of theirs.
    """
    drawn = make_sheets(BY_NAME["timetable"], 602, 3)
    sheets = {(sheet.thing, sheet.copy): sheet.data for sheet in drawn}

    def answer(one: tuple[int, str], other: tuple[int, str]) -> Answer:
        return answer_pair((read_known(sheets[one]), read_known(sheets[other])))

    assert answer((1, ""), (1, "scan")).proof == "same"
    assert answer((0, "crop"), (2, "framed")).score < NEAR_SCORE

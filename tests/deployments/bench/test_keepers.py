"""``dam-dedup bench keepers``: what is made, and what is counted."""

from __future__ import annotations

import json
import random

import pytest
from typer.testing import CliRunner

from deployments.bench import keepers
from deployments.bench.keeper_edits import KINDS
from deployments.bench.keepers import draw_picture, judge_pair, make_files, run_keepers
from deployments.cli.main import app
from tasks.dedup.explain import Explanation

RUN = CliRunner()
BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.fixture(scope="module")
def small():
    return draw_picture(random.Random("a")).resize((240, 180))


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_every_kind_changes_the_picture_and_a_seed_repeats_it(small, name):
    one, two, other = (BY_NAME[name].make(small, random.Random(seed)) for seed in (1, 1, 2))
    assert one.tobytes() == two.tobytes()
    if not BY_NAME[name].coarser:
        assert one.size != small.size or one.tobytes() != small.tobytes()
        assert other.mode == "RGB"


def test_encoding_gives_nothing_away(small):
    """Over many files, originals and edits have the same qualities and formats."""
    drawn: dict[bool, list[int]] = {True: [], False: []}
    formats: dict[bool, set[str]] = {True: set(), False: set()}
    for number in range(40):
        for file in make_files(small, [BY_NAME["mirror"]], random.Random(number)):
            formats[bool(file.kind)].add(file.picture.format)
            if file.picture.quality:
                drawn[bool(file.kind)].append(file.picture.quality)
    assert formats[True] == formats[False] == {"jpeg", "webp", "png"}
    means = [sum(values) / len(values) for values in drawn.values()]
    assert abs(means[0] - means[1]) < 9


@pytest.mark.parametrize("said", ["left", "right", "either"])
def test_answers_are_counted_by_what_was_made_of_what(small, monkeypatch, said):
    files = make_files(small, [BY_NAME["border"]], random.Random(3))
    told = Explanation("changes", said, ())
    monkeypatch.setattr(keepers, "explain_pair", lambda *_: told)
    named = {"left": files[0], "right": files[1]}.get(said)
    wanted = "cannot tell" if named is None else "wrong" if named.kind else "right"
    assert judge_pair(files, BY_NAME["border"]).said == wanted


def test_the_command_prints_a_row_a_kind(monkeypatch):
    monkeypatch.setattr(keepers, "KINDS", (BY_NAME["border"], BY_NAME["mirror"]))
    rows, answers = [keepers.KindRow("border", 1, 1, 0, 0, 0)], []
    monkeypatch.setattr(keepers, "run_keepers", lambda *_, **__: (rows, answers))
    found = RUN.invoke(app, ["bench", "keepers", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["rows"][0]["kind"] == "border"


@pytest.mark.long
def test_drawn_pictures_keep_their_originals():
    rows, _ = run_keepers(None, seed=5, pairs=1, groups=2)
    by_name = {row.kind: row for row in rows}
    assert by_name["pixels decide"].asked == sum(kind.decided for kind in KINDS)
    assert by_name["groups"].asked == 2
    assert by_name["all pairs"].wrong <= 1


def test_a_seed_draws_the_same_picture_again():
    one, two, other = (keepers.draw_picture(random.Random(seed)).tobytes() for seed in (1, 1, 2))
    assert one == two != other

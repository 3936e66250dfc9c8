"""``dam-dedup calibrate``: a sample out, verdicts in; files that came back broken are refused."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import polars as pl
import pytest
from typer.testing import CliRunner

from deployments.bench import calibrate
from deployments.bench.labels import Label, assess, read_labels, strata_of
from reports.labelling import labels_csv
from tasks.dedup.estimate import EDGES
from tasks.errors import CatalogError, SettingsError


def pairs_of(*scores: float) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "pair_id": [f"{n:032x}" for n in range(len(scores))],
            "left": [f"a{n}" for n in range(len(scores))],
            "right": [f"b{n}" for n in range(len(scores))],
            "score": list(scores),
            "left_key": [f"=a{n}.jpg" for n in range(len(scores))],
            "right_key": [f"b{n}.jpg" for n in range(len(scores))],
        },
        schema_overrides={"score": pl.Float64},
    )


@pytest.fixture
def pairs() -> pl.DataFrame:
    """Fifty in each stratum but one, and some below."""
    middles = [(low + high) / 2 for low, high in pairwise(EDGES)]
    return pairs_of(*[0.1] * 30, *[score for score in middles for _ in range(50)][:-48])


@pytest.fixture
def returned(pairs, tmp_path):
    """labels.csv as a person brings it back: what scores 0.6 or more is a duplicate."""

    def write(verdict=lambda row: "duplicate" if float(row["score"]) > 0.6 else "distinct"):
        text = labels_csv(calibrate.draw_pairs(pairs, 140, 0)).body.decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        path = tmp_path / "labels.csv"
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row | {"verdict": verdict(row)} for row in rows)
        return path

    return write


def test_the_sample_is_stratified_shuffled_and_repeatable(pairs):
    drawn = calibrate.draw_pairs(pairs, 62, 3)
    sizes = pl.DataFrame([pair.stratum for pair in drawn]).to_series().value_counts()
    assert sorted(sizes["count"]) == [2, 10, 10, 10, 10, 10, 10]
    assert {pair.population for pair in drawn} == {50, 2}
    assert len({pair.pair_id for pair in drawn}) == 62
    assert [pair.score for pair in drawn] != sorted(pair.score for pair in drawn)
    assert drawn == calibrate.draw_pairs(pairs.reverse(), 62, 3)
    assert drawn != calibrate.draw_pairs(pairs, 62, 4)
    with pytest.raises(CatalogError, match="no pairs"):
        calibrate.draw_pairs(pairs_of(0.1, 0.2), 62, 0)


def test_verdicts_come_back(pairs, returned):
    result = assess(read_labels(returned()), pairs)
    at = {row["threshold"]: row for row in result["thresholds"]}
    assert at[0.6]["precision"]["estimate"] == pytest.approx(1.0)
    assert at[0.6]["recall"]["estimate"] == 1.0
    assert at[0.5]["precision"]["estimate"] == pytest.approx(202 / 252)
    assert at[0.7]["recall"]["estimate"] == pytest.approx(152 / 202)
    assert result["labelled"] == result["pairs"] == 140
    assert result["recommended"] is None
    assert "too few labels" in result["advice"]
    json.dumps(result)


def test_what_is_not_decided_is_counted_and_left_out(pairs, returned):
    words = {"0.55": "Unsure ", "0.65": "", "0.75": "DUPLICATE"}
    path = returned(lambda row: words.get(f"{float(row['score']):.2f}", "distinct"))
    moved = pairs.with_columns(  # another rule gave these another score since
        pl.when(pl.col("score") > 0.97).then(0.96).otherwise("score").alias("score")
    ).filter(pl.col("score") >= 0.5)
    result = assess(read_labels(path), moved)
    assert result["unsure"] == 23
    assert result["unlabelled"] == 23
    assert result["duplicates"] == 23
    assert result["unknown"] == 23 + 2
    assert result["labelled"] + result["unsure"] + result["unlabelled"] + result["unknown"] == 140
    nothing = assess(read_labels(returned(lambda _: "")), pairs)
    assert "no pair is labelled" in nothing["advice"]


def test_enough_labels_recommend_a_threshold():
    pairs = pairs_of(*[0.97] * 500, *[0.85] * 5)
    drawn = calibrate.draw_pairs(pairs, 505, 0)
    rows = [
        label_of(pair.pair_id, pair.score, 6 if pair.score > 0.9 else 4, pair.population)
        for pair in drawn
    ]
    result = assess(rows, pairs)
    assert result["recommended"] == 0.5
    assert "DAM_DEDUP_MATCH__THRESHOLD=0.5" in result["advice"]
    wrong = [
        label_of(row.pair_id, row.score, row.stratum, row.population, "distinct") for row in rows
    ]
    assert "below 0.99 at all" in assess(wrong, pairs)["advice"]


def label_of(pair_id, score, stratum, population, verdict="duplicate"):
    return Label(pair_id, score, stratum, population, verdict)


GOOD = "aa,=k,k,0.75,0.70-0.80,9,duplicate"


@pytest.mark.parametrize(
    ("rows", "line", "says"),
    [
        (["aa,k,k,0.75,0.70-0.80,9,maybe"], 2, "duplicate, distinct, unsure or empty"),
        ([GOOD, "bb,k,k,0.85,0.70-0.80,9,"], 3, "must lie in its stratum"),
        ([GOOD, "bb,k,k,nan,0.70-0.80,9,"], 3, "must lie in its stratum"),
        ([GOOD, "bb,k,k,high,0.70-0.80,9,"], 3, "a number like 0.725"),
        ([GOOD, "bb,k,k,0.75,all,9,"], 3, "must be one of 0.30-0.50"),
        ([GOOD, "bb,k,k,0.75,0.70-0.80,-1,"], 3, "a whole number above 0"),
        ([GOOD, "bb,k,k,0.75,0.70-0.80,8,"], 3, "do not mix samples"),
        ([GOOD, GOOD], 3, "the pair of line 2 again"),
        ([GOOD, "bb,k,k,0.75"], 3, "7 cells"),
        ([GOOD, GOOD + ",more"], 3, "7 cells"),
        ([GOOD, ",k,k,0.75,0.70-0.80,9,"], 3, "pair_id must have"),
        ([GOOD, 'bb,"k"x,k,0.75,0.70-0.80,9,'], 3, "expected after"),
    ],
)
def test_a_malformed_row_names_its_line(tmp_path, rows, line, says):
    path = tmp_path / "labels.csv"
    header = "pair_id,left,right,score,stratum,population,verdict"
    path.write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(SettingsError, match=f"line {line}: .*{says}"):
        read_labels(path)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "line 1: no column pair_id"),
        (b"pair_id;score;stratum;population;verdict\n", "separated by commas"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (
            b"pair_id,score,stratum,population,verdict\na,.7,0.70-0.80,1,\nb,.7,0.70-0.80,1,\n",
            "2 rows of the stratum",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, body, says):
    path = tmp_path / "labels.csv"
    path.write_bytes(body)
    with pytest.raises(SettingsError, match=says):
        read_labels(path)
    with pytest.raises(SettingsError, match="cannot read"):
        read_labels(tmp_path / "none.csv")


def test_strata_without_rows_have_no_population():
    assert [stratum.population for stratum in strata_of([], set())] == [0] * 7


@pytest.mark.long
def test_the_commands(library, tmp_path):
    for seed in range(6):
        library.add(f"p{seed}.png", seed)
        library.add(f"p{seed}.jpg", seed, quality=60)
    library.scan()
    kept = ["--catalog", str(tmp_path / "catalog")]

    def run(*words: str):
        return CliRunner().invoke(calibrate.calibrate_app, [*words, *kept])

    out = tmp_path / "labels"
    done = run("sample", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert (out / "label.html").read_bytes().count(b"data:image/jpeg") >= 12
    assert isinstance(run("sample", "--out", str(out)).exception, SettingsError), "no overwriting"

    path = out / "labels.csv"
    path.write_text(
        "".join(
            line if line.startswith("pair_id") else line.rstrip("\n") + "duplicate\n"
            for line in path.read_text().splitlines(keepends=True)
        )
    )
    ids = []
    for _ in range(2):
        done = run("read", str(path), "--json")
        assert done.exit_code == 0, done.output
        ids.append(json.loads(done.stdout)["calibration_id"])
    assert ids[0] == ids[1]
    from tasks.catalog.catalog import Catalog

    stored = Catalog(str(tmp_path / "catalog")).read(
        "calibrations", ["calibration_id", "labelled", "result"]
    )
    assert stored.height == 1
    assert json.loads(stored["result"][0])["labelled"] == stored["labelled"][0] >= 6
    assert "too few labels" in run("read", str(path)).stdout

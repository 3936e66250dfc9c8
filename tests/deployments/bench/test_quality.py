"""``dam-dedup bench quality``: what is planted is repeatable, and what is counted is right."""

from __future__ import annotations

import io
import json
import random
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from deployments.bench import plots, rivals
from deployments.bench.command import bench_app, show_report
from deployments.bench.ladder import LADDER, Edit
from deployments.bench.plant import plant, read_truth
from deployments.bench.quality import Report, _Clock, candidate_keys
from deployments.bench.score import Quality, assess
from tasks.errors import SettingsError


def photo(seed: int, width: int = 120, height: int = 90) -> Image.Image:
    grid = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six photographs, two of one name, and files that are none or too small."""
    folder = tmp_path / "images"
    (folder / "b").mkdir(parents=True)
    for number in range(5):
        photo(number).save(folder / f"{number}.jpg")
    photo(9).save(folder / "b" / "0.jpg")
    photo(7, 20, 20).save(folder / "tiny.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---- the ladder --------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", LADDER, ids=lambda edit: edit.name)
def test_edit_gives_another_picture(edit: Edit) -> None:
    source = photo(3)
    data = edit.bytes_of(source, random.Random(1))
    assert data == edit.bytes_of(source, random.Random(1))
    with Image.open(io.BytesIO(data)) as made:
        made.load()
        same = made.size == source.size and made.convert("RGB").tobytes() == source.tobytes()
        assert min(made.size) >= 8
    assert same == (edit.name == "png")


def test_ladder_has_every_level_and_no_name_twice() -> None:
    assert {edit.level for edit in LADDER} == {"exact", "near", "hard"}
    assert len({edit.name for edit in LADDER}) == len(LADDER) >= 30


# ---- planting ----------------------------------------------------------------------------------


def test_same_seed_same_files(images: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        plant(images, tmp_path / name, seed, sources=3, edits=5)
    one, again, other = (contents(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert {n for n in one if n.startswith("edits/")} != {
        n for n in other if n.startswith("edits/")
    }
    assert one["truth.csv"] != other["truth.csv"]


def test_truth_names_every_picture_and_its_source(images: Path, tmp_path: Path) -> None:
    into = tmp_path / "planted"
    truth = read_truth(plant(images, into, 0, sources=6, edits=9))
    originals = truth.filter(pl.col("edit").is_null())
    copies = truth.filter(pl.col("edit").is_not_null())
    # broken.jpg is a photograph by its first bytes: the scan must say that it failed.
    assert sorted(originals["group"]) == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "4.jpg",
        "b/0.jpg",
        "broken.jpg",
        "tiny.png",
    ]
    assert copies.height == 54
    assert set(copies["group"]).isdisjoint({"broken.jpg", "tiny.png"})
    assert {name for name in contents(into) if "/" in name} == set(truth["file"])
    levels = {edit.name: edit.level for edit in LADDER}
    assert all(levels[edit] == level for edit, level in copies.select("edit", "level").iter_rows())
    used = Counter(copies["edit"])
    assert len(used) == len(LADDER)
    assert max(used.values()) - min(used.values()) <= 1
    assert copies.select("group", "edit").is_duplicated().sum() == 0
    for file, group in originals.select("file", "group").iter_rows():
        assert (into / file).read_bytes() == (images / group).read_bytes()


def test_planting_again_changes_nothing_and_replaces_nothing(images: Path, tmp_path: Path) -> None:
    into = tmp_path / "planted"
    plant(images, into, 0, sources=1, edits=2)
    before = contents(into)
    plant(images, into, 0, sources=1, edits=2)
    assert contents(into) == before
    with pytest.raises(SettingsError, match="another collection"):
        plant(images, into, 1, sources=1, edits=2)


def test_what_cannot_be_planted_is_refused(images: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, into, edits in (
        (empty, tmp_path / "a", 1),
        (tmp_path / "nowhere", tmp_path / "a", 1),
        (images, images / "inside", 1),
        (images, tmp_path / "a", len(LADDER) + 1),
    ):
        with pytest.raises(SettingsError):
            plant(folder, into, 0, sources=1, edits=edits)


@pytest.mark.parametrize("text", ["file,who\na,1\n", "file,group\n", "file,group\na,1\na,2\n", ""])
def test_wrong_truth_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match="--truth"):
        read_truth(path)


# ---- counting ----------------------------------------------------------------------------------

TRUTH = pl.DataFrame(
    [
        ("o/a", "a", None, None),
        ("o/b", "b", None, None),
        ("o/c", "c", None, None),
        ("e/a1", "a", "png", "exact"),
        ("e/a2", "a", "logo", "near"),
        ("e/b1", "b", "logo", "near"),
        ("e/b2", "b", "mirror", "hard"),
    ],
    ["file", "group", "edit", "level"],
    orient="row",
)
PAIRS = pl.DataFrame(
    [
        ("e/a1", "o/a", 1.0),
        ("o/a", "e/a2", 0.92),  # in the other order
        ("e/a1", "e/a2", 0.85),  # right, though not with the original
        ("e/b1", "o/b", 0.65),  # below the threshold
        ("o/b", "o/c", 0.75),  # wrong
        ("e/b1", "o/c", 0.55),  # wrong, below
        ("o/a", "x", 0.99),  # a file the truth does not name
    ],
    ["left", "right", "score"],
    orient="row",
)
MEMBERS = pl.DataFrame(
    {"group_id": ["1", "1", "1", "2", "2"], "key": ["o/a", "e/a1", "e/a2", "o/b", "o/c"]}
)
CANDIDATES = pl.DataFrame({"left": ["o/a", "e/a2", "o/b"], "right": ["e/a1", "o/a", "e/b1"]})
NO_PAIRS, NO_MEMBERS = PAIRS.clear(), MEMBERS.clear()


def rows(frame: pl.DataFrame, *names: str) -> list[tuple[object, ...]]:
    return frame.select(names).rows()


def test_counts_of_planted_edits() -> None:
    found = assess(TRUTH, PAIRS, MEMBERS, CANDIDATES)
    assert (found.pairs, found.right, found.precision, found.unknown) == (4, 3, 0.75, 1)
    assert (found.wanted, found.found, found.recall) == (4, 2, 0.5)
    assert (found.groups, found.pure, found.purity) == (2, 1, 0.5)
    assert rows(found.levels, "level", "wanted", "found", "recall", "candidate_recall") == [
        ("exact", 1, 1, 1.0, 1.0),
        ("near", 2, 1, 0.5, 1.0),
        ("hard", 1, 0, 0.0, 0.0),
    ]
    assert rows(found.edits, "edit", "recall") == [("png", 1.0), ("logo", 0.5), ("mirror", 0.0)]
    assert rows(found.false_pairs, "left", "right", "score") == [("o/b", "o/c", 0.75)]


def test_threshold_and_score_tables() -> None:
    found = assess(TRUTH, PAIRS, MEMBERS)
    curve = {row["threshold"]: row for row in found.curve.iter_rows(named=True)}
    assert (curve[0.5]["pairs"], curve[0.5]["precision"], curve[0.5]["recall"]) == (6, 0.6667, 0.75)
    assert (curve[0.9]["pairs"], curve[0.9]["precision"], curve[0.9]["recall"]) == (2, 1.0, 0.5)
    assert rows(found.calibration, "low", "pairs", "share") == [
        (0.5, 1, 0.0),
        (0.6, 1, 1.0),
        (0.7, 1, 0.0),
        (0.8, 1, 1.0),
        (0.9, 1, 1.0),
        (0.95, 1, 1.0),
    ]
    assert found.levels["candidate_recall"].null_count() == 3


def test_truth_without_edits_counts_all_pairs_of_a_group() -> None:
    truth = TRUTH.select("file", "group")
    found = assess(truth, PAIRS, MEMBERS)
    assert (found.wanted, found.found, found.recall) == (6, 3, 0.5)
    assert found.precision == 0.75
    assert found.levels.is_empty()
    assert found.curve.row(0, named=True)["recall"] == 0.6667


@pytest.mark.parametrize("truth", [TRUTH, TRUTH.select("file", "group")], ids=["edits", "groups"])
def test_nothing_found_is_no_precision_and_no_recall(truth: pl.DataFrame) -> None:
    found = assess(truth, NO_PAIRS, NO_MEMBERS, CANDIDATES.clear())
    assert (found.precision, found.recall, found.purity) == (None, 0.0, None)
    assert found.curve["precision"].null_count() == found.curve.height
    assert found.false_pairs.is_empty()
    json.dumps(found.as_dict())


def test_candidates_are_keys_of_contents_looked_at_or_equal() -> None:
    assets = pl.DataFrame({"key": TRUTH["file"], "content": ["A", "B", "C", "A", "A2", "B1", "B2"]})
    looked = pl.DataFrame({"left": ["A", "B", "B"], "right": ["A2", "B1", "C"]})
    found = candidate_keys(assets, TRUTH, looked)
    pairs = {frozenset(row) for row in found.iter_rows()}
    assert pairs == {
        frozenset(pair)
        for pair in [("o/a", "e/a1"), ("o/a", "e/a2"), ("e/a1", "e/a2"), ("o/b", "e/b1")]
    }


# ---- other methods -----------------------------------------------------------------------------


def test_rival_is_asked_about_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    files = TRUTH.select(pl.col("file").alias("key"), "group").sort("key")
    hashes = {
        "o/a": 0,
        "e/a1": 1,
        "e/a2": 0xFFFF,
        "o/b": 0xFF00FF,
        "o/c": 0xFF00FE,
        "e/b1": 1 << 40,
    }
    files = files.filter(pl.col("key").is_in(list(hashes)))  # one file has no hash
    words = np.array([hashes[key] for key in files["key"]], np.uint64).reshape(-1, 1)
    for block in (1024, 2):
        monkeypatch.setattr(rivals, "_BLOCK", block)
        row = rivals.measure("bits", files, TRUTH, rivals._by_bits(words, 2))
        # o/a, e/a1 and e/b1 are near one another, o/b and o/c too.
        assert (row.pairs, row.precision, row.recall) == (4, 0.25, 0.25)
        assert row.levels == {"exact": 1.0, "near": 0.0, "hard": 0.0}


def test_cosine_rival() -> None:
    files = TRUTH.select(pl.col("file").alias("key"), "group").head(3)
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    assert rivals.measure("c", files, TRUTH, rivals._by_cosine(vectors, 0.79)).pairs == 1
    assert rivals.measure("c", files, TRUTH, rivals._by_cosine(vectors, 0.9)).precision is None


def test_pdq_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    row = rivals._pdq(None, TRUTH, TRUTH)  # type: ignore[arg-type]
    assert "not installed" in row.note


# ---- what is shown -----------------------------------------------------------------------------


def report_of(quality: Quality) -> Report:
    return Report(
        asked={"images": "x", "model": "bundled", "files": 7, "seed": 0},
        quality=quality,
        rivals=[rivals.own_row(quality), rivals.Rival("PDQ", note="not installed")],
        counts={"embedded": 7},
        failed={"truncated": 2},
        stages={"embed_assets": 1.0},
        stage_mb={"embed_assets": 321},
        seconds=2.0,
        rss_mb={"process": 1, "decoder": 1},
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="not Linux")
def test_memory_is_counted_for_each_stage() -> None:
    stages = SimpleNamespace(
        small=lambda: None, large=lambda: (b"x" * 200 * 1024**2).count(b"y"), after=lambda: None
    )
    clock = _Clock(stages)
    for name in ("small", "large", "after"):
        getattr(clock, name)()
    assert list(clock.peaks) == ["small", "large", "after"]
    assert clock.peaks["large"] > clock.peaks["small"] + 150
    assert clock.peaks["after"] < clock.peaks["large"] - 150, "not the most there ever was"


@pytest.mark.parametrize("pairs", [PAIRS, NO_PAIRS], ids=["pairs", "nothing"])
def test_report_in_words_and_json(pairs: pl.DataFrame) -> None:
    report = report_of(assess(TRUTH, pairs, MEMBERS, CANDIDATES))
    text = io.StringIO()
    show_report(report, Console(file=text, width=120))
    for said in ("precision", "mirror", "not installed", "2 files: truncated", "1.0 s 321 MB"):
        assert said in text.getvalue()
    assert json.loads(json.dumps(report.as_dict()))["quality"]["wanted"] == 4


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    nothing = assess(TRUTH.select("file", "group"), NO_PAIRS, NO_MEMBERS)
    for name, quality in (("p.svg", assess(TRUTH, PAIRS, MEMBERS)), ("nothing.png", nothing)):
        plots.draw_plots(quality, tmp_path / "new" / name)
        assert (tmp_path / "new" / name).stat().st_size > 5000


def test_plots_that_cannot_be_drawn_are_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match=r"\.svg or \.png"):
        plots.check_plots(tmp_path / "p.pdf")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError, match=r"dam-dedup\[bench\]"):
        plots.check_plots(tmp_path / "p.svg")


def test_command_explains_itself() -> None:
    shown = CliRunner().invoke(bench_app, ["quality", "--help"], terminal_width=200)
    assert shown.exit_code == 0
    for option in ("--images", "--seed", "--truth", "--plots", "--work", "--json", "--model"):
        assert option in shown.output

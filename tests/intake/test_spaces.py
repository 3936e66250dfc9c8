"""Another model: prepared beside the one that serves, switched to, and the old one removed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tasks.catalog.catalog import Catalog
from tasks.errors import CatalogError
from tasks.intake import spaces
from tasks.intake.blocklist import block_asset
from tasks.intake.spaces import list_spaces, prepare_space, remove_space
from tasks.records import Kind
from tasks.settings import Settings, load_settings
from tests.conftest import Library


@pytest.fixture(scope="module")
def other_model(make_model) -> Path:
    """Its vectors have nothing to do with the first one's."""
    return make_model(7)


def settings_of(library: Library, model: Path) -> Settings:
    return load_settings(
        catalog={"uri": str(library.place / "catalog")},
        source={"uri": str(library.folder)},
        delivery={"folder": library.place / "reports"},
        embedding={"model": str(model), "pooling": "cls", "device": "cpu", "decoders": 1},
    )


def fill(library: Library) -> None:
    for seed in range(4):
        library.add(f"{seed}.png", seed)
        library.add(f"{seed}.jpg", seed, quality=92)
    library.add("same.png", 0)


def groups(library: Library) -> list[tuple[str, ...]]:
    latest = max((library.place / "reports").iterdir())
    told = json.loads((latest / "groups.json").read_text())
    return sorted(tuple(sorted(m["key"] for m in group["members"])) for group in told["groups"])


@pytest.fixture
def scanned(library: Library) -> Library:
    fill(library)
    library.scan()
    return library


@pytest.mark.long
def test_the_new_model_is_filled_while_the_old_one_serves_and_then_takes_over(
    scanned: Library, other_model: Path
) -> None:
    old, new = settings_of(scanned, scanned.model), settings_of(scanned, other_model)
    before = groups(scanned)
    assert len(before) == 4
    done = prepare_space(old, new.embedding)
    assert (done.embedded, done.missing) == (8, 0), "the ninth file shows what another shows"
    first, second = list_spaces(old)
    assert (first.scanned, first.vectors, first.lacking) == (True, 8, 0)
    assert (second.scanned, second.vectors, second.lacking) == (False, 8, 0)
    assert prepare_space(old, new.embedding).embedded == 0, "and again there is nothing to do"

    scanned.add("late.png", 9)
    served = scanned.scan()
    assert served.summary.space.id == first.space
    assert served.summary.counts["embedded"] == 1
    assert groups(scanned) == before
    assert [one.lacking for one in list_spaces(old)] == [0, 1]
    assert prepare_space(old, new.embedding).embedded == 1

    switched = scanned.scan(Kind.FULL, model=other_model)
    assert switched.summary.space.id == second.space
    assert switched.summary.counts["embedded"] == switched.summary.counts["read"] == 0
    assert switched.summary.counts["verified"] == 0, "no pair is verified anew for a model"
    assert groups(scanned) == before
    assert set(switched.summary.groups["state"]) == {"known"}

    gone = remove_space(new, first.space[:10])
    assert gone.vectors == 9
    assert [one.space for one in list_spaces(new)] == [second.space]
    catalog = Catalog(new.catalog.uri)
    assert not catalog.has(f"vectors_{first.space}")
    assert set(catalog.read("neighbours", ["space"])["space"]) == {second.space}
    assert catalog.duplicate_keys() == {}
    scanned.scan(model=other_model)
    assert groups(scanned) == before


@pytest.mark.long
def test_a_preparation_that_was_stopped_goes_on(
    scanned: Library, other_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = settings_of(scanned, scanned.model), settings_of(scanned, other_model)
    monkeypatch.setattr(spaces, "_PART", 3)
    told: list[int] = []

    def stop_after_two(_stage: str, done: int, _of: int) -> None:
        told.append(done)
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_space(old, new.embedding, stop_after_two)
    assert told == [0, 3, 6]
    # The writer's turn is free between two parts: a scan goes on meanwhile.
    scanned.add("new.png", 11)
    assert scanned.scan().summary.counts["embedded"] == 1
    assert prepare_space(old, new.embedding).embedded == 3


@pytest.mark.long
def test_what_cannot_be_read_any_more_is_counted_and_nothing_wrong_is_written(
    scanned: Library, other_model: Path
) -> None:
    old, new = settings_of(scanned, scanned.model), settings_of(scanned, other_model)
    (scanned.folder / "1.png").unlink()
    shutil.copy(scanned.folder / "2.png", scanned.folder / "3.png")
    done = prepare_space(old, new.embedding)
    assert (done.embedded, done.missing) == (6, 2)
    scanned.scan(model=other_model)
    assert list_spaces(new)[0].lacking == 0, "the next scan knows what is there now"


@pytest.mark.long
def test_the_blocklist_knows_its_pictures_in_the_new_space(
    scanned: Library, other_model: Path
) -> None:
    old, new = settings_of(scanned, scanned.model), settings_of(scanned, other_model)
    for key in ("1.png", "2.png"):
        block_asset(old, key, reason="r", rule="r", by="anna")
    (scanned.folder / "2.png").unlink()
    (scanned.folder / "2.jpg").unlink()
    scanned.scan()
    done = prepare_space(old, new.embedding)
    assert done.unblocked == 1
    catalog = Catalog(old.catalog.uri)
    kept = catalog.read("blocklist_vectors", ["entry_id"], f"space = '{done.space.id}'")
    assert kept.height == 1


def test_what_serves_is_never_removed(scanned: Library, other_model: Path) -> None:
    old, new = settings_of(scanned, scanned.model), settings_of(scanned, other_model)
    (first,) = list_spaces(old)
    prepare_space(old, new.embedding)
    second = list_spaces(old)[1]
    with pytest.raises(CatalogError, match="the last scan used"):
        remove_space(new, first.space)
    with pytest.raises(CatalogError, match="the settings name"):
        remove_space(new, second.space)
    for wrong in ("", "nosuch"):
        with pytest.raises(CatalogError, match="model show"):
            remove_space(old, wrong)
    assert remove_space(old, second.space, dry_run=True).vectors == 8
    assert len(list_spaces(old)) == 2
    remove_space(old, second.space)
    assert len(list_spaces(old)) == 1


def test_the_commands(
    scanned: Library,
    other_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from deployments.cli.main import main

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dam-dedup", "model", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        return capsys.readouterr().out

    for name, value in {
        "CATALOG__URI": scanned.place / "catalog",
        "EMBEDDING__MODEL": scanned.model,
        "EMBEDDING__POOLING": "cls",
        "EMBEDDING__DECODERS": "1",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", str(value))
    told = run("prepare", str(other_model), "--pooling", "cls")
    assert "8 pictures embedded" in told
    assert f"complete; now set DAM_DEDUP_EMBEDDING__MODEL={other_model}" in told
    assert "DAM_DEDUP_EMBEDDING__POOLING=cls" in told
    shown = run("show")
    assert shown.count("8 vectors of 32 dimensions, complete") == 2
    assert shown.count("of the last scan") == 1
    other = json.loads(run("show", "--json"))[1]["space"]
    assert "would be removed" in run("remove", other[:12], "--dry-run")
    assert "8 vectors removed" in run("remove", other[:12])

"""Check: one image against a collection says what a scan says."""

from __future__ import annotations

import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from tasks.errors import AssetGoneError, FilterError, ImageError, SettingsError
from tasks.intake.analyze import Analyzer
from tasks.intake.check import Checker
from tasks.intake.pair_verifier import AskedPicture, PairVerifier
from tasks.intake.update import update_asset
from tasks.queries.verdicts import Verdict, record_verdicts
from tasks.records import CheckQuestion, Kind
from tasks.session import open_catalog
from tests.conftest import blobs, first_of


def png(seed: int, **options) -> bytes:
    body = io.BytesIO()
    blobs(seed).save(body, options.pop("format", "PNG"), **options)
    return body.getvalue()


@pytest.fixture
def stocked(library):
    """Seven pictures; three of them more than once."""
    for seed in range(7):
        library.add(f"p{seed}.png", seed)
    library.add("p0.jpg", 0, quality=60)
    library.add("p0 small.jpg", 0, width=96)
    library.add("p1.bmp", 1)
    shutil.copy2(library.folder / "p1.png", library.folder / "p1 copy.png")
    library.add("p2.webp", 2, quality=70)
    return library


@pytest.fixture
def scanned(stocked):
    return stocked.scan(Kind.FULL)


def settings_of(outcome):
    source = {"uri": outcome.scan.source}
    settings = outcome.scan.settings
    return settings.model_copy(update={"source": settings.source.model_copy(update=source)})


def pairs_of(outcome) -> dict[frozenset[str], tuple[float, str]]:
    rows = outcome.summary.pairs.select("left", "right", "score", "tier").rows()
    return {frozenset((left, right)): (score, tier) for left, right, score, tier in rows}


def everything(settings) -> dict[str, pl.DataFrame]:
    """All that the catalog holds, as text, but for lists, vectors and pictures."""
    catalog, held = open_catalog(settings), {}
    for name in catalog._list():
        rows = catalog.read(
            name,
            [
                field.name
                for field in catalog.table(name).schema
                if not pa.types.is_nested(field.type) and not pa.types.is_large_binary(field.type)
            ],
        )
        held[name] = rows.select(pl.all().cast(pl.String))
    return held


@pytest.mark.parametrize("threshold", first_of(0.7, 0.5, 0.95))
def test_checks_of_every_asset_find_the_pairs_of_a_full_scan(stocked, threshold):
    outcome = stocked.scan(Kind.FULL, threshold=threshold)
    checker = Checker(settings_of(outcome))
    question = CheckQuestion(threshold=threshold, limit=100)
    found: dict[frozenset[str], tuple[float, str]] = {}
    for key in [*outcome.summary.members["key"], "p3.png", "p4.png"]:
        for one in checker.check_asset(key, question).found:
            found.setdefault(frozenset((key, one.key)), (one.score, one.tier))
            assert found[frozenset((key, one.key))] == (one.score, one.tier), "both ways alike"
    assert found == pairs_of(outcome)
    assert len(found) > 3


@pytest.mark.long
@pytest.mark.parametrize("neighbours", first_of("1", "2"))
def test_what_only_a_scan_proposed_is_found_too(stocked, monkeypatch, neighbours):
    monkeypatch.setenv("DAM_DEDUP_MATCH__NEIGHBOURS", neighbours)
    monkeypatch.setenv("DAM_DEDUP_MATCH__CHECK_NEIGHBOURS", neighbours)
    for width in (80, 120, 140):
        stocked.add(f"p0 {width}.jpg", 0, width=width)
    outcome = stocked.scan(Kind.FULL)
    checker = Checker(settings_of(outcome))
    found = {
        frozenset((key, one.key)): (one.score, one.tier)
        for key in outcome.summary.members["key"]
        for one in checker.check_asset(key, CheckQuestion(limit=100)).found
    }
    scan = pairs_of(outcome)
    assert {pair: found.get(pair) for pair in scan} == scan


def test_an_upload_is_found_and_leaves_no_trace(scanned):
    settings = settings_of(scanned)
    before = everything(settings)
    with Analyzer(settings) as analyzer:
        copy, other, same = analyzer.analyze(
            [png(0, format="JPEG", quality=40), png(99), png(1, format="BMP")]
        )
    checker = Checker(settings)
    found = checker.check(copy, CheckQuestion()).found
    assert {one.key for one in found} == {"p0.png", "p0.jpg", "p0 small.jpg"}
    assert all(one.relation == "verified" and one.evidence and one.changes for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    nothing = checker.check(other, CheckQuestion())
    assert (nothing.found, nothing.total) == ((), 0)
    assert nothing.verified == nothing.candidates > 0
    equal = checker.check(same, CheckQuestion()).found
    relations = {one.key: (one.relation, one.score, one.tier) for one in equal}
    assert relations == {
        "p1.bmp": ("equal bytes", 1.0, "exact"),
        "p1.png": ("equal pixels", 1.0, "exact"),
        "p1 copy.png": ("equal pixels", 1.0, "exact"),
    }
    after = everything(settings)
    known_picture = before.pop("pairs"), after.pop("pairs")
    assert all(before[name].equals(after[name]) for name in before)
    content = same.picture.content
    new = known_picture[1].join(known_picture[0], on="pair_id", how="anti")
    assert new.filter((pl.col("left") != content) & (pl.col("right") != content)).is_empty()


@pytest.mark.long
def test_a_picture_of_the_catalog_is_verified_once(stocked, scanned, monkeypatch):
    settings = settings_of(scanned)
    monkeypatch.setenv("DAM_DEDUP_MATCH__CHECK_NEIGHBOURS", "30")
    first = Checker(settings).check_asset("p0.png", CheckQuestion())
    assert first.verified == 0, "the scan knows all of it"
    stocked.add("p0 new.jpg", 0, quality=50)
    with Analyzer(settings) as analyzer:
        (analysis,) = analyzer.analyze([(stocked.folder / "p0 new.jpg").read_bytes()])
    update_asset(settings, analysis, "p0 new.jpg")
    checker = Checker(settings)
    new = checker.check_asset("p0 new.jpg", CheckQuestion())
    assert new.verified > 0
    again = checker.check_asset("p0 new.jpg", CheckQuestion())
    assert (again.verified, again.found) == (0, new.found)
    outcome = stocked.scan()
    assert outcome.summary.counts["read"] == 0, "the update read it"
    scan = pairs_of(outcome)
    assert {f.key: (f.score, f.tier) for f in new.found} == {
        next(iter(pair - {"p0 new.jpg"})): told
        for pair, told in scan.items()
        if "p0 new.jpg" in pair
    }


@pytest.mark.long
def test_pages_hold_all_of_it_and_say_how_much(scanned):
    checker = Checker(settings_of(scanned))
    whole = checker.check_asset("p1.png", CheckQuestion(threshold=0.5, limit=100))
    pages = []
    for offset in range(whole.total + 1):
        page = checker.check_asset("p1.png", CheckQuestion(threshold=0.5, limit=1, offset=offset))
        assert page.total == whole.total
        pages += page.found
    assert tuple(pages) == whole.found
    assert checker.check_asset("p1.png", CheckQuestion(limit=0)).total == 2


def test_filter_and_exclusions_apply_to_what_it_is_compared_with(scanned):
    checker = Checker(settings_of(scanned))

    def keys(**question) -> set[str]:
        return {one.key for one in checker.check_asset("p0.png", CheckQuestion(**question)).found}

    assert keys() == {"p0.jpg", "p0 small.jpg"}
    assert keys(where="width < 100") == {"p0 small.jpg"}
    assert keys(where="key = 'p0.jpg'") == {"p0.jpg"}, "the asset itself need not pass"
    assert keys(exclude=("p0.jpg",)) == {"p0 small.jpg"}
    small = checker.check_asset("p0.png", CheckQuestion(where="width < 100")).found[0]
    assert keys(exclude=(small.asset_id,)) == {"p0.jpg"}
    assert keys(threshold=1.0) == set()
    with pytest.raises(FilterError):
        keys(where="colour = 'red'")
    for wrong in (
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"limit": -1},
        {"offset": -1},
        {"mode": "psychic"},
    ):
        with pytest.raises(SettingsError):
            keys(**wrong)


def test_excluded_neighbours_do_not_take_the_place_of_others(stocked, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_MATCH__CHECK_NEIGHBOURS", "1")
    outcome = stocked.scan(Kind.FULL)
    with Analyzer(settings_of(outcome)) as analyzer:
        (analysis,) = analyzer.analyze([png(0, format="WEBP", quality=60)])
    checker = Checker(settings_of(outcome))
    first = checker.check(analysis, CheckQuestion()).found
    second = checker.check(analysis, CheckQuestion(exclude=tuple(one.key for one in first))).found
    assert first
    assert second
    assert not {one.key for one in first} & {one.key for one in second}


def test_verdicts_count(scanned):
    settings = settings_of(scanned)
    record_verdicts(
        settings,
        [
            Verdict("p0.png", "p0.jpg", "distinct"),
            Verdict("p0.png", "p0 small.jpg", "linked"),
            Verdict("p0.png", "p5.png", "duplicate"),
            Verdict("p1.png", "p1.bmp", "distinct"),
        ],
        by="tester",
    )
    checker = Checker(settings)
    checked = checker.check_asset("p0.png", CheckQuestion())
    said = {one.key: (one.verdict, one.score) for one in checked.found}
    assert set(said) == {"p0 small.jpg", "p5.png"}
    assert said["p0 small.jpg"][0] == "linked"
    assert said["p5.png"] == ("duplicate", 0.9)
    assert (checked.total, checked.silenced) == (2, 1)
    equal = checker.check_asset("p1.png", CheckQuestion())
    assert [one.key for one in equal.found] == ["p1 copy.png"]
    assert equal.silenced == 1
    assert "p0.png" not in {f.key for f in checker.check_asset("p0.jpg", CheckQuestion()).found}
    other = checker.check_asset("p0 small.jpg", CheckQuestion())
    assert {"p0.png", "p0.jpg"} == {one.key for one in other.found}


def test_what_is_pushed_out_while_others_are_looked_at_is_looked_at_too(scanned):
    settings = settings_of(scanned)
    catalog = open_catalog(settings)
    jpegs = dict(catalog.read("thumbnails", ["content", "jpeg"]).iter_rows())
    mine, *others = jpegs
    few = settings.match.model_copy(update={"feature_cache_images": 2, "workers": 1})
    answerer = PairVerifier(few)
    asked = AskedPicture(mine, False, jpegs[mine])
    answerer.verify(catalog, asked, others[:2])  # these are held now
    found = answerer.verify(catalog, asked, others[2:] + others[:2])
    assert sorted(found["content"]) == sorted(others)


def test_a_service_writes_answers_together_and_knows_them_before(scanned):
    settings = settings_of(scanned)
    catalog = open_catalog(settings)
    with catalog.writing():
        catalog.delete_where("pairs", "true")
    checker = Checker(settings, patience=3600)
    first = checker.check_asset("p0.png", CheckQuestion())
    assert first.verified
    assert catalog.count("pairs") == 0, "they wait"
    again = checker.check_asset("p0.png", CheckQuestion())
    assert (again.found, again.verified) == (first.found, 0)
    beside = checker.check_asset("p0.jpg", CheckQuestion())
    assert beside.verified == first.verified - 1, "known from the other side"
    with catalog.writing(), ThreadPoolExecutor(1) as another:
        another.submit(checker.close).result()
        assert catalog.count("pairs") == 0, "they wait for who writes"
    checker.close()
    assert catalog.count("pairs") == first.verified + beside.verified
    assert Checker(settings).check_asset("p0.png", CheckQuestion()).verified == 0


def test_versions_of_one_document_are_linked_and_equal_ones_are_duplicates(stocked):
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmpMM:OriginalDocumentID="xmp.did:7"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    stocked.write(
        "p0 turned.png", blobs(0).resize((160, 120)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    )
    for name in ("p0.png.xmp", "p0.jpg.xmp", "p0 turned.png.xmp", "p1.png.xmp", "p1.bmp.xmp"):
        (stocked.folder / name).write_text(packet)
    settings = settings_of(stocked.scan(Kind.FULL))
    found = Checker(settings).check_asset("p0.png", CheckQuestion()).found
    versions = {one.key: one.verdict for one in found}
    assert versions == {"p0.jpg": "", "p0 turned.png": "linked", "p0 small.jpg": ""}
    equal = Checker(settings).check_asset("p1.png", CheckQuestion()).found
    assert {one.key: one.verdict for one in equal} == {"p1.bmp": "", "p1 copy.png": ""}
    record_verdicts(settings, [Verdict("p0.png", "p0 turned.png", "duplicate")], by="tester")
    found = Checker(settings).check_asset("p0.png", CheckQuestion()).found
    assert {one.key: one.verdict for one in found}["p0 turned.png"] == "duplicate"


@pytest.mark.long
def test_an_asset_is_named_by_key_or_id_and_missing_ones_are_told(scanned, stocked):
    settings = settings_of(scanned)
    checker = Checker(settings)
    ids = dict(open_catalog(settings).read("assets", ["key", "asset_id"]).iter_rows())
    by_key = checker.check_asset("p0.png", CheckQuestion())
    assert checker.check_asset(ids["p0.png"], CheckQuestion()) == by_key
    with pytest.raises(AssetGoneError, match=r"no-such\.png"):
        checker.check_asset("no-such.png", CheckQuestion())
    stocked.write("broken.png", png(50)[:60])
    stocked.scan()
    with pytest.raises(ImageError, match=r"broken\.png"):
        checker.check_asset("broken.png", CheckQuestion())
    (stocked.folder / "p0.jpg").unlink()
    stocked.scan()
    found = {one.key for one in checker.check_asset("p0.png", CheckQuestion()).found}
    assert found == {"p0 small.jpg"}, "a checker that lives on sees what was removed"


@pytest.mark.long
def test_several_sources_in_one_catalog(scanned):
    settings = settings_of(scanned)
    with Analyzer(settings) as analyzer:
        one, two = analyzer.analyze([png(0, format="JPEG", quality=30), png(70)])
    asset = update_asset(settings, one, "mine", source="gate://shop")
    update_asset(settings, two, "other", source="gate://shop")
    checker = Checker(settings)
    assert checker.check_asset(asset, CheckQuestion()).total == 0, "against its own collection"
    across = checker.check_asset(asset, CheckQuestion(source=scanned.scan.source))
    assert {one.key for one in across.found} == {"p0.png", "p0.jpg", "p0 small.jpg"}
    ids = dict(open_catalog(settings).read("assets", ["key", "asset_id"]).iter_rows())
    back = checker.check_asset(ids["p0.png"], CheckQuestion(source="gate://shop"))
    assert [one.key for one in back.found] == ["mine"]
    with pytest.raises(AssetGoneError, match="gate://shop"):
        checker.check_asset("p0.png", CheckQuestion(source="gate://shop"))
    assert checker.check_asset("mine", CheckQuestion(source="gate://shop")).total == 0
    nowhere = settings.model_copy(
        update={"source": settings.source.model_copy(update={"uri": None})}
    )
    with pytest.raises(SettingsError, match="2 sources"):
        Checker(nowhere).check(one, CheckQuestion())


def test_a_thumbnail_handed_in_does_not_stand_for_a_known_content(scanned):
    """Else an answer about it would be written down, and believed by the next scan."""
    settings = settings_of(scanned)
    with Analyzer(settings) as analyzer:
        real, mask = analyzer.analyze([png(3), png(0)])
    forged = replace(real, picture=replace(real.picture, thumbnail=mask.picture.thumbnail))
    checker = Checker(settings)
    assert {one.key for one in checker.check(forged, CheckQuestion(threshold=0.5)).found} == {
        "p3.png"
    }
    unknown = replace(forged.picture, content="0" * 32, sha256="0" * 64)
    checker.check(replace(forged, picture=unknown), CheckQuestion())
    honest = checker.check_asset("p3.png", CheckQuestion())
    assert honest.total == 0


def test_an_empty_catalog_has_nothing(library):
    from tasks.settings import load_settings

    library.add("a.png", 1)
    settings = library.scan().scan.settings
    empty = load_settings(
        catalog={"uri": str(library.folder.parent / "empty")},
        source={"uri": str(library.folder)},
        embedding=settings.embedding.model_dump(),
    )
    with Analyzer(empty) as analyzer:
        (analysis,) = analyzer.analyze([png(1)])
    checked = Checker(empty).check(analysis, CheckQuestion())
    assert (checked.total, checked.candidates, checked.space) == (0, 0, analysis.space)
    assert np.isclose(np.linalg.norm(analysis.vector.astype(np.float32)), 1, atol=1e-2)
    assert isinstance(Image.open(io.BytesIO(analysis.picture.thumbnail)), Image.Image)


@pytest.mark.long
def test_threads_share_a_checker_and_an_analyzer(scanned):
    settings = settings_of(scanned)
    files = [png(0, format="WEBP", quality=50), png(2, format="JPEG", quality=50), png(77)]
    checker = Checker(settings)

    def by_upload(data: bytes) -> list[str]:
        (analysis,) = analyzer.analyze([data])
        return [one.key for one in checker.check(analysis, CheckQuestion()).found]

    def by_key(key: str) -> list[str]:
        return [one.key for one in checker.check_asset(key, CheckQuestion()).found]

    jobs = [(by_upload, data) for data in files] + [(by_key, f"p{n}.png") for n in range(5)]
    with Analyzer(settings) as analyzer, ThreadPoolExecutor(8) as threads:
        alone = [work(what) for work, what in jobs]
        together = list(threads.map(lambda job: job[0](job[1]), jobs * 4))
    assert together == alone * 4
    assert [len(found) for found in alone[:3]] == [3, 2, 0]

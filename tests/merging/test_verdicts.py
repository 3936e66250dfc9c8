"""What people say of pairs: it holds in later scans, for exactly these pairs, and no longer."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from tasks.dedup.verdicts import VERDICTS, apply_verdicts, current, keep_apart
from tasks.errors import MergeError
from tasks.merging.audit import read_audit
from tasks.queries import verdicts as module
from tasks.queries.verdicts import (
    Verdict,
    give_verdict,
    parse_verdicts,
    read_verdicts,
    record_verdicts,
    verdicts_on_group,
)
from tasks.records import Role, Tier, now
from tasks.reporting.summarize import last_scan
from tasks.requests import EmptyRequest, VerdictRequest
from tasks.session import open_catalog
from tests.conftest import first_of

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x28\x00\x00\x00\x1e"


def groups(site: Any) -> set[frozenset[str]]:
    """The last scan's groups, as sets of keys."""
    scan, _, _, _ = last_scan(site.settings)
    catalog = open_catalog(site.settings)
    members = catalog.read("groups", ["group_id", "asset_id"], f"scan_id = '{scan.id}'")
    keys = catalog.read("assets", ["asset_id", "key"])
    found = members.join(keys, on="asset_id").group_by("group_id").agg("key")
    return {frozenset(row) for row in found["key"]}


def sets(*names: str) -> set[frozenset[str]]:
    return {frozenset(name.split()) for name in names}


def say(site: Any, left: str, right: str, verdict: str, **options: Any) -> None:
    record_verdicts(site.settings, [Verdict(left, right, verdict)], **({"by": "anna"} | options))


@pytest.fixture
def quick(make_site: Any) -> Any:
    return make_site("plain")


@pytest.mark.parametrize("verdict", ["distinct", "linked"])
def test_a_verdict_on_a_group_holds_for_every_pair(quick: Any, verdict: str) -> None:
    for name in "abc":
        quick.put(f"{name}.png", PNG + b"1")
    quick.list()
    assert groups(quick) == sets("a.png b.png c.png")
    catalog = open_catalog(quick.settings)
    (name,) = set(catalog.read("groups", ["group_id"])["group_id"])
    said = verdicts_on_group(catalog, name[:8], verdict)
    assert record_verdicts(quick.settings, said, by="anna") == 3
    quick.list()
    assert groups(quick) == set()
    with pytest.raises(MergeError, match="no groups begin"):
        verdicts_on_group(catalog, "ffffffffff", verdict)


def test_the_last_word_is_the_last_whatever_the_clock_says(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock was behind said something later, and it did not hold."""
    for name in "ab":
        quick.put(f"{name}.png", PNG + b"1")
    quick.list()
    say(quick, "a.png", "b.png", "distinct")
    behind = time.time_ns() - 10**15
    monkeypatch.setattr(time, "time_ns", lambda: behind)
    monkeypatch.setattr(module, "now", lambda: now() - timedelta(days=9))
    say(quick, "b.png", "a.png", "duplicate")
    quick.list()
    assert groups(quick) == sets("a.png b.png")
    words = [word for word in read_audit(quick.settings)["what"] if word.startswith("verdict")]
    assert words == ["verdict distinct", "verdict duplicate"]


@pytest.mark.long
@pytest.mark.parametrize("verdict", first_of("distinct", "linked"))
def test_a_pair_of_equal_bytes_and_what_comes_after(quick: Any, verdict: str) -> None:
    quick.put("a.png", PNG + b"1")
    quick.put("b.png", PNG + b"1")
    quick.put("x.png", PNG + b"2")
    quick.put("y.png", PNG + b"2")
    quick.list()
    assert groups(quick) == sets("a.png b.png", "x.png y.png")
    say(quick, "b.png", "a.png", verdict)
    quick.list()
    assert groups(quick) == sets("x.png y.png"), "this pair, and no other"
    # a third copy: asked about, with one of the two
    quick.put("c.png", PNG + b"1")
    quick.list()
    (asked,) = groups(quick) - sets("x.png y.png")
    assert "c.png" in asked
    assert not asked >= {"a.png", "b.png"}
    quick.s3.client.delete_object(Bucket=quick.bucket, Key="c.png")
    # removed and uploaded again with the same content: not asked again
    quick.s3.client.delete_object(Bucket=quick.bucket, Key="a.png")
    quick.list()
    quick.put("a.png", PNG + b"1")
    quick.list()
    assert groups(quick) == sets("x.png y.png")
    # another content on both sides: asked again; and the old ones: as it was said of them
    for body, expected in ((b"3", sets("a.png b.png", "x.png y.png")), (b"1", sets("x.png y.png"))):
        quick.put("a.png", PNG + body)
        quick.put("b.png", PNG + body)
        quick.list()
        assert groups(quick) == expected
    say(quick, "a.png", "b.png", "duplicate")  # the last word
    quick.list()
    assert groups(quick) == sets("a.png b.png", "x.png y.png")
    said = read_verdicts(open_catalog(quick.settings))
    assert said["verdict"].to_list() == [verdict, "duplicate"], "nothing is forgotten"
    assert read_audit(quick.settings)["what"].to_list() == [
        f"verdict {verdict}",
        "verdict duplicate",
    ]


def test_nothing_was_said_of_the_two_others(quick: Any) -> None:
    """Both are not the first; whether they are each other's copies is still open."""
    for key in ("a.png", "b.png", "c.png"):
        quick.put(key, PNG)
    quick.list()
    (first, *others) = sorted(next(iter(groups(quick))))
    for other in others:
        say(quick, first, other, "distinct")
    quick.list()
    assert groups(quick) == {frozenset(others)}
    scan, _, _, _ = last_scan(quick.settings)
    rows = open_catalog(quick.settings).read(
        "groups", ["role", "score", "tier"], f"scan_id = '{scan.id}'"
    )
    assert sorted(rows["role"]) == [Role.DUPLICATE.value, Role.KEEPER.value]
    assert set(rows["tier"]) == {Tier.EXACT.value}
    assert quick.plan("quarantine").groups[0].refused == ""
    say(quick, *others, "linked")
    quick.list()
    assert groups(quick) == set()


@pytest.mark.long
def test_near_copies(make_site: Any) -> None:
    """Pictures that the pixels call copies, and one that they do not."""
    site = make_site("plain")
    big = noise(1, 320)
    site.put("a.png", encode(big))
    site.put("b.jpg", encode(big.resize((200, 150)), "JPEG", quality=80))
    site.put("c.jpg", encode(big, "JPEG", quality=70))
    site.put("z.png", encode(noise(5, 240)))
    site.scan()
    assert groups(site) == sets("a.png b.jpg c.jpg")
    say(site, "a.png", "b.jpg", "distinct")
    say(site, "a.png", "z.png", "duplicate")
    site.scan()
    found = groups(site)
    assert not any({"a.png", "b.jpg"} <= group for group in found)
    assert any({"a.png", "z.png"} <= group for group in found), "vouched for below the threshold"
    assert any("c.jpg" in group for group in found), "nothing was said of it"
    site.put("z.png", encode(noise(6, 240)))
    site.put("b.jpg", encode(big.resize((204, 153)), "JPEG", quality=80))
    site.scan()
    found = groups(site)
    assert any({"a.png", "b.jpg"} <= group for group in found), "b is another picture now"
    assert not any("z.png" in group for group in found)


def noise(seed: int, width: int) -> Image.Image:
    import numpy as np

    grid = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(grid).resize((320, 240), Image.Resampling.BICUBIC)
    return image.resize((width, width * 3 // 4))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# ---- recording -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(make_site: Any) -> Any:
    """Two buckets in one catalog; a.png is in both, hostile keys in one."""
    site, other = make_site("plain"), make_site("plain")
    for key in ("a.png", "b.png", "new\nline.png", "=1+1.png", 'quo"te, comma.png'):
        site.put(key, PNG)
    other.put("a.png", PNG)
    other.put("only-there.png", PNG)
    other.settings = other.settings.model_copy(update={"catalog": site.settings.catalog})
    other.list()
    site.list()
    return site


def test_csv_all_or_nothing(two: Any) -> None:
    before = read_verdicts(open_catalog(two.settings)).height
    text = (
        "left,right,verdict,comment\n"
        'b.png,"new\nline.png",distinct,fine\n'
        "b.png,nowhere.png,distinct,\n"
        "b.png,b.png,distinct,\n"
        "b.png,=1+1.png,same,\n"
        "b.png,a.png,linked,\n"
        "b.png,only-there.png,linked,\n"
        "b.png\n"
        "b.png,=1+1.png,,not decided\n"
    )
    with pytest.raises(MergeError) as caught:
        record_verdicts(two.settings, parse_verdicts(text), by="anna")
    lines = str(caught.value).splitlines()
    assert lines[0] == "no verdict was recorded:"
    told = dict(line.strip().split(": ", 1) for line in lines[1:])
    assert list(told) == ["pair 2", "pair 3", "pair 4", "pair 5", "pair 6"]
    assert "'nowhere.png'" in told["pair 2"]
    assert "one asset" in told["pair 3"]
    assert "'same' is none of duplicate, linked, distinct" in told["pair 4"]
    assert "several sources: give its asset id" in told["pair 5"]
    assert "different sources" in told["pair 6"]
    assert read_verdicts(open_catalog(two.settings)).height == before


def test_csv_of_hostile_keys(two: Any) -> None:
    text = (
        "\ufeffcomment,verdict,right,left\r\n"
        'why not, Distinct ,"new\nline.png",b.png\r\n'
        ',LINKED,"quo""te, comma.png",=1+1.png\r\n'
    )
    assert record_verdicts(two.settings, parse_verdicts(text), by=" anna  b ", channel="csv") == 2
    last = read_verdicts(open_catalog(two.settings)).tail(2)
    assert [{row["left_key"], row["right_key"]} for row in last.to_dicts()] == [
        {"b.png", "new\nline.png"},
        {"=1+1.png", 'quo"te, comma.png'},
    ]
    assert last["by"].to_list() == ["anna b", "anna b"]
    assert last["comment"].to_list() == ["why not", ""]


@pytest.mark.parametrize(
    ("text", "words"),
    [("left,right\na,b\n", "no column verdict"), ("", "no column left, right, verdict")],
)
def test_what_is_no_such_csv(text: str, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        parse_verdicts(text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_verdicts_saved_by_a_european_spreadsheet(encoding: str) -> None:
    text = 'left;right;verdict;comment\r\n\'=1.png;"a;b.png";Distinct;für später\r\n'
    assert parse_verdicts(text.encode(encoding)) == [
        Verdict("=1.png", "a;b.png", "distinct", "für später")
    ]


def test_bytes_that_are_no_text_are_told() -> None:
    with pytest.raises(MergeError, match="save it as CSV in UTF-8"):
        parse_verdicts(b"left,right,verdict\n\x81,b,linked\n")


def test_a_short_row_is_told_not_a_crash(two: Any) -> None:
    with pytest.raises(MergeError, match="pair 1: the catalog knows no picture ''"):
        record_verdicts(
            two.settings, parse_verdicts("verdict,left,right\nlinked,b.png\n"), by="anna"
        )


def test_an_asset_id_tells_sources_apart(two: Any) -> None:
    rows = open_catalog(two.settings).read("assets", ["asset_id", "source", "key"])
    rows = rows.filter(key="a.png")
    mine = rows.filter(pl.col("source").str.contains(two.bucket))["asset_id"].item()
    say(two, mine, "b.png", "linked")
    last = read_verdicts(open_catalog(two.settings)).tail(1)  # the first verdict makes the table
    assert mine in (last["left_asset"].item(), last["right_asset"].item())
    assert two.bucket in last["source"].item()


@pytest.mark.parametrize("by", ["", "  \n"])
def test_somebody_has_to_say_it(two: Any, by: str) -> None:
    with pytest.raises(MergeError, match="--by"):
        say(two, "b.png", "=1+1.png", "linked", by=by)


# ---- properties ------------------------------------------------------------------------------

ASSETS = [f"a{n}" for n in range(7)]
CONTENTS = ["p", "q", "r", "s"]
FRAME = {
    "sequence": pl.Int64,
    "left_asset": pl.String,
    "right_asset": pl.String,
    "left": pl.String,
    "right": pl.String,
    "verdict": pl.String,
}


@st.composite
def library(draw: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Assets with contents, and verdicts of which some are about other contents."""
    content = {name: draw(st.sampled_from(CONTENTS)) for name in ASSETS}
    asset = st.sampled_from(ASSETS)
    when = st.sampled_from(["now", "now", "then"])
    pair = st.tuples(asset, asset, st.sampled_from(VERDICTS), when)
    pairs = draw(st.lists(pair.filter(lambda one: one[0] < one[1]), max_size=12))
    rows = [
        {
            "sequence": n,
            "left_asset": left,
            "right_asset": right,
            "verdict": verdict,
            "left": content[left] if when == "now" else "old",
            "right": content[right],
        }
        for n, (left, right, verdict, when) in enumerate(pairs)
    ]
    assets = pl.DataFrame({"asset_id": list(content), "content": list(content.values())})
    return assets, pl.DataFrame(rows, schema=FRAME)


def last_words(verdicts: pl.DataFrame, assets: pl.DataFrame) -> dict[tuple[str, str], str]:
    content = dict(assets.iter_rows())
    found = {}
    for row in verdicts.sort("sequence").iter_rows(named=True):
        pair = row["left_asset"], row["right_asset"]
        if (row["left"], row["right"]) == (content[pair[0]], content[pair[1]]):
            found[pair] = row["verdict"]
    return found


@settings(max_examples=60, deadline=None)
@given(library(), st.randoms())
def test_the_last_word_in_whatever_order_they_are_read(data: Any, random: Any) -> None:
    assets, verdicts = data
    mixed = list(range(verdicts.height))
    random.shuffle(mixed)
    found = current(verdicts[mixed], assets.sample(fraction=1, shuffle=True))
    assert found.equals(current(verdicts, assets))
    assert {
        (row["left_asset"], row["right_asset"]): row["verdict"] for row in found.to_dicts()
    } == last_words(verdicts, assets)


@settings(max_examples=60, deadline=None)
@given(library(), st.lists(st.integers(0, 5), unique=True))
def test_matches_are_silenced_only_when_all_pairs_are_answered(data: Any, chosen: Any) -> None:
    assets, verdicts = data
    every = [(a, b) for a in CONTENTS for b in CONTENTS if a < b]
    pairs = [every[n] for n in chosen]
    matches = pl.DataFrame(
        {
            "left": [a for a, _ in pairs],
            "right": [b for _, b in pairs],
            "score": pl.Series([0.8] * len(pairs), dtype=pl.Float32),
        },
        schema={"left": pl.String, "right": pl.String, "score": pl.Float32},
    )
    said = current(verdicts, assets)
    found = apply_verdicts(matches, said, assets)
    assert found.select("left", "right").is_duplicated().sum() == 0
    words = last_words(verdicts, assets)
    content = dict(assets.iter_rows())
    for a, b in every:
        between = [
            words.get((x, y))
            for x in ASSETS
            for y in ASSETS
            if x < y and {content[x], content[y]} == {a, b}
        ]
        silenced = bool(between) and all(word in ("distinct", "linked") for word in between)
        expected = "duplicate" in between or ((a, b) in pairs and not silenced)
        assert ((a, b) in set(found.select("left", "right").iter_rows())) == expected


@settings(max_examples=80, deadline=None)
@given(library(), st.randoms())
def test_groups_after_verdicts(data: Any, random: Any) -> None:
    assets, verdicts = data
    said = current(verdicts, assets)
    homes = {"p": "g1", "q": "g1", "r": "g2", "s": "g2"}
    rows, seen = [], set()
    for asset, content in assets.iter_rows():
        home = homes[content]
        rows.append(
            {
                "group_id": home,
                "asset_id": asset,
                "content": content,
                "score": 1.0,
                "role": (Role.DUPLICATE if home in seen else Role.KEEPER).value,
                "same_pixels": True,
            }
        )
        seen.add(home)
    members = pl.DataFrame(rows).cast({"score": pl.Float32}).filter(pl.len().over("group_id") > 1)
    found = keep_apart(members, said)
    words = last_words(verdicts, assets)
    apart = {frozenset(pair) for pair, word in words.items() if word != "duplicate"}
    assert found["asset_id"].is_unique().all()
    for group in found.partition_by("group_id"):
        names = group["asset_id"].to_list()
        assert len(names) > 1
        assert (group["role"] == Role.KEEPER.value).sum() == 1
        assert not any(frozenset((x, y)) in apart for x in names for y in names)
    # equal contents that nobody keeps apart from anything stay together
    free = set(ASSETS) - {name for pair in apart for name in pair}
    home = dict(found.select("asset_id", "group_id").iter_rows())
    content = dict(assets.iter_rows())
    for x in free & set(members["asset_id"]):
        for y in free & set(members["asset_id"]):
            if content[x] == content[y] and x < y:
                assert home.get(x) is not None
                assert home[x] == home[y]
    mixed = list(range(members.height))
    random.shuffle(mixed)
    again = keep_apart(members[mixed], said)
    assert again.sort("asset_id").equals(found.sort("asset_id"))


def test_the_form_writes_what_the_command_writes(quick: Any) -> None:
    quick.put("a.png", PNG + b"1")
    quick.put("b.png", PNG + b"1")
    quick.list()
    request = VerdictRequest(left="b.png", right="a.png", verdict="distinct", given_by=" anna ")
    assert give_verdict(quick.settings, request) == 1
    row = read_verdicts(open_catalog(quick.settings)).row(0, named=True)
    assert (row["verdict"], row["by"], row["channel"]) == ("distinct", "anna", "prefect")
    quick.list()
    assert groups(quick) == set()


def test_early_emptying_names_a_plan_before_anybody_is_asked() -> None:
    with pytest.raises(ValidationError, match="one plan's id"):
        EmptyRequest(emptied_by="anna", early=True)

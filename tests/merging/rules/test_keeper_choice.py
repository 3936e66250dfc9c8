"""Which asset stays under a policy, and what is never lost."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import MergeError
from tasks.merging.rules.keeper_choice import KeeperChoice, choose_keeper
from tasks.merging.rules.plans import Member
from tasks.merging.rules.policy import (
    LISTS,
    WORDS,
    Caps,
    Criterion,
    Policy,
    Rights,
    Rule,
    load_policy,
)
from tasks.merging.rules.rights import last_moment, read_licence, untouchable
from tasks.records import Tier

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OLD = datetime(2024, 1, 1, tzinfo=UTC)


def member(key: str, **facts) -> Member:
    usual = {"size": 1000, "width": 100, "height": 100, "format": "jpeg", "last_modified": OLD}
    return Member(asset_id=f"id-{key}", key=key, **({"content": "c"} | usual | facts))


def policy(rule: str = "", **parts) -> Policy:
    read = load_policy(f"version: 1\nname: p\nrules:\n  - name: r\n    {rule}\n", "p")
    return read.model_copy(update=parts)


def choose(*members: Member, rule: str = "", wanted: str | None = None, **parts) -> KeeperChoice:
    chosen = policy(rule, **parts)
    return choose_keeper(members, chosen, chosen.rules[0], NOW, wanted)


@pytest.mark.parametrize(
    ("rule", "better", "worse", "reason"),
    [
        (
            "keeper: [resolution]",
            {"width": 4000, "height": 3000},
            {"width": 1200, "height": 900},
            "larger (4000x3000 against 1200x900)",
        ),
        ("", {"original": True}, {"width": 900}, "original by the pixels' evidence"),
        ("", {"format": "png"}, {"size": 9000}, "preferred format (png against jpeg)"),
        ("", {"quality": 95}, {"quality": 80}, "better quality (95 against 80)"),
        (
            "keeper: [quality]",
            {"format": "png"},
            {"quality": 100},
            "better quality (lossless against 100)",
        ),
        ("", {"quality": 10}, {}, "better quality (10 against unknown)"),
        (
            "",
            {"tags": {"a": "1"}, "xmp": {"b": "2"}},
            {"metadata": {"a": "1", "b": " "}},
            "more fields filled in (2 against 1)",
        ),
        ("", {"size": 12345}, {}, "more bytes (12,345 against 1,000)"),
        (
            "",
            {"last_modified": OLD - timedelta(days=9)},
            {},
            "older (2023-12-23 against 2024-01-01)",
        ),
        (
            "keeper: [newest]",
            {"last_modified": OLD + timedelta(seconds=1)},
            {},
            "newer (2024-01-01 00:00:01 UTC against 2024-01-01 00:00:00 UTC)",
        ),
        # What was only restored for a while loses against its equal, whichever is the older.
        ("", {"last_modified": OLD + timedelta(days=9)}, {"archived": True}, "not in an archive"),
        ("keeper: [size]", {}, {"archived": True}, "not in an archive"),
        ("", {"archived": True, "size": 1001}, {}, "more bytes (1,001 against 1,000)"),
        ("keeper: [sidecar]", {"sidecar": "x.xmp"}, {}, "has a sidecar (x.xmp)"),
        ("keeper: [{tags: approved}]", {"tags": {"approved": ""}}, {}, "tagged approved"),
        (
            "keeper: [{tags: approved}]",
            {"tags": {"approved": "yes"}},
            {"tags": {"approved": "no"}},
            "tagged approved",
        ),
        (
            "keeper: [{tags: [status=final, status=draft]}]",
            {"tags": {"status": "draft"}},
            {"tags": {"status": "bin"}},
            "tagged status=draft",
        ),
        (
            "",
            {"tags": {"licence-expires": "2031-01-01"}},
            {"tags": {"licence-expires": "2020-05-01"}, "width": 900},
            "valid licence until 2031-01-01 (the other: expired 2020-05-01)",
        ),
        (
            "",
            {"tags": {"licence": "CC"}},
            {"tags": {"licence": "cc", "licence-expires": "2031-01-01"}},
            "valid licence (the other: valid licence until 2031-01-01)",
        ),
        (
            "",
            {"tags": {"release": "yes"}},
            {"tags": {"release": "no"}},
            "none, released (the other: none)",
        ),
    ],
)
def test_criteria_and_their_words(rule, better, worse, reason):
    for first, second in (("a", "b"), ("b", "a")):  # never by the key
        choice = choose(member(first, **better), member(second, **worse), rule=rule)
        assert choice.keeper.key == first
        assert choice.reasons == (reason,)
        assert choice.refused == ""


def test_prefixes_in_their_order():
    members = [member(key) for key in ("a/x", "raw/x", "masters/x")]
    choice = choose(*members, rule="keeper: [{prefix: [masters/, raw/]}]")
    assert [choice.keeper.key, *(one.key for one in choice.duplicates)] == [
        "masters/x",
        "raw/x",
        "a/x",
    ]
    assert choice.reasons == ("in the preferred prefix masters/",)


def test_every_criterion_that_separated_somebody_is_a_reason_once():
    choice = choose(
        member("a", width=400),
        member("b", width=200),
        member("c", width=400, size=10),
        member("d", width=400),
        member("e", width=300),
    )
    assert choice.keeper.key == "a"
    assert choice.reasons == (
        "larger (400x100 against 300x100, 200x100)",
        "more bytes (1,000 against 10)",
        "first by its key, all else being equal",
    )
    assert [one.key for one in choice.duplicates] == ["d", "c", "e", "b"]


def test_of_equal_files_the_one_that_is_named_as_a_copy_goes():
    choice = choose(member("b/photo 1 (copy).png"), member("c/photo 1.png"))
    assert choice.keeper.key == "c/photo 1.png"
    assert choice.reasons == ("not named as a copy",)
    older = choose(member("photo 1 (copy).png"), member("photo 1.png", last_modified=NOW))
    assert older.keeper.key == "photo 1 (copy).png", "what the policy asks for comes first"


def test_several_others_share_one_reason():
    choice = choose(
        member("a", tags={"licence-expires": "2031-01-01"}),
        member("b"),
        member("c", tags={"licence-expires": "2020-05-01"}),
    )
    (reason,) = choice.reasons
    assert reason == "valid licence until 2031-01-01 (the others: expired 2020-05-01, none)"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"held": "legal hold"}, "legal hold"),
        ({"tags": {"hold": "court"}}, "tags.hold court"),
        ({"tags": {"hold": ""}}, "tags.hold"),  # a mere marker
    ],
)
def test_what_may_not_be_touched_is_the_keeper(facts, why):
    choice = choose(member("big", width=9000), member("small", **facts))
    assert choice.keeper.key == "small"
    assert choice.reasons == (f"may not be touched ({why})",)
    assert choice.refused == ""


@pytest.mark.parametrize("value", ["no", "False", "off", " 0 "])
def test_a_hold_that_was_lifted(value):
    choice = choose(member("big", width=9000), member("small", tags={"hold": value}))
    assert choice.keeper.key == "big"


def test_two_that_may_not_be_touched_are_refused():
    choice = choose(
        member("masters/b"), member("a", held="legal hold"), member("c"), protected=("masters/",)
    )
    assert choice.refused == (
        "2 assets may not be touched: a (legal hold), masters/b (protected prefix masters/)"
    )


def test_a_hold_that_lives_nowhere_is_not_looked_for():
    held = member("a", tags={"hold": "yes"}, width=50)
    assert choose(member("b"), held, rights=Rights(hold=None)).keeper.key == "b"


def test_a_person_wins_over_criteria():
    choice = choose(member("a", width=900), member("b"), wanted="b")
    assert (choice.keeper.key, choice.reasons, choice.refused) == ("b", ("chosen by a person",), "")


def test_a_person_does_not_win_over_a_hold():
    choice = choose(member("a", held="legal hold"), member("b"), wanted="b")
    assert choice.keeper.key == "a"
    assert choice.refused == "b was chosen, but a may not be touched (legal hold)"
    assert choose(member("a", held="legal hold"), member("b"), wanted="a").refused == ""


def test_a_person_does_not_win_over_a_licence():
    licensed = member("a", tags={"licence": "RF", "licence-expires": "2031-01-01"})
    choice = choose(licensed, member("b"), wanted="b")
    assert choice.refused == (
        "the keeper b has no valid licence, but a (valid licence until 2031-01-01) would go"
    )


def test_an_unknown_keeper_is_an_error():
    with pytest.raises(MergeError, match="'z' is not in this group; its members: a, b"):
        choose(member("a"), member("b"), wanted="z")
    with pytest.raises(MergeError, match="without members"):
        choose()


def test_the_only_licence_is_not_lost_to_criteria_without_licence():
    licensed = member("a", tags={"licence": "RF"})
    expired = member("b", width=900, tags={"licence": "RF", "licence-expires": "2026-05-31"})
    choice = choose(licensed, expired, rule="keeper: [resolution]")
    assert choice.keeper.key == "b"
    assert choice.refused == "the keeper b has no valid licence, but a (valid licence) would go"
    assert choose(licensed, expired).refused == ""


def test_licence_and_release_of_two_assets_cannot_both_be_kept():
    choice = choose(member("a", tags={"licence": "RF"}), member("b", tags={"release": "r-1"}))
    assert choice.refused == "the keeper a has no release, but b would go with one"


def test_a_day_lasts_until_its_end():
    today = member("a", tags={"licence-expires": "2026-06-01"})
    assert read_licence(today, policy(), NOW).valid
    assert read_licence(today, policy(), datetime(2026, 6, 2, tzinfo=UTC)).words == (
        "expired 2026-06-01"
    )


@pytest.mark.parametrize(
    "text", ["01/02/2031", "2031", "2031:01:01", "soon", "2031-02-30", "0001-01-01T00:00+10:00", ""]
)
def test_what_is_no_date(text):
    assert last_moment(text) is None


def test_times_have_zones():
    assert last_moment("2031-01-01T02:00:00+02:00") == datetime(2031, 1, 1, tzinfo=UTC)
    assert last_moment("2031-01-01T00:00:00") == datetime(2031, 1, 1, tzinfo=UTC)


def test_dates_that_cannot_be_read_are_asked():
    choice = choose(
        member("a", tags={"licence-expires": "01/02/2031"}),
        member("b", tags={"embargo-until": "soon"}),
    )
    assert choice.questions == (
        "a: tags.licence-expires '01/02/2031' is no ISO 8601 date: until when is it licensed?",
        "b: tags.embargo-until 'soon' is no ISO 8601 date: until when is it under embargo?",
    )
    assert choice.refused == ""


def test_differing_rights_are_asked():
    choice = choose(
        member("a.jpg", tags={"owner": "north", "licence": "RF"}),
        member("b.jpg", tags={"owner": "south", "licence": " rf "}),
        member("c.jpg", tags={"owner": " "}),
    )
    assert choice.questions == ("owner differs: a.jpg: north, b.jpg: south: who keeps the rights?",)


def test_rights_that_live_elsewhere():
    choice = choose(
        member("a", xmp={"rights": "A"}),
        member("b", xmp={"rights": "B"}, tags={"licence": "RF"}, width=50),
        rights=Rights(licence="xmp.rights", owner=None),
    )
    assert choice.keeper.key == "a"
    assert choice.questions == ("licence differs: a: A, b: B: which one holds?",)


def test_an_embargo_is_refused_until_it_is_over():
    choice = choose(member("a"), member("b", tags={"embargo-until": "2026-06-02"}))
    assert choice.refused == "under embargo: b (until 2026-06-02)"
    assert choose(member("a"), member("b", tags={"embargo-until": "2026-05-31"})).refused == ""


def test_what_is_young_is_left_alone():
    young = member("b", last_modified=NOW - timedelta(hours=23, minutes=30))
    assert choose(member("a"), young).refused == "younger than 24 h: b (23.5 h)"
    day_old = replace(young, last_modified=NOW - timedelta(hours=24))
    assert choose(member("a"), day_old).refused == ""
    ahead = replace(young, last_modified=NOW + timedelta(seconds=5))  # clocks differ
    assert "b (0.0 h)" in choose(member("a"), ahead).refused
    assert choose(member("a"), ahead, minimum_age_hours=0.0).refused == ""


def test_a_group_beyond_the_cap_is_refused():
    members = [member(f"k{n}") for n in range(4)]
    assert choose(*members, caps=Caps(group=3)).refused == (
        "4 members are more than the 3 that caps.group allows"
    )
    assert choose(*members[:3], caps=Caps(group=3)).refused == ""


def test_all_refusals_come_at_once():
    refused = choose(
        member("a", last_modified=NOW, tags={"embargo-until": "2031-01-01"}),
        member("b", tags={"licence": "RF"}),
        rule="keeper: [newest]",
    ).refused
    assert [part.split(":")[0] for part in refused.split("; ")] == [
        "the keeper a has no valid licence, but b (valid licence) would go",
        "younger than 24 h",
        "under embargo",
    ]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"flags": ("flat",)}, "is of one colour"),
        ({"flags": ("tiny", "aspect")}, "is tiny"),
        ({"flags": ("multi_frame",)}, "has several frames, of which only the first was compared"),
    ],
)
def test_odd_pictures_are_asked(facts, words):
    choice = choose(member("a"), member("b", **facts))
    assert choice.questions == (f"b {words}: is it really the same picture?",)
    assert choice.refused == ""


def test_long_lists_are_cut():
    members = [member(f"k{n:02}", held="legal hold") for n in range(9)]
    refused = choose(*members).refused
    assert refused.startswith("9 assets may not be touched: k00 (legal hold), ")
    assert refused.endswith("k04 (legal hold) and 4 more")


DATES = st.sampled_from(["", "2020-05-01", "2030-01-01", "2031-01-01", "soon"])
TAGS = st.fixed_dictionaries(
    {},
    optional={
        "licence": st.sampled_from(["", "RF", "CC"]),
        "licence-expires": DATES,
        "release": st.sampled_from(["", "no", "r-1"]),
        "owner": st.sampled_from(["", "north", "south"]),
        "hold": st.sampled_from(["no", "yes"]),
        "approved": st.just(""),
    },
)
MEMBERS = st.lists(
    st.builds(
        member,
        st.builds(
            "{}{}".format, st.sampled_from(["", "", "masters/"]), st.integers(0, 30).map(str)
        ),
        width=st.sampled_from([100, 200]),
        format=st.sampled_from(["jpeg", "png", "raw"]),
        quality=st.sampled_from([None, 80, 95]),
        tags=TAGS,
        held=st.sampled_from(["", "", "", "legal hold"]),
        original=st.booleans(),
        sidecar=st.sampled_from([None, "x.xmp"]),
        flags=st.sampled_from([(), ("flat",)]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one.key,
)
SOME_VALUES = {"prefix": ("1", "2"), "format": ("png",), "tags": ("approved", "owner=north")}
KEEPERS = st.lists(
    st.sampled_from([*WORDS, *LISTS]).map(
        lambda name: Criterion(name=name, values=SOME_VALUES.get(name, ()))
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one.name,
).filter(lambda some: not {"oldest", "newest"} <= {one.name for one in some})


@settings(max_examples=250, deadline=None)
@given(data=st.data(), members=MEMBERS, keeper=KEEPERS)
def test_what_always_holds(data, members, keeper):
    rule = Rule(name="r", keeper=tuple(keeper))
    chosen = Policy(version=1, name="p", protected=("masters/",), rules=(rule,))
    wanted = data.draw(st.sampled_from([None, *(one.key for one in members)]))
    before = deepcopy(members)
    choice = choose_keeper(members, chosen, rule, NOW, wanted)

    shuffled = data.draw(st.permutations(members))
    assert choose_keeper(shuffled, chosen, rule, NOW, wanted) == choice
    assert members == before
    assert sorted(one.key for one in (choice.keeper, *choice.duplicates)) == sorted(
        one.key for one in members
    )
    assert choice.reasons or len(members) == 1
    if not choice.refused:
        assert not any(untouchable(one, chosen) for one in choice.duplicates)
        assert wanted in (None, choice.keeper.key)
        licences = [read_licence(one, chosen, NOW) for one in choice.duplicates]
        kept = read_licence(choice.keeper, chosen, NOW)
        assert kept.valid or not any(licence.valid for licence in licences)
        assert kept.release or not any(licence.release for licence in licences)
    if wanted is None and sum(bool(untouchable(one, chosen)) for one in members) == 1:
        assert untouchable(choice.keeper, chosen)
    owners = {one.tags.get("owner") for one in members} - {"", None}
    assert any(text.startswith("owner differs") for text in choice.questions) == (len(owners) > 1)


@pytest.mark.parametrize(
    ("rule", "second", "asked"),
    [
        ("", {}, True),
        ("", {"copy": True}, False),
        ("", {"content": "a"}, False),  # the same pixels
        ("", {"width": 100}, False),  # equally large, only encoded anew
        ("", {"width": 100, "tier": Tier.NEAR}, True),
        ("keeper: [oldest]", {}, False),  # the policy has said what decides
        ("", {"tags": {"licence-expires": "2031-01-01"}}, False),  # a licence decides before
    ],
)
def test_where_the_original_is_unknown_a_person_is_asked(rule, second, asked):
    one = member("a.jpg", content="a")
    two = replace(member("b.jpg", content="b", width=90), **second)
    questions = choose(one, two, rule=rule).questions
    wanted = ("cannot tell which is the original: a.jpg, b.jpg: which one stays?",)
    assert questions == (wanted if asked else ())
    assert choose(one, two, rule=rule, wanted="b.jpg").questions == ()

"""What a keeper takes over from its duplicates, and what is left to a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import MergeError
from tasks.merging.rules import metadata
from tasks.merging.rules.metadata import fold, list_rules, merge_metadata
from tasks.merging.rules.plans import FieldRule, Member


def member(key="keeper.jpg", **facts):
    return Member(key, key, "c", 1, 10, 10, "JPEG", datetime(2026, 1, 1, tzinfo=UTC), **facts)


def merge(name, rule, mine, *theirs, **how):
    """One field of a group: None where a member has none."""
    kind, _, field = name.partition(".")
    sides = [{kind: {} if value is None else {field: value}} for value in (mine, *theirs)]
    members = [member(f"{at}.jpg", **side) for at, side in enumerate(sides)]
    found = merge_metadata(members[0], members[1:], [FieldRule(field=name, rule=rule, **how)])
    return found, getattr(found, kind).get(field)


@pytest.mark.parametrize(
    ("name", "rule", "mine", "theirs", "how", "kept"),
    [
        ("tags.a", "fill", None, ["x"], {}, "x"),
        ("tags.a", "fill", None, ["x", " x "], {}, "x"),
        ("tags.a", "fill", "", ["x"], {}, "x"),
        ("tags.marker", "fill", None, [""], {}, ""),
        ("tags.a", "keeper", "x", ["y"], {}, "x"),
        ("tags.a", "keeper", None, ["y"], {}, None),
        ("metadata.a", "union", "Red, blue", ["RED,green"], {}, "Red, blue, green"),
        ("metadata.a", "union", "b,a", ["c", "a,d"], {}, "b,a,c,d"),
        ("metadata.a", "union", "a,,a", ["A"], {}, "a,,a"),
        ("tags.a", "union", "a b", ["c"], {"separator": " "}, "a b c"),
        ("xmp.keywords", "union", "sea; sun", ["sun; sand"], {}, "sea; sun; sand"),
        ("xmp.keywords", "union", "sea, deep", ["sun"], {}, "sea, deep; sun"),
        ("xmp.keywords", "union", "caf\u00e9", ["cafe\u0301; CAFE\u0301"], {}, "caf\u00e9"),
        ("tags.use", "restrictive", "open", ["none"], {"order": ("none", "open")}, "none"),
        ("tags.use", "restrictive", "none", ["open"], {"order": ("none", "open")}, "none"),
        ("tags.use", "restrictive", None, ["open"], {"order": ("none", "open")}, "open"),
        ("xmp.d", "earliest", "2024-05-01", ["2023-12-31T23:59:59"], {}, "2023-12-31T23:59:59"),
        ("xmp.d", "latest", "2024-05-01", ["2023-12-31"], {}, "2024-05-01"),
        (
            "xmp.d",
            "earliest",
            "2024-05-01T00:00:00",
            ["2024-05-01T01:00+02:00"],
            {},
            "2024-05-01T01:00+02:00",
        ),
        ("xmp.d", "earliest", "2024-05-01", ["2024-05-01T00:00Z"], {}, "2024-05-01"),
    ],
)
def test_a_rule_decides(name, rule, mine, theirs, how, kept):
    found, value = merge(name, rule, mine, *theirs, **how)
    assert value == kept
    assert found.conflicts == ()
    assert [(one.rule, one.had, one.kept, one.conflict) for one in found.fields] == [
        (rule, mine, kept, False)
    ]


@pytest.mark.parametrize(
    ("name", "rule", "mine", "theirs", "how", "why"),
    [
        ("tags.a", "fill", "x", ["y"], {}, "differ"),
        ("tags.a", "fill", None, ["x", "y"], {}, "differ"),
        ("tags.a", "ask", None, ["x"], {}, "asks"),
        ("tags.use", "restrictive", "open", ["odd"], {"order": ("open",)}, "'odd' is not in"),
        ("xmp.d", "latest", "2024-05-01", ["spring"], {}, "'spring' is no ISO 8601 date"),
        ("xmp.d", "earliest", None, ["2024:05:01 10:00:00"], {}, "no ISO 8601 date"),
        ("tags.a", "union", "a", ["b"], {"separator": ","}, "does not fit: S3 allows no ','"),
        ("metadata.a", "union", "a-", ["b"], {"separator": "--"}, "cannot be joined"),
        ("xmp.description", "fill", None, ["x" * 2000], {}, "read in part"),
        ("tags.a", "fill", None, ["x" * 257], {}, "does not fit"),
        ("tags.a", "fill", None, ["\U00020000" * 129], {}, "does not fit"),
        ("tags." + "n" * 129, "fill", None, ["x"], {}, "does not fit"),
        ("tags.a", "fill", None, ["50%"], {}, "no '%'"),
        ("tags.aws:x", "fill", None, ["1"], {}, "Amazon"),
        ("metadata.a", "fill", None, ["x" * 2048], {}, "2048 bytes"),
        ("metadata.a", "fill", None, ["\u00e9" * 800], {}, "2048 bytes"),
        ("metadata.a", "fill", None, ["a\nb"], {}, "control characters"),
    ],
)
def test_what_is_not_clear_or_does_not_fit_is_asked(name, rule, mine, theirs, how, why):
    found, value = merge(name, rule, mine, *theirs, **how)
    assert value == mine
    (one,) = found.fields
    assert (one.conflict, one.kept, one.had) == (True, mine, mine)
    (sentence,) = found.conflicts
    assert sentence.startswith(f"{name}: ")
    assert why in sentence
    assert all(f"({at}.jpg)" in sentence for at, _ in enumerate(theirs, 1))


def test_letters_of_any_script_fit_a_tag():
    assert merge("tags.ort", "fill", None, "K\u00f6ln \u6771\u4eac 1/2 a@b")[0].conflicts == ()


def test_equal_values_are_not_worth_a_line():
    found, _ = merge("tags.a", "ask", "x", "x ", "x")
    assert (found.fields, found.conflicts) == ((), ())


def test_what_only_the_keeper_has_stays_and_is_not_listed():
    found, value = merge("tags.a", "ask", "x", None)
    assert (value, found.fields) == ("x", ())


def test_a_conflict_names_every_value_and_who_has_it():
    found, _ = merge("tags.a", "fill", "x", "y", "y", "y", "y", "z")
    assert found.conflicts == (
        "tags.a: the values differ: 'x' (0.jpg), 'y' (1.jpg, 2.jpg, 3.jpg and 1 more), 'z' (5.jpg)",
    )


def test_the_first_rule_that_matches_decides():
    rules = [
        FieldRule(field="tags.rights", rule="keeper"),
        FieldRule(field="tags.*", rule="union", separator=" "),
        FieldRule(field="*", rule="ask"),
    ]
    mine = member(tags={"rights": "a", "words": "a"}, metadata={"rights": "a"})
    other = member("b.jpg", tags={"rights": "b", "words": "b"}, metadata={"rights": "b"})
    found = merge_metadata(mine, [other], rules)
    assert [(one.field, one.rule) for one in found.fields] == [
        ("metadata.rights", "ask"),
        ("tags.rights", "keeper"),
        ("tags.words", "union"),
    ]
    assert found.tags == {"rights": "a", "words": "a b"}


def test_a_rule_of_one_list_is_not_asked_about_others(monkeypatch):
    """A sidecar of 512 kB holds 9,000 lists: half a minute went into asking each rule for each."""
    asked = []
    monkeypatch.setattr(
        metadata, "fnmatchcase", lambda *pair: asked.append(pair) or fnmatchcase(*pair)
    )
    names = [f"{{http://a.example/?x=*}}list{number}" for number in range(300)]
    mine = member(xmp=dict.fromkeys(names, "sea"), lists=frozenset(names))
    other = member("b.jpg", xmp=dict.fromkeys(names, "sun"), lists=frozenset(names))
    rules = [*list_rules([mine, other]), FieldRule(field="xmp.a*", rule="ask")]
    found = merge_metadata(mine, [other], rules)
    assert found.xmp == dict.fromkeys(names, "sea; sun")
    assert len(asked) <= len(names), "one pattern, once for each field"


def test_without_a_rule_gaps_are_filled():
    found = merge_metadata(member(), [member("b.jpg", xmp={"title": "Chair"})], [])
    assert found.xmp == {"title": "Chair"}
    assert found.fields[0].others == {"b.jpg": "Chair"}


def test_identities_and_our_own_tags_are_nobody_elses():
    other = member(
        "b.jpg",
        tags={"dam-dedup-group": "g"},
        xmp={
            "document_id": "1",
            "instance_id": "2",
            "original_document_id": "3",
            "derived_from": "4",
        },
    )
    found = merge_metadata(member(tags={"dam-dedup-x": "1"}), [other], [])
    assert (found.fields, found.tags, found.xmp) == ((), {"dam-dedup-x": "1"}, {})


def test_tags_beyond_the_tenth_are_asked():
    mine = member(tags={f"own{n}": "x" for n in range(8)})
    found = merge_metadata(mine, [member("b.jpg", tags=dict.fromkeys("dcba", "x"))], [])
    assert len(found.tags) == 10
    assert [one.field for one in found.fields if one.conflict] == ["tags.c", "tags.d"]
    assert "10 tags" in found.conflicts[0]


def test_what_makes_room_goes_first():
    rules = [FieldRule(field="metadata.z", rule="latest")]
    mine = member(metadata={"z": "2020-01-01" + "T00:00:00", "fat": "x" * 2020})
    other = member("b.jpg", metadata={"z": "2021-01-01", "a": "12"})
    found = merge_metadata(mine, [other], rules)
    assert found.metadata["z"] == "2021-01-01"
    assert found.metadata["a"] == "12"


def test_what_is_withheld_from_a_sidecar():
    mine = member(xmp={"title": "a", "label": "red"})
    other = member("b.jpg", xmp={"title": "b", "label": "red", "credit": "north"})
    assert merge_metadata(mine, [other], []).withheld == {"title"}


NAMES = st.sampled_from(["a", "b", "keywords", "rights", "dam-dedup-group", "document_id"])
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["2024-01-01", "2023-05-05T10:00:00+02:00", "open", "none", "A,b", "a; B", " "]
    ),
    st.integers(200, 2100).map("x".__mul__),
)
SIDE = st.dictionaries(NAMES, TEXTS, max_size=4)
MEMBERS = st.lists(st.tuples(SIDE, SIDE, SIDE), min_size=2, max_size=4).map(
    lambda sides: [
        member(f"{at}.jpg", tags=tags, metadata=metadata, xmp=xmp)
        for at, (tags, metadata, xmp) in enumerate(sides)
    ]
)
RULES = st.lists(
    st.builds(
        FieldRule,
        field=st.sampled_from(["*", "tags.*", "metadata.*", "xmp.*", "xmp.keywords", "tags.a"]),
        rule=st.sampled_from(
            ["fill", "union", "restrictive", "earliest", "latest", "keeper", "ask"]
        ),
        order=st.just(("none", "open")),
        separator=st.sampled_from([",", ";", " ", "; ", "--"]),
    ),
    max_size=4,
)


def value_of(one, field):
    kind, _, name = field.partition(".")
    return getattr(one, kind).get(name)


@given(MEMBERS, RULES)
@settings(max_examples=300, deadline=None)
def test_no_value_is_lost(members, rules):
    keeper, *others = members
    found = merge_metadata(keeper, others, rules)
    listed = {one.field: one for one in found.fields}
    for other in others:
        for kind in ("tags", "metadata", "xmp"):
            for name, value in getattr(other, kind).items():
                field = f"{kind}.{name}"
                if name in ("dam-dedup-group", "document_id") and field not in listed:
                    continue
                kept = value_of(found, field)
                assert (field in listed and listed[field].others[other.key] == value) or (
                    kept is not None and kept.strip() == value.strip()
                )
    for one in found.fields:
        assert value_of(found, one.field) == one.kept
        if one.conflict:
            assert one.kept == one.had
    assert len(found.conflicts) == sum(one.conflict for one in found.fields)
    assert [one.field for one in found.fields] == sorted(listed)


@given(MEMBERS, RULES)
@settings(max_examples=300, deadline=None)
def test_every_word_of_a_union_is_in_the_result(members, rules):
    found = merge_metadata(members[0], members[1:], rules)
    for one in found.fields:
        if one.rule != "union" or one.conflict:
            continue
        marks = [";"] if one.field.startswith("xmp.") else None
        rule = next((rule for rule in rules if rule.rule == "union"), None)
        for mark in marks or [rule.separator.strip() or rule.separator]:
            uniform = all(r.separator == rule.separator for r in rules if r.rule == "union")
            if marks or uniform:
                words = {fold(word) for word in one.kept.split(mark)}
                for text in (one.had or "", *one.others.values()):
                    assert {fold(w) for w in text.split(mark) if w.strip()} <= words


@given(MEMBERS, RULES)
@settings(max_examples=300, deadline=None)
def test_merging_again_changes_nothing(members, rules):
    keeper, *others = members
    once = merge_metadata(keeper, others, rules)
    merged = replace(keeper, tags=once.tags, metadata=once.metadata, xmp=once.xmp)
    twice = merge_metadata(merged, others, rules)
    assert (twice.tags, twice.metadata, twice.xmp) == (once.tags, once.metadata, once.xmp)


def test_a_person_may_choose_the_value_that_wins():
    mine, other = member(tags={"owner": "north"}), member("b.jpg", tags={"owner": " south"})
    asks = [FieldRule(field="*", rule="ask")]
    assert merge_metadata(mine, [other], asks).conflicts
    found = merge_metadata(mine, [other], asks, {"tags.owner": " south"})
    assert (found.tags, found.conflicts) == ({"owner": "south"}, ())
    assert [(one.rule, one.kept, one.conflict) for one in found.fields] == [
        ("chosen", "south", False)
    ]
    found = merge_metadata(mine, [other], asks, {"tags.owner": "north"})
    assert (found.tags, found.conflicts) == ({"owner": "north"}, ())
    for chosen in ({"tags.owner": "west"}, {"tags.place": "north"}):
        with pytest.raises(MergeError, match="cannot be chosen"):
            merge_metadata(mine, [other], asks, chosen)


def test_a_chosen_value_that_s3_would_not_take_is_still_asked():
    mine, other = member(tags={"owner": "north"}), member("b.jpg", tags={"owner": "a,b"})
    found = merge_metadata(mine, [other], [], {"tags.owner": "a,b"})
    assert found.tags == {"owner": "north"}
    assert "S3 allows no ','" in found.conflicts[0]

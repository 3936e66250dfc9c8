"""Policy files: what they say, and what is said of wrong ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.embedding.sniff import PILLOW_FORMATS
from tasks.errors import PolicyError
from tasks.merging.rules.plans import Action, Member
from tasks.merging.rules.policy import (
    FORMATS,
    Caps,
    Policy,
    Quarantine,
    Rule,
    default_policy,
    field_value,
    load_policy,
)
from tasks.records import Tier

EXAMPLE = Path(__file__).parents[3] / "docs" / "policy-example.yaml"
LEAST = "version: 1\nname: least\nrules:\n  - name: all\n"


def complaints(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load_policy(text, "p.yaml")
    head, *lines = str(caught.value).split("\n  ")
    assert head == "the policy is wrong:"
    return lines


def only(text: str) -> str:
    (line,) = complaints(text)
    return line


def test_the_example_loads_and_says_what_it_shows():
    policy = load_policy(EXAMPLE.read_text(), "example")
    assert policy.caps == Caps()  # what it shows as defaults are the defaults
    assert policy.quarantine == Quarantine()
    assert policy.rights == default_policy().rights
    first, second = policy.rules
    assert first.tier == (Tier.EXACT,)
    assert first.action is Action.QUARANTINE
    assert first.automatic is not None
    assert first.automatic.groups == 50
    assert second.tier == (Tier.EXACT, Tier.NEAR)
    assert [one.name for one in second.keeper][:3] == ["prefix", "licence", "tags"]
    assert policy.approvers(first) == ("anna@example.com", "ben@example.com")
    assert policy.approvers(second) == ("anna@example.com",)


def test_the_least_policy_is_cautious():
    policy = load_policy(LEAST, "p.yaml")
    assert policy.rules == (Rule(name="all"),)
    assert policy.rules[0].action is Action.REPORT
    assert policy.rules[0].automatic is None
    assert (policy.caps.objects, policy.caps.bytes) == (500, 20 * 10**9)
    assert policy.minimum_age_hours == 24


def test_without_a_file_nothing_is_touched():
    (rule,) = default_policy().rules
    assert rule.action is Action.REPORT
    assert rule.automatic is None


def test_the_hash_is_of_the_meaning_not_of_the_text():
    spaced = load_policy("# c\nname: 'least'\nversion: 1\nrules: [{name: all}]", "q.yaml")
    written_out = load_policy(LEAST + "minimum_age_hours: 24.0\n", "p.yaml")
    policy = load_policy(LEAST, "p.yaml")
    assert policy.version_hash == spaced.version_hash == written_out.version_hash
    assert len(policy.version_hash) == 12
    assert int(policy.version_hash, 16) >= 0
    other = load_policy(LEAST + "protected: masters/\n", "p.yaml")
    assert other.version_hash != policy.version_hash


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("20GB", 20 * 10**9),
        ("500 mb", 500 * 10**6),
        ("1.5TiB", 3 * 2**39),
        ("2k", 2000),
        ("123", 123),
        ("123 B", 123),
    ],
)
def test_sizes(size, expected):
    assert load_policy(f"{LEAST}caps: {{bytes: {size}}}", "p").caps.bytes == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("protcted: [a/]", "p.yaml:5: protcted: no such key; did you mean protected?"),
        ("caps:\n  share: 0.1\n  objcts: 3", "p.yaml:7: caps.objcts: no such key; did you mean ob"),
        ("caps: {share: 0}", "p.yaml:5: caps.share: 0: Input should be greater than 0"),
        ("caps: {share: 1.01}", "p.yaml:5: caps.share: 1.01: Input should be less than or equal"),
        ("caps: {objects: yes}", "p.yaml:5: caps.objects: True: Input should be a valid integer"),
        ("caps: {objects: '5'}", "p.yaml:5: caps.objects: '5': Input should be a valid integer"),
        ("caps: {bytes: 20 apples}", "p.yaml:5: caps.bytes: '20 apples': is no size; write"),
        ("caps: {bytes: 0GB}", "p.yaml:5: caps.bytes: "),
        ("caps:", "p.yaml:5: caps: nothing is given"),
        ("caps: 7", "p.yaml:5: caps: keys and values are expected"),
        ("minimum_age_hours: .inf", "p.yaml:5: minimum_age_hours: '.inf' is no finite number"),
        ("minimum_age_hours: -1", "p.yaml:5: minimum_age_hours: -1: "),
        ("protected: [/masters]", "p.yaml:5: protected[0]: '/masters': a prefix does not begin"),
        ("protected:\n  - a/\n  - ''", "p.yaml:7: protected[1]: ''"),
        ("protected: [.dam]", "p.yaml:5: protected: '.dam' would protect the quarantine"),
        ("reviewers: [1]", "p.yaml:5: reviewers[0]: 1: Input should be a valid string; put it in"),
        ("rights:\n  licence: tag.x", "p.yaml:6: rights.licence: 'tag.x': is no field; write"),
        ("rights: {owner: no}", "p.yaml:5: rights.owner: False: Input should be a valid string;"),
        ("name: again", "p.yaml:5: name: is given twice, first on line 2"),
        ("quarantine: !!python/name:os.system x", "p.yaml:5: quarantine: the tag !!python/name"),
        ("<<: {a: 1}", "p.yaml:5: <<: no such key"),
    ],
)
def test_a_wrong_value_is_named_with_line_and_key(extra, expected):
    assert only(LEAST + extra).startswith(expected)


@pytest.mark.parametrize(
    "prefix",
    [
        "/q/",
        "q",
        "a/../q/",
        "../",
        "a//q/",
        "./q/",
        "a/.uploads/q/",
        "a/x.versions/",
        "/",
        "q\x7f/",
        ".dam-dedup/",
        ".dam-dedup/late/",
        ".dam-dedup/journal/x/",
        ".dam-dedup/quarantine-places.json/",
    ],
)
def test_a_quarantine_that_could_be_lost_is_refused(prefix):
    with pytest.raises(ValidationError):
        Quarantine(prefix=prefix)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("tier: exct", "5: rules[0].tier: 'exct': Input should be 'exact' or 'near'; did you mean"),
        ("tier: [exact, similar]", "5: rules[0].tier[1]: 'similar': "),
        ("tier: []", "5: rules[0].tier: the list is empty"),
        ("action: qarantine", "5: rules[0].action: 'qarantine': "),
        ("keeper: []", "5: rules[0].keeper: the list is empty"),
        (
            "keeper:\n    - size\n    - resoluton",
            "7: rules[0].keeper[1]: 'resoluton': no criterion 'resoluton'; did you mean resolution",
        ),
        ("keeper: [{format: [tiff, pngg]}]", "5: rules[0].keeper[0]: no format 'pngg'; did you me"),
        ("keeper: [format]", "5: rules[0].keeper[0]: 'format': format needs a list"),
        ("keeper: [{prefix: [3]}]", "5: rules[0].keeper[0]: prefix needs texts"),
        ("keeper: [{size: [3]}]", "5: rules[0].keeper[0]: size takes no values"),
        ("keeper: [size, size]", "5: rules[0].keeper: size is listed twice"),
        ("keeper: [oldest, newest]", "5: rules[0].keeper: oldest and newest contradict"),
        (
            "metadata:\n    - {field: keywords, rule: union}",
            "6: rules[0].metadata[0]: field 'keywords' matches nothing",
        ),
        (
            "metadata:\n    - {field: tags.a, rule: fill}\n    - {field: tags.b, rule: unoin}",
            "7: rules[0].metadata[1].rule: 'unoin': ",
        ),
        (
            "metadata: [{field: tags.v, rule: restrictive}]",
            "5: rules[0].metadata[0]: restrictive n",
        ),
        (
            "metadata: [{feld: tags.v, field: tags.v, rule: ask}]",
            "5: rules[0].metadata[0].feld: no",
        ),
        ("automatic: {groups: 0}", "5: rules[0].automatic.groups: 0: "),
        ("automatic: {groups: 1, tier: near}", "5: rules[0].automatic.tier: 'near': Input should"),
        ("automatic: {}", "5: rules[0].automatic.groups: is missing"),
        ("tier: near\n    automatic: {groups: 1}", "6: rules[0].automatic: approves exact groups"),
        ("name: b", "5: rules[0].name: is given twice, first on line 4"),
    ],
)
def test_a_wrong_rule_is_named_with_line_and_key(extra, expected):
    assert only(f"{LEAST}    {extra}").startswith(f"p.yaml:{expected}")


def test_rules_need_names_of_their_own():
    assert only(LEAST + "  - name: all\n") == "p.yaml:3: rules: two rules are named 'all'"


def test_every_problem_comes_at_once_by_line():
    text = (
        "version: 2\nnmae: x\nname: x\nname: y\ncaps: {group: 1}\n"
        "rules:\n  - tier: exct\n    keeper: [a-z]\n  - 7\n"
    )
    assert [line.split(": ")[0:2] for line in complaints(text)] == [
        ["p.yaml:1", "version"],
        ["p.yaml:2", "nmae"],
        ["p.yaml:4", "name"],
        ["p.yaml:5", "caps.group"],
        ["p.yaml:7", "rules[0].name"],
        ["p.yaml:7", "rules[0].tier"],
        ["p.yaml:8", "rules[0].keeper[0]"],
        ["p.yaml:9", "rules[1]"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: the file is empty"),
        ("# nothing\n", "1: the file is empty"),
        ("[1, 2]", "1: keys and values are expected here"),
        ("version: 1\nname: [", "2: no YAML: "),
        ("version: 1\n\tname: x", "2: no YAML: "),
        ("version: 1\n--- \nversion: 1", "2: no YAML file of one document"),
        ("a: 1\nb: &big [1]\nc: *big", "2: anchors and aliases"),
        ("a: 1\n" + "b: " + "[" * 5000, "2: nested more than 20 levels"),
        ("a: 1\nb: \x07", "2: no YAML: character #x0007"),
        ("a: 1\nb: '" + "x" * 300_000 + "'", "1: the file is larger than 256 kB"),
        ('a: "\\UFFFFFFFF"', "1: no YAML: "),
    ],
)
def test_what_is_no_yaml_gives_its_line(text, expected):
    assert only(text).startswith(f"p.yaml:{expected}")


@pytest.mark.parametrize("pattern", ["*.rights", "*", "*rights"])
def test_an_unquoted_pattern_gets_a_hint(pattern):
    line = only(f"{LEAST}    metadata:\n      - field: {pattern}\n        rule: ask\n")
    assert line.startswith("p.yaml:6: ")
    assert "needs quotes: '*.rights'" in line


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="a:-[]{}&*!|>'\"#%\\ \n\t1.,?<~\x00", max_size=80),
        st.tuples(st.integers(0, 2500), st.text(max_size=4)),
    )
)
def test_any_text_is_a_policy_or_a_policy_error(text):
    if isinstance(text, tuple):  # the example with a slip of the pen
        place, slip = text
        example = EXAMPLE.read_text()
        text = example[:place] + slip + example[place + 1 :]
    try:
        policy = load_policy(text, "p")
    except PolicyError:
        return
    assert isinstance(policy, Policy)


def test_criteria_know_the_formats_that_are_read():
    assert set(PILLOW_FORMATS) | {"raw"} == FORMATS


def test_other_spellings_of_formats():
    rule = load_policy(f"{LEAST}    keeper: [format: [TIF, jpg]]", "p").rules[0]
    assert rule.keeper[0].values == ("tiff", "jpeg")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("tags.keywords", "union"),
        ("xmp.keywords", "union"),
        ("metadata.keywords", "union"),
        ("xmp.rights", "ask"),
        ("tags.licence", "ask"),
        ("tags.licence-expires", "ask"),
        ("metadata.license", "ask"),
        ("tags.visibility", "ask"),
        ("tags.colour", "fill"),
    ],
)
def test_default_rules_of_fields(field, expected):
    assert Rule(name="x").field_rule(field).rule == expected


def test_the_first_pattern_that_matches_decides_and_defaults_follow():
    text = (
        f"{LEAST}    metadata:\n"
        "      - {field: tags.visibility, rule: restrictive, order: [internal, public]}\n"
        "      - {field: 'tags.*', rule: keeper}\n"
    )
    rule = load_policy(text, "p").rules[0]
    assert rule.field_rule("tags.visibility").order == ("internal", "public")
    assert rule.field_rule("tags.keywords").rule == "keeper"
    assert rule.field_rule("xmp.keywords").rule == "union"


def test_fields_of_a_member():
    member = Member(
        "i",
        "k",
        "c",
        1,
        1,
        1,
        "png",
        datetime(2026, 1, 1, tzinfo=UTC),
        tags={"Owner": "north"},
        metadata={"owner": "south"},
        xmp={"rights": ""},
    )
    assert field_value(member, "tags.Owner") == "north"
    assert field_value(member, "tags.owner") is None  # tags keep their case
    assert field_value(member, "metadata.Owner") == "south"  # user metadata has none
    assert field_value(member, "xmp.rights") == ""
    with pytest.raises(ValueError, match="no field"):
        field_value(member, "owner")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("ingest: {blocked: link}", "5: ingest.blocked: 'link': "),
        (
            "ingest:\n  rules:\n    - {name: a, action: rejct}",
            "7: ingest.rules[0].action: 'rejct': ",
        ),
        (
            "ingest:\n  rules: [{name: a, teir: near}]",
            "6: ingest.rules[0].teir: no such key; did you",
        ),
        ("ingest:\n  rules: [{name: a}, {name: a}]", "6: ingest.rules: two rules are named 'a'"),
        ("alerts: [{name: a, left: {}}]", "5: alerts[0].right: is missing"),
        ("alerts: [{name: a, left: {}, right: {}, tier: no}]", "5: alerts[0].tier"),
    ],
)
def test_a_wrong_section_for_uploads_is_named_with_line_and_key(extra, expected):
    assert only(f"{LEAST}{extra}\n").startswith(f"p.yaml:{expected}")


def test_what_comes_in_does_not_change_what_plans_were_made_under():
    plain = load_policy(LEAST, "p.yaml")
    strict = load_policy(LEAST + "ingest: {rules: [{name: a, action: reject}]}\n", "p.yaml")
    assert plain.version_hash == strict.version_hash
    assert plain.for_ingest.version_hash != strict.for_ingest.version_hash
    assert [rule.action for rule in strict.ingest.rules] == ["reject"]
    assert not plain.ingest.rules  # everything is added

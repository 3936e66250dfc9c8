"""Sidecars: nothing of the keeper's is lost, and what is added reads back."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

import pytest
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.embedding.xmp import _FIELDS, parse_xmp
from tasks.errors import MergeError
from tasks.merging.rules import sidecar
from tasks.merging.rules.metadata import fold
from tasks.merging.rules.sidecar import link_sidecar, merge_sidecar
from tasks.xmp.packet import DC, RDF, ST_REF, XMP_MM
from tasks.xmp.properties import properties as properties_of

IDENTITIES = {"original_document_id", "document_id", "instance_id", "derived_from"}
FIELDS = sorted(set(_FIELDS.values()) - IDENTITIES)
LISTS = ("keywords", "creator")


def packet(inside="", attributes="", more=""):
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Some Tool 1.0"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:shop="http://example.com/shop/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/">
 <rdf:Description rdf:about="" {attributes}>{inside}</rdf:Description>{more}
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def bag(*words):
    return f"<dc:subject><rdf:Bag>{''.join(f'<rdf:li>{w}</rdf:li>' for w in words)}</rdf:Bag></dc:subject>"  # noqa: E501


def alt(name, **texts):
    items = "".join(
        f'<rdf:li xml:lang="{lang.replace("_", "-")}">{text}</rdf:li>'
        for lang, text in texts.items()
    )
    return f"<{name}><rdf:Alt>{items}</rdf:Alt></{name}>"


def meaning(element: Element):
    """An element without the space that has none."""
    return (
        element.tag,
        (element.text or "").strip(),
        tuple(sorted(element.attrib.items())),
        tuple(meaning(child) for child in element),
    )


def properties(data):
    """Top-level properties: name to meaning."""
    found = {}
    for node in ElementTree.fromstring(data).iter(RDF + "Description"):
        for name, value in node.attrib.items():
            found[name] = (name, value, (), ())
        for child in node:
            found[child.tag] = meaning(child)
        found.pop(RDF + "about", None)
    return found


def words(data):
    return [
        "".join(item.itertext())
        for bag in ElementTree.fromstring(data).iter(DC + "subject")
        for item in bag.iter(RDF + "li")
    ]


def test_a_new_sidecar_shows_every_field():
    values = {name: f"{name} <&> \u00e9" for name in FIELDS}
    values |= {"keywords": "chair; red & white", "creator": "Ann; Bob", "rating": "4"}
    data = merge_sidecar(None, [], values)
    assert parse_xmp(data) == values
    assert data == merge_sidecar(None, [], dict(reversed(values.items())))


def test_the_form_is_the_specifications():
    data = merge_sidecar(None, [], {"title": "Chair", "keywords": "a; b", "rating": "4"}).decode()
    assert data == (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:dc="http://purl.org/dc/elements/1.1/"'
        ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:x="adobe:ns:meta/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/">\n'
        " <rdf:RDF>\n"
        '  <rdf:Description rdf:about="">\n'
        "   <dc:subject><rdf:Bag><rdf:li>a</rdf:li><rdf:li>b</rdf:li></rdf:Bag></dc:subject>\n"
        '   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Chair</rdf:li></rdf:Alt></dc:title>\n'
        "   <xmp:Rating>4</xmp:Rating>\n"
        "  </rdf:Description>\n"
        " </rdf:RDF>\n"
        "</x:xmpmeta>\n"
        '<?xpacket end="w"?>\n'
    )


def test_the_keepers_own_stays_and_what_it_lacks_is_added():
    mine = packet(
        alt("dc:title", x_default="Mine", de="Meins") + bag("sea", "Sun"),
        'xmp:Rating="4" shop:sku="A&amp;1"',
        '<rdf:Description rdf:about="" xmpMM:DocumentID="keeper"/>',
    )
    first = packet(alt("dc:title", x_default="Theirs") + bag("sun", "sand"), 'shop:shelf="7"')
    second = packet(
        "<shop:box rdf:parseType='Resource'><shop:w>3</shop:w></shop:box>",
        'shop:shelf="8" shop:sku="B"',
    )
    found = merge_sidecar(mine, [first, second], {"label": "green"})
    before, after = properties(mine), properties(found)
    assert {name: after[name] for name in before if name != DC + "subject"} == {
        name: value for name, value in before.items() if name != DC + "subject"
    }
    assert words(found) == ["sea", "Sun", "sand"]
    assert after["{http://example.com/shop/}shelf"][1] == "7"
    assert after["{http://example.com/shop/}box"][3][0][1] == "3"
    assert parse_xmp(found)["label"] == "green"
    assert b'x:xmptk="Some Tool 1.0"' in found
    assert b"<shop:shelf>7</shop:shelf>" in found


def test_nothing_new_gives_the_same_bytes():
    mine = packet(alt("dc:title", x_default="Mine") + bag("sea"), 'xmp:Rating="4"')
    other = packet(alt("dc:title", x_default="Theirs") + bag("SEA"), 'xmp:Rating="1"')
    assert merge_sidecar(mine, [other], {"rating": "4", "keywords": "Sea"}) == mine


def test_a_file_keeps_to_itself_what_it_is():
    other = packet(
        "<xmpMM:History><rdf:Seq><rdf:li>saved</rdf:li></rdf:Seq></xmpMM:History>"
        "<dc:format>image/png</dc:format>",
        'xmpMM:DocumentID="2" xmpMM:OriginalDocumentID="3" tiff:Orientation="6" '
        'tiff:Make="Nikon" crs:Exposure2012="+2"',
    )
    found = properties(merge_sidecar(packet(), [other], {}))
    assert set(found) == {"{http://ns.adobe.com/tiff/1.0/}Make"}


def test_withheld_fields_are_not_taken_from_sidecars():
    other = packet(alt("dc:title", x_default="Theirs") + bag("b"), 'xmp:Label="x" shop:sku="1"')
    found = merge_sidecar(packet(bag("a")), [other], {}, withheld={"title", "keywords", "label"})
    assert parse_xmp(found) == {"keywords": "a"}
    assert b"sku" in found


def test_a_value_replaces_the_keepers():
    mine = packet(alt("dc:rights", x_default="free", de="frei"), 'xmp:Label="red"')
    found = merge_sidecar(mine, [], {"rights": "editorial", "label": "green"})
    assert parse_xmp(found) == {"rights": "editorial", "label": "green"}
    assert b"red" not in found


def test_a_value_that_a_duplicate_has_in_more_languages_comes_with_them():
    other = packet(alt("dc:title", x_default="Chair", de="Stuhl"))
    value = parse_xmp(other)["title"]
    found = merge_sidecar(packet(), [other], {"title": value})
    assert properties(found)[DC + "title"] == properties(other)[DC + "title"]


def test_a_property_of_the_same_name_does_not_hide_the_value():
    mine = packet("", 'shop:title="SKU title" shop:Rating="99"')
    found = merge_sidecar(mine, [], {"title": "Chair", "rating": "4"})
    assert parse_xmp(found) == {"title": "Chair", "rating": "4"}
    assert properties(mine).items() <= properties(found).items()


def test_keywords_are_united_in_whatever_form_they_come():
    plain = packet("<dc:subject>one</dc:subject>", "", "<rdf:Description dc:subject='two'/>")
    other = packet(bag("a; b", "<rdf:value>three</rdf:value>", "ONE"))
    found = merge_sidecar(plain, [other], {"keywords": "a; b; one"})
    assert words(found) == ["one", "two", "a", "b", "a; b", "three"]
    assert words(merge_sidecar(packet(bag("a; b")), [], {"keywords": "a; b; c"})) == ["a; b", "c"]


def test_a_list_that_is_there_already_is_not_written_anew():
    once = merge_sidecar(None, [], {"title": "Chair", "creator": "Ann ;Bob;"})
    assert merge_sidecar(once, [], {"title": "Chair", "creator": "Ann ;Bob;"}) == once
    assert parse_xmp(once)["creator"] == "Ann; Bob"


def test_a_list_of_another_shape_is_not_taken_apart():
    odd = packet("<dc:subject><shop:tree>sea</shop:tree></dc:subject>")
    with pytest.raises(MergeError, match="subject of a sidecar is no list"):
        merge_sidecar(odd, [], {"keywords": "sun"})


def test_a_packet_without_its_wrapper_gets_one():
    bare = re.sub(rb"<\?xpacket.*?>|</?x:xmpmeta.*?>", b"", packet(bag("a"))).strip()
    found = merge_sidecar(bare, [], {"label": "x"})
    assert found.startswith(b"<?xpacket begin=")
    assert parse_xmp(found) == {"keywords": "a", "label": "x"}


def test_utf16_and_byte_order_marks():
    text = packet(alt("dc:title", x_default="\u00e9t\u00e9")).decode()
    for data in (text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode()):
        assert parse_xmp(merge_sidecar(data, [], {"label": "x"}))["title"] == "\u00e9t\u00e9"


def test_prefixes_that_mean_something_else():
    strange = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description xmlns:dc="http://example.com/a" dc:x="1"/>
    <rdf:Description xmlns:dc="http://example.com/b" xmlns:ns1="http://example.com/c">
    <dc:x ns1:q="2">3</dc:x></rdf:Description></rdf:RDF>"""
    found = merge_sidecar(strange, [], {"title": "Chair"})
    assert properties(strange).items() <= properties(found).items()
    assert parse_xmp(found) == {"title": "Chair"}
    assert merge_sidecar(found, [strange], {"title": "Chair"}) == found


def test_literal_xml_and_its_spaces_stay():
    inside = "<shop:note rdf:parseType='Literal'> a <shop:b> c\n</shop:b> d </shop:note>"
    found = merge_sidecar(packet(inside), [], {"label": "x"})
    assert b"> a <shop:b> c\n</shop:b> d </shop:note>" in found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not xml",
        b"\xff\xd8\xff\xe0 a jpeg",
        packet()[:300],
        b"<r><title>XML, but no XMP</title></r>",
        b"<!DOCTYPE r [<!ENTITY a 'ha'>]>" + packet("<shop:x>&a;</shop:x>"),
        b"<!DOCTYPE r SYSTEM 'file:///etc/passwd'><r/>",
        packet("<shop:x>" * 200 + "</shop:x>" * 200),
        b"<r>" * 50_000,
        packet(" " * 4 * 1024**2),
        b"\xff\xfe\x00",
    ],
    ids=range(11),
)
def test_what_is_no_xmp_is_refused(data):
    with pytest.raises(MergeError, match="the keeper's sidecar is not XMP: "):
        merge_sidecar(data, [], {"title": "x"})
    with pytest.raises(MergeError, match="the sidecar of duplicate 2 is not XMP: "):
        merge_sidecar(None, [packet(), data], {})
    with pytest.raises(MergeError, match="the sidecar is not XMP: "):
        link_sidecar(data, "a.jpg", "id")


def test_a_sidecar_does_not_grow_beyond_what_is_read():
    half = "x" * 3 * 1024**2
    with pytest.raises(MergeError, match="larger than"):
        merge_sidecar(packet(f"<shop:a>{half}</shop:a>"), [packet(f"<shop:b>{half}</shop:b>")], {})


@pytest.mark.parametrize("name", [*sorted(IDENTITIES), "flavour"])
def test_only_fields_that_merge_are_set(name):
    with pytest.raises(ValueError, match=name):
        merge_sidecar(None, [], {name: "x"})


@pytest.mark.parametrize("existing", [None, packet(bag("sea"), 'xmpMM:OriginalDocumentID="old"')])
def test_a_link_names_the_keeper(existing):
    found = link_sidecar(existing, "a/k\u00e9<&>.jpg", "xmp.did:1")
    shown = parse_xmp(existing or b"") | {"original_document_id": "xmp.did:1"}
    assert parse_xmp(found) == shown
    source = properties(found)[XMP_MM + "DerivedFrom"]
    assert source[2] == ((RDF + "parseType", "Resource"),)
    assert source[3] == (
        (ST_REF + "filePath", "a/k\u00e9<&>.jpg", (), ()),
        (ST_REF + "originalDocumentID", "xmp.did:1", (), ()),
    )
    assert link_sidecar(found, "a/k\u00e9<&>.jpg", "xmp.did:1") == found


def test_a_link_to_another_keeper_replaces_the_first():
    found = link_sidecar(link_sidecar(None, "a.jpg", "1"), "b.jpg", "2")
    assert found == link_sidecar(None, "b.jpg", "2")


def test_a_key_that_xml_cannot_hold_is_refused():
    with pytest.raises(MergeError, match=r"'a\\x01.jpg' has characters"):
        link_sidecar(None, "a\x01.jpg", "1")


# ---- whatever people write -------------------------------------------------------------------

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
ANY_TEXT = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cs", "Cc"]),
        st.sampled_from("<>&\"';]\r\n\t\x00\x0b\ufffe\U0010ffff"),
    ),
    max_size=30,
)
VALUES = st.dictionaries(st.sampled_from(FIELDS), ANY_TEXT)


def as_read(name, text):
    """How a text reads back: no forbidden characters, no outer space, lists in one form."""
    text = FORBIDDEN.sub("", text).strip()
    if name not in LISTS:
        return text
    parts = [part.strip() for part in text.split(";") if part.strip()]
    return "; ".join(parts) or (text if name == "creator" else "")


def folded(text):
    return {fold(part) for part in text.split(";") if part.strip()}


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_any_text_reads_back(values):
    data = merge_sidecar(None, [], values)
    shown = parse_xmp(data)
    keywords = shown.pop("keywords", "")
    wanted = {name: as_read(name, text) for name, text in values.items() if name != "keywords"}
    assert shown == {name: text for name, text in wanted.items() if text}
    # Of two spellings of one keyword the first stays.
    assert folded(keywords) == folded(as_read("keywords", values.get("keywords", "")))
    assert not FORBIDDEN.search(data.decode())


SHOP = st.dictionaries(st.sampled_from(["a", "b", "title", "Rating", "subject"]), ANY_TEXT)
SIDECARS = st.builds(
    lambda values, shop, keywords: packet(
        "".join(f"<shop:{n}>{escape(t)}</shop:{n}>" for n, t in shop.items())
        + bag(*map(escape, keywords)),
        'xmpMM:InstanceID="x"',
        "".join(
            f"<rdf:Description rdf:about='' {NAMED[name]}='{escape(text)}'/>"
            for name, text in values.items()
            if name in NAMED
        ),
    ),
    VALUES,
    SHOP,
    st.lists(ANY_TEXT, max_size=3),
)
NAMED = {"rating": "xmp:Rating", "label": "xmp:Label", "create_date": "xmp:CreateDate"}


def escape(text):
    return "".join(f"&#{ord(sign)};" for sign in FORBIDDEN.sub("", text))


@given(SIDECARS, st.lists(SIDECARS, max_size=3), VALUES)
@settings(max_examples=200, deadline=None)
def test_the_keepers_properties_survive_and_every_keyword(mine, others, values):
    found = merge_sidecar(mine, others, values)
    before, after = properties(mine), properties(found)
    set_names = {"{http://ns.adobe.com/xap/1.0/}" + NAMED[n][4:] for n in values if n in NAMED}
    for name, value in before.items():
        if name != DC + "subject" and name not in set_names:
            assert after[name] == value
    have = {fold(word) for word in words(found)}
    for data in (mine, *others):
        for word in words(data):
            parts = {fold(part) for part in word.split(";")} - {""}
            assert fold(word) in have | {""} or parts <= have
    for other in others:
        missing = properties(other).keys() - after.keys()
        assert missing <= {DC + "subject"}
    assert not FORBIDDEN.search(found.decode())


@given(st.none() | SIDECARS, st.lists(SIDECARS, max_size=3), VALUES)
@settings(max_examples=200, deadline=None)
def test_merging_again_gives_the_same_bytes(mine, others, values):
    once = merge_sidecar(mine, others, values)
    assert merge_sidecar(once, others, values) == once
    assert merge_sidecar(once, [], {}) == once


@given(
    st.binary(max_size=200)
    | SIDECARS.flatmap(lambda data: st.integers(0, len(data)).map(lambda at: data[:at]))
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_merged_or_refused(data):
    try:
        found = merge_sidecar(data, [], {"label": "green"})
    except MergeError:
        return
    assert parse_xmp(found)["label"] == "green"


def test_a_sidecar_of_thousands_of_properties_is_read_once(monkeypatch):
    """Both with 9,000 lists: all of the keeper's were gone through for each of the other's."""
    read = []

    def counted(packet):
        read.append(packet)
        return properties_of(packet)

    monkeypatch.setattr(sidecar, "properties", counted)
    sides = [
        packet(
            "".join(
                f"<shop:b{n}><rdf:Bag><rdf:li>{word}</rdf:li></rdf:Bag></shop:b{n}>"
                for n in range(100)
            )
        )
        for word in ("sea", "sun")
    ]
    values = {f"{{http://example.com/shop/}}b{n}": "sea; sun" for n in range(100)}
    merged = merge_sidecar(sides[0], [sides[1]], values).decode()
    assert merged.count("<rdf:li>sun</rdf:li>") == merged.count("<rdf:li>sea</rdf:li>") == 100
    assert len(read) < 10

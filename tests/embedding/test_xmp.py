"""XMP packets, well-meant and not."""

from __future__ import annotations

import pytest

from tasks.embedding import xmp
from tasks.embedding.xmp import parse_xmp

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/">
<rdf:Description xmp:Rating="4" xmpMM:OriginalDocumentID="xmp.did:1">
<xmpMM:DocumentID>xmp.did:2</xmpMM:DocumentID>
<xmp:CreatorTool>Camera &amp; Co</xmp:CreatorTool>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Chaise longue \u00e9t\u00e9</rdf:li></rdf:Alt></dc:title>
<dc:subject><rdf:Bag><rdf:li>chair</rdf:li><rdf:li> red </rdf:li><rdf:li/></rdf:Bag></dc:subject>
<dc:format>image/jpeg</dc:format>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""  # noqa: E501


def test_attributes_elements_and_lists_of_a_sidecar():
    assert parse_xmp(PACKET.encode()) == {
        "rating": "4",
        "original_document_id": "xmp.did:1",
        "document_id": "xmp.did:2",
        "creator_tool": "Camera & Co",
        "title": "Chaise longue \u00e9t\u00e9",
        "keywords": "chair; red",
    }


def test_padding_around_the_packet_is_ignored():
    assert parse_xmp(b"\n \0" + PACKET.encode() + b"  \n\0\0") == parse_xmp(PACKET.encode())


def test_utf16_sidecar():
    declared = "<?xml version='1.0' encoding='utf-16'?>" + PACKET
    assert parse_xmp(PACKET.encode("utf-16")) == parse_xmp(PACKET.encode())
    assert parse_xmp(declared.encode("utf-16")) == parse_xmp(PACKET.encode())


def test_the_first_value_of_a_field_stays():
    packet = "<r xmlns:a='a' xmlns:b='b'><a:title>one</a:title><b:title>two</b:title></r>"
    assert parse_xmp(packet.encode()) == {"title": "one"}


def test_long_texts_are_cut():
    assert len(parse_xmp(b"<r><title>" + b"x" * 9000 + b"</title></r>")["title"]) == 2000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        b"not xml",
        b"\xff\xd8\xff\xe0 a jpeg",
        b"<r><title>cut",
        b"<?xml version='1.0' encoding='no-such'?><r/>",
        b"<r>" * 20_000,
        PACKET.encode()[:400],
    ],
    ids=range(8),
)
def test_garbage_gives_nothing(data):
    assert parse_xmp(data) == {}


def test_entity_bomb_gives_nothing():
    bomb = "<!DOCTYPE r [<!ENTITY a0 'ha'>" + "".join(
        f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)
    )
    assert parse_xmp((bomb + "]><r><title>&a11;</title></r>").encode()) == {}


def test_external_entity_is_not_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("classified")
    packet = f"<!DOCTYPE r [<!ENTITY x SYSTEM '{secret.as_uri()}'>]><r><title>&x;</title></r>"
    assert "classified" not in str(parse_xmp(packet.encode()))


def test_a_huge_packet_is_not_parsed():
    padding = b" " * (4 * 1024**2)
    assert parse_xmp(b"<r><title>small</title></r>") == {"title": "small"}
    assert parse_xmp(b"<r><title>huge</title>" + padding + b"</r>") == {}


def visits(data: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many elements reading a packet looks at, counted and not timed."""
    seen = 0
    real = xmp._shallow

    def counting(root):
        nonlocal seen
        for element in real(root):
            seen += 1
            yield element

    with monkeypatch.context() as patch:
        patch.setattr(xmp, "_shallow", counting)
        parse_xmp(data)
    return seen


@pytest.mark.parametrize("tag", ["a", "subject", "r:li", "title"])
def test_hostile_nesting_costs_no_more_than_its_elements(monkeypatch, tag):
    """Deep nesting took quadratic time: 28 s for 140 kB, in the scan's own process."""

    def nested(count: int) -> bytes:
        return (
            b'<x xmlns:r="u">'
            + f"<{tag}>".encode() * count
            + f"</{tag}>".encode() * count
            + b"</x>"
        )

    small, large = visits(nested(2_000), monkeypatch), visits(nested(20_000), monkeypatch)
    assert large <= 11 * xmp._MAX_DEPTH
    assert large <= small * 2


def test_hostile_breadth_costs_no_more_than_its_elements(monkeypatch):
    wide = b"<x>" + b"<subject/>" * 50_000 + b"</x>"
    assert visits(wide, monkeypatch) <= 50_001 + 10
    lists = b'<x xmlns:r="u"><subject>' + b"<r:li/>" * 50_000 + b"</subject></x>"
    assert visits(lists, monkeypatch) <= 50_002 + 50_001

from __future__ import annotations

import pytest

from deployments.gate.body import Body, parse_body
from deployments.gate.problems import Problem
from tasks.settings import GateSettings

END = b"--X--\r\n"


def part(disposition: str, content: bytes) -> bytes:
    head = f"--X\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def parse(*parts: bytes, most: int = 1000) -> Body:
    form = "multipart/form-data; boundary=X"
    return parse_body(b"".join(parts), form, GateSettings(max_upload_bytes=most))


def test_a_form_has_one_file_and_texts_in_order() -> None:
    body = parse(
        part('name="k"', b"5"),
        part('name="file"; filename="a.jpg"', b"\xff\xd8\r\n\r\n--\r\n"),
        part('name="k"', "größer".encode()),
        part('name="none"', b""),
        END,
    )
    assert body.file == b"\xff\xd8\r\n\r\n--\r\n"
    assert body.pairs == (("k", "5"), ("k", "größer"), ("none", ""))


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="größe"', "größe"),
        ("name=plain", "plain"),
        ('name="a;b"', "a;b"),
        ('name="a\\"b"', 'a"b'),
    ],
)
def test_names_are_read_as_they_were_sent(disposition: str, name: str) -> None:
    assert parse(part(disposition, b"v"), END).pairs == ((name, "v"),)


@pytest.mark.parametrize(
    "disposition",
    ['name="image"', 'name="pic"; filename="Grün.jpg"', "name=\"pic\"; filename*=utf-8''a.jpg"],
)
def test_a_file_is_known_by_its_name_or_by_having_one(disposition: str) -> None:
    assert parse(part(disposition, b"v"), END) == Body(file=b"v")


def test_content_may_hold_lines_that_begin_as_the_boundary_does() -> None:
    body = parse(part('name="file"', b"a\r\n--XY\r\n--X-\r\nb"), part('name="k"', b"5"), END)
    assert body == Body(file=b"a\r\n--XY\r\n--X-\r\nb", pairs=(("k", "5"),))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([part('name="a"', b"v")], "cut off"),
        ([part('name="a"', b"v"), b"--X\r\nContent-Disp"], "cut off"),
        ([b"no part"], "malformed"),
        ([b"--X\r\nno header\r\n\r\nv\r\n", END], "malformed"),
        ([part("name*=idna''%ff", b"v"), END], "malformed"),
        ([part('name="' + "a" * 9000 + '"', b"v"), END], "malformed"),
        ([part('name="a"\r\nX-A: b' + "\r\nX-A: b" * 20, b"v"), END], "malformed"),
        ([part('name="a"', b"v")] * 65 + [END], "too many parts"),
        ([part('name="file"', b"\r\n--XY" * 70), END], "too many parts"),
        ([part('name="file"', b"v"), part('name="image"', b"v"), END], "two files"),
    ],
)
def test_what_is_no_form_is_refused(parts: list[bytes], says: str) -> None:
    with pytest.raises(Problem) as refused:
        parse(*parts)
    assert refused.value.status == 400
    assert says in str(refused.value.detail)


@pytest.mark.parametrize(("name", "most"), [("file", 1000), ("k", 1500)])
def test_no_part_is_larger_than_allowed(name: str, most: int) -> None:
    whole = parse(part(f'name="{name}"', b"v" * most), END)
    assert len(whole.file or whole.fields[name]) == most
    with pytest.raises(Problem) as refused:
        parse(part(f'name="{name}"', b"v" * (most + 1)), END)
    assert refused.value.status == 413


def test_as_many_parts_as_allowed_are_read() -> None:
    assert len(parse(*[part('name="a"', b"v")] * 64, END).pairs) == 64

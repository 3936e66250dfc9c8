"""Messages are for people."""

from __future__ import annotations

import io

import pytest
from PIL import Image, UnidentifiedImageError

from tasks.errors import DamDedupError, ImageError


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "Caused by NewConnectionError('<urllib3.connection.HTTPSConnection object at "
            "0x7f3c00>: Failed to establish a new connection')",
            "Caused by NewConnectionError('Failed to establish a new connection')",
        ),
        ("a <function f at 0x1F> b", "a b"),
        ("x < 3 and y > 0x10", "x < 3 and y > 0x10"),
        ("size <b>at 0x</b>", "size <b>at 0x</b>"),
    ],
)
def test_no_message_holds_an_address(given: str, shown: str) -> None:
    assert str(DamDedupError(given)) == shown


def test_an_image_that_is_none_is_told_without_one() -> None:
    with pytest.raises(UnidentifiedImageError) as caught:
        Image.open(io.BytesIO(b"no image"))
    assert " at 0x" in str(caught.value)
    assert str(ImageError("unreadable", str(caught.value))) == "cannot identify image file"

"""What names say of copies."""

from __future__ import annotations

import pytest

from tasks.dedup.names import marked_copies, named_after


@pytest.mark.parametrize(
    "copy",
    [
        "beach copy.jpg",
        "web/beach_web.png",
        "Beach (1).jpg",
        "beach-small.webp",
        "beach-1024x768.jpg",
        "beach_edited copy 2.jpg",
        "beach Kopie.tif",
        "beach (copy).jpg",
        "beach(Kopie 2).png",
    ],
)
def test_a_name_with_a_mark_behind_it_is_a_copys(copy):
    assert named_after(copy, "shoot/beach.jpg")
    assert not named_after("shoot/beach.jpg", copy)


@pytest.mark.parametrize(
    "other",
    ["beach.png", "beach2.jpg", "beachcopy.jpg", "web.jpg", "beach-red.jpg", "", "copy.jpg"],
)
def test_other_names_say_nothing(other):
    assert not named_after(other, "beach.jpg")
    assert not named_after("beach.jpg", other)


def test_of_many_names_those_of_copies_are_found():
    keys = ["a/beach (copy).jpg", "b/beach.jpg", "c/beach_web.png", "beachcopy.jpg", "copy.jpg", ""]
    assert marked_copies(keys) == {"a/beach (copy).jpg", "c/beach_web.png"}

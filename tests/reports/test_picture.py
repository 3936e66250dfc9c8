"""The overview picture."""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image

from reports.picture import overview_picture


def opened(document) -> Image.Image:
    return Image.open(io.BytesIO(document.body))


def test_two_groups_stand_in_a_row(make_summary):
    two = opened(overview_picture(make_summary(["a", "b"], ["c", "d"])))
    three = opened(overview_picture(make_summary(["a", "b"], ["c", "d"], ["e", "f"])))
    many = opened(overview_picture(make_summary(*([f"a{n}", f"b{n}"] for n in range(99)))))
    assert two.width == three.width == many.width
    assert two.height < three.height < many.height == 2 * three.height - 32


def test_copies_of_one_picture_are_shown_twice(make_summary):
    summary = make_summary(["a", "b"])
    (jpeg, *_) = summary.thumbnails.values()
    members = summary.members.with_columns(
        content=summary.members["content"][:1].new_from_index(0, 2)
    )
    one = replace(summary, members=members, thumbnails={members["content"][0]: jpeg})
    assert overview_picture(one) is not None


def test_without_pictures_there_is_none(make_summary):
    assert overview_picture(make_summary()) is None
    assert overview_picture(make_summary(["a", "b"], thumbnails={})) is None
    broken = dict.fromkeys(make_summary(["a", "b"]).thumbnails, b"\xff\xd8\xffno picture")
    assert overview_picture(make_summary(["a", "b"], thumbnails=broken)) is None

"""Pictures of a report: as large as there is room for, then smaller, then none."""

from __future__ import annotations

import io

import pytest
from PIL import Image

import tasks.reporting.summarize as stage
from tasks.embedding.images import shrink
from tests.conftest import blobs


def jpeg(seed: int, side: int = 384) -> bytes:
    body = io.BytesIO()
    blobs(seed).resize((side, side * 3 // 4)).save(body, "JPEG", quality=80)
    return body.getvalue()


def sides(pictures: dict[str, bytes]) -> dict[str, int]:
    return {name: max(Image.open(io.BytesIO(data)).size) for name, data in pictures.items()}


@pytest.fixture(scope="module")
def pictures() -> list[tuple[str, int, bytes]]:
    """Two of each of twelve groups."""
    return [(f"{at:02}{side}", at, jpeg(at)) for at in range(12) for side in "ab"]


@pytest.mark.parametrize("side", [64, 160])
def test_a_smaller_picture_is_the_same_picture(side):
    small = Image.open(io.BytesIO(shrink(jpeg(3), side)))
    assert small.size == (side, side * 3 // 4)
    wanted = Image.open(io.BytesIO(jpeg(3))).resize(small.size, Image.Resampling.BILINEAR)
    pairs = zip(
        small.convert("L").get_flattened_data(),
        wanted.convert("L").get_flattened_data(),
        strict=True,
    )
    assert sum(abs(one - two) for one, two in pairs) / (side * side) < 12


def test_with_room_for_all_only_the_first_groups_are_large(pictures):
    large, small = stage.share_out(iter(pictures), 5)
    assert set(large) == {name for name, at, _ in pictures if at < 5}
    assert all(large[name] == data for name, at, data in pictures if at < 5)
    assert set(sides(small).values()) == {160}
    assert large.keys() | small.keys() == {name for name, _, _ in pictures}


def test_without_room_pictures_become_smaller_and_then_none(pictures, monkeypatch):
    whole = len(pictures[0][2]) + len(pictures[1][2])
    middle = len(shrink(pictures[4][2], 160))
    least = len(shrink(pictures[8][2], 64))
    monkeypatch.setattr(stage, "_LARGE_BYTES", whole + 10)
    monkeypatch.setattr(stage, "_SMALL", ((160, 3 * middle), (64, 4 * least)))
    large, small = stage.share_out(iter(pictures), 12)
    assert sum(map(len, large.values())) <= whole + 10
    seen = sides(small)
    order = [name for name, _, _ in pictures]
    got = [name for name in order if name in large or name in small]
    assert got == order[: len(got)], "the first groups go first"
    assert len(got) < len(order)
    listed = [seen[name] for name in got if name in seen]
    assert listed == sorted(listed, reverse=True)
    assert set(listed) == {160, 64}
    for side, budget in ((160, 3 * middle), (64, 4 * least)):
        sizes = [len(small[name]) for name in got if seen.get(name) == side]
        assert sum(sizes[:-1]) < budget, "one may go over"

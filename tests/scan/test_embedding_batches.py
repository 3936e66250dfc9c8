"""Batches for the model: in order, each content once, and nobody waits for another's work."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tasks.queries.embedding_batches import SeenContents, embed_readings
from tasks.queries.readings import Reading
from tasks.records import Picture


class Model:
    """Gives each picture its first pixel's red as a vector; tells how it was called."""

    batch = 4

    def __init__(self, held: threading.Barrier | None = None) -> None:
        self.calls: list[list[int]] = []
        self.threads: set[int] = set()
        self._held = held

    def embed(self, pixels):
        reds = pixels[:, 0, 0, 0]
        self.calls.append(reds.tolist())
        self.threads.add(threading.get_ident())
        if self._held:
            self._held.wait(20)
        vectors = np.repeat(reds[:, None].astype(np.float32), 2, axis=1)
        vectors[reds == 13] = np.nan
        return vectors


def reading(number: int) -> Reading:
    """A picture of one colour; numbers below zero are no pictures."""
    if number < 0:
        return Reading(f"{number}", "", "", None, "cut", "")
    pixels = np.full((2, 2, 3), number, np.uint8)
    picture = Picture("", f"{number:032}", 0, 2, 2, "RGB", "png", b"", pixels)
    return Reading(f"{number}", "", "", picture)


def given(*numbers: int, then: Exception | None = None):
    for number in numbers:
        yield reading(number)
    if then:
        raise then


def seen(*numbers: int) -> SeenContents:
    return SeenContents(np.array([f"{number:032}" for number in numbers], dtype="S32"))


def test_readings_keep_their_order_and_each_content_is_embedded_once():
    model = Model()
    numbers = [5, 1, 5, -1, 2, 7, 13, 5, 13, 9]
    batches = list(embed_readings(given(*numbers), model, seen(7)))
    told = [int(one.key) for batch in batches for one in batch.readings]
    assert told == numbers
    assert sorted(red for call in model.calls for red in call) == [1, 2, 5, 9, 13]
    vectors = {name: v for batch in batches for name, v in batch.vectors.items()}
    assert {int(name): v.tolist() for name, v in vectors.items()} == {
        red: [red, red] for red in (1, 2, 5, 9)
    }
    assert [name for batch in batches for name in batch.bad] == [f"{13:032}"]
    assert all(one.picture is None or not one.picture.pixels.size for one in batches[0].readings)


def test_a_vector_is_told_no_later_than_its_reading():
    there: set[str] = set()
    for batch in embed_readings(given(*[20 + n % 50 for n in range(200)]), Model(), seen()):
        there |= batch.vectors.keys()
        assert {one.picture.content for one in batch.readings} <= there


def test_the_model_works_on_two_batches_while_nobody_takes_any():
    model = Model(threading.Barrier(2))  # each call waits for another one
    batches = list(embed_readings(given(*range(1, 9)), model, seen()))
    assert [len(batch.vectors) for batch in batches] == [4, 4]
    assert threading.get_ident() not in model.threads


def test_what_was_read_before_a_failure_is_told():
    batches = embed_readings(given(1, 2, 3, then=OSError("power cut")), Model(), seen())
    assert len(next(batches).vectors) == 3
    with pytest.raises(OSError, match="power cut"):
        next(batches)


def test_a_model_that_fails_stops_the_readings():
    class Broken(Model):
        def embed(self, pixels):
            raise ValueError(f"no numbers for {len(pixels)}")

    made, closed = [], []

    def endless():
        try:
            for number in range(10_000):
                made.append(number)
                yield reading(number % 200)
        finally:
            closed.append(True)

    with pytest.raises(ValueError, match="no numbers"):
        list(embed_readings(endless(), Broken(), seen()))
    assert closed == [True]
    assert len(made) < 1000


def test_who_stops_taking_stops_the_readings():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield from given(*range(200))
        finally:
            closed.set()

    batches = embed_readings(endless(), Model(), seen())
    next(batches)
    batches.close()
    assert closed.wait(10)


def test_contents_are_remembered_however_many():
    known = seen(3)
    assert not known.add(f"{3:032}")
    assert all(known.add(f"{number:032}") for number in range(10, 20_000))
    assert not any(known.add(f"{number:032}") for number in range(10, 20_000, 97))

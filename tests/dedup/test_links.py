"""Versions of one document are no duplicates; what shows no difference is."""

from __future__ import annotations

import polars as pl

from tasks.dedup.links import without_linked


def test_of_one_document_only_what_shows_no_difference_is_a_match():
    matches = pl.DataFrame(
        {"left": ["a", "a", "a"], "right": ["b", "c", "d"], "score": [0.97, 0.9, 0.9]}
    )
    documents = pl.DataFrame(
        {"content": ["a", "b", "c", "d"], "document": ["one", "one", "one", None]}
    )
    assert without_linked(matches, documents)["right"].to_list() == ["b", "d"]

"""Freed memory that a process keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tasks.process import heap

#: Makes and frees what a first look does, again and again, and counts the pages it was handed.
_WORK = """
import resource, numpy as np
from tasks.process.heap import keep_freed_memory
kept = {keep} and keep_freed_memory()
def work():
    for _ in range(50):
        parts = [np.ones(300_000, np.float32) for _ in range(4)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> tuple[str, int]:
    run = [sys.executable, "-c", _WORK.format(keep=keep)]
    kept, count = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    return kept, int(count)


def test_a_process_is_not_handed_the_same_pages_again():
    kept, count = faults(keep=True)
    if kept != "True":
        pytest.skip("the C library has no mallopt")
    _, otherwise = faults(keep=False)
    assert otherwise > 10_000
    assert count < otherwise / 20


def test_another_c_library_is_no_error(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    heap.keep_freed_memory.cache_clear()
    assert heap.keep_freed_memory() is False
    heap.keep_freed_memory.cache_clear()

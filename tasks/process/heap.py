"""Freed memory kept by the process, for what it does next needs as much again.

The C library gives freed memory back to the system, and the system hands out zeroed pages one fault
at a time. Work on pictures makes and frees arrays of a megabyte by the thousand: of a first look's
0.76 ms a pair 0.51 ms were such faults, of a picture's features 13 of 46 ms.
"""

from __future__ import annotations

import ctypes
from functools import cache

#: Parameters of glibc's ``mallopt`` (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Freed memory at the end of the heap up to which it is kept, and the size up to which an array is
#: taken from the heap at all: the most that glibc allows. Both in bytes.
_KEPT, _FROM_HEAP = 64 * 1024**2, 32 * 1024**2


@cache
def keep_freed_memory() -> bool:
    """Let this process keep up to 64 MiB of what it frees.

    Returns:
        Whether the C library can do so: only glibc can, others go on as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _FROM_HEAP) and mallopt(_TRIM_THRESHOLD, _KEPT))

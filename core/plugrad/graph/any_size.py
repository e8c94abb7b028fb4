"""Small values treated as large ones, to try what is made of these.

What joins ops, passes and kernels, does so where values are large enough for it to pay. Tests that want to see what it computes
do not want large values.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class _Wanted(threading.local):
    value = False


_wanted: Final = _Wanted()


@contextmanager
def of_any_size() -> Iterator[None]:
    """Within it, what this thread plans joins ops on values of any size."""
    before, _wanted.value = _wanted.value, True
    try:
        yield
    finally:
        _wanted.value = before


def any_size() -> bool:
    """Whether ops on values of any size are to be joined."""
    return _wanted.value

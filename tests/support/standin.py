"""The stand-in for CuPy, which ``tox -e cuda`` puts on the path; whoever imports this elsewhere is skipped."""

from __future__ import annotations

import pytest

cupy = pytest.importorskip(
    "cupy", reason="neither CuPy nor its stand-in is there: tox -e cuda", exc_type=ImportError
)
if not hasattr(cupy, "recorded"):
    pytest.skip("this is CuPy itself: these tests are for its stand-in", allow_module_level=True)

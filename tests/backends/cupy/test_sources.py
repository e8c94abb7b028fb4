"""Every text of a kernel that the CUDA backend comes to launch is compiled by NVRTC, for each generation of devices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import nvrtc

ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
TOGETHER = 100
HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(
    not nvrtc.available(), reason="nvidia-cuda-nvrtc is not installed: tox -e cuda"
)


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The texts, with the kernel's name in each."""
    done = subprocess.run(
        [sys.executable, str(HERE / "emit.py")], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    assert len(found) > 1000
    return found


def batches(texts: dict[str, str]) -> Iterator[tuple[list[str], list[str]]]:
    rows = [*texts.items()]
    for i in range(0, len(rows), TOGETHER):
        some = rows[i : i + TOGETHER]
        yield [text for text, _ in some], [name for _, name in some]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_they_compile(
    texts: dict[str, str], architecture: str, record_property: pytest.RecordProperty
) -> None:
    kernels = [
        k
        for some, names in batches(texts)
        for k in nvrtc.compile_kernels(nvrtc.together(some, names), architecture)
    ]
    assert len(kernels) == len(texts)
    spilling = [k for k in kernels if k.spilled]
    worst = max(kernels, key=lambda k: k.registers)
    report = (
        f"{architecture}: {len(kernels)} kernels, {worst.registers} registers at most ({worst.name}), "
        f"{len(spilling)} spill"
    )
    record_property("kernels", report)
    print(report)


def test_a_wrong_text_is_noticed() -> None:
    with pytest.raises(RuntimeError, match='identifier "nothing" is undefined'):
        nvrtc.compile_kernels('extern "C" __global__ void wrong() { nothing; }', "sm_90")

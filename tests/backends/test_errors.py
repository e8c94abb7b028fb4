"""What ops refuse: the error of each error sample, that it names the op, and that nothing is left behind."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
import pytest

import plugrad.errors
from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import ErrorSample, Sample
from plugrad.errors import IndexRangeError, PlugradError
from support.samples import flat, operands, samples_of, stated_ops

# Both are called as one function.
CALLED = {"batch_norm_training": "batch_norm", "batch_norm_inference": "batch_norm"}
REFUSING = [op for op in stated_ops() if op.errors is not None]


def refused(op: Op[..., Any]) -> list[ErrorSample]:
    assert op.errors is not None
    return list(op.errors(np.random.default_rng(zlib.crc32(op.name.encode()))))


def applied(
    op: Op[..., Any], sample: Sample, device: str, *, requires_grad: bool = False
) -> list[np.ndarray]:
    """The results on the host; so an error that the device raises late is raised here."""
    if "device" in op.attributes:
        sample = Sample(*sample.operands, **sample.attributes, device=device)
    args = operands(sample, "float32", device, requires_grad=requires_grad)
    results = [r.detach().numpy() for r in flat(sample.apply(op, args))]
    where = resolve_device(device)
    backend_of(where).synchronize(where)
    return results


def named(op: Op[..., Any], error: Exception, device: str) -> bool:
    """Whether the message begins with the op; where its body reads by index, with an op that the body calls."""
    names = {op.name, CALLED.get(op.name, op.name)}
    message = str(error)
    if isinstance(error, IndexRangeError) and op not in backend_of(resolve_device(device)).kernels:
        names |= {other.name for other in stated_ops()}
    return any(message.startswith(f"{name}: ") for name in names)


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("op", REFUSING, ids=lambda op: op.name)
def test_errors_are_raised_and_leave_nothing_behind(op: Op[..., Any], recorded: bool, device: str) -> None:
    good = samples_of(op)[0]
    expected = applied(op, good, device, requires_grad=recorded)
    for sample in refused(op):
        # Twice: what is refused is refused again, also where the signature is kept.
        for _ in range(2):
            with pytest.raises(sample.error) as caught:
                applied(op, sample, device, requires_grad=recorded)
            assert named(op, caught.value, device), f"{sample}: {caught.value}"
        for e, g in zip(expected, applied(op, good, device, requires_grad=recorded), strict=True):
            np.testing.assert_array_equal(g, e, err_msg=f"{op.name} after {sample}")


def promised(op: Op[..., Any]) -> list[type[PlugradError]]:
    """The errors in the docstring of the op."""
    text = op.__doc__ or ""
    names = re.findall(r"^ +(\w+Error): ", text.partition("Raises:")[2], re.MULTILINE)
    return [getattr(plugrad.errors, name) for name in names]


@pytest.mark.parametrize("op", [op for op in stated_ops() if promised(op)], ids=lambda op: op.name)
def test_every_error_of_the_docstring_has_a_sample(op: Op[..., Any]) -> None:
    stated = [sample.error for sample in refused(op)]
    for promise in promised(op):
        assert any(issubclass(error, promise) for error in stated), promise.__name__


@pytest.mark.parametrize("op", stated_ops(), ids=lambda op: op.name)
def test_every_op_with_attributes_states_what_it_refuses(op: Op[..., Any]) -> None:
    assert op.errors is not None or not op.attributes

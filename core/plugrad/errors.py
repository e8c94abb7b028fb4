"""The errors that plugrad raises. Each names the op or the call, what it got, what it takes and, where it can, the fix.

Every class derives from `PlugradError` and from the built-in exception that Python users expect for
that kind of mistake, so both ``except PlugradError`` and ``except ValueError`` work.
"""


class PlugradError(Exception):
    """Base of all errors that plugrad raises on purpose."""


class ShapeError(PlugradError, ValueError):
    """Shapes, sizes or axes that an op cannot take."""


class AxisError(ShapeError, IndexError):
    """An axis that a tensor does not have."""


class DTypeError(PlugradError, TypeError):
    """A dtype that an op cannot take, or dtypes that do not promote."""


class ArgumentError(PlugradError, ValueError):
    """An attribute or option outside what is taken."""


class IndexRangeError(PlugradError, IndexError):
    """An index outside the axis that it indexes."""


class DeviceError(PlugradError, RuntimeError):
    """An unknown device, operands on different devices, or something a device cannot do."""


class BackendUnavailable(DeviceError):
    """A backend that is installed but cannot run here: no driver, no device, a missing extra."""


class BackendBroken(DeviceError):
    """A backend whose code raised while it was loaded; the cause is chained."""


class BackendIncompatible(DeviceError):
    """A backend written for another major version of the plugin interface."""


class UnsupportedOp(DeviceError):
    """An op that a device can run neither by a kernel nor by its body."""


class GradientError(PlugradError, RuntimeError):
    """A misuse of the record: no gradient to compute, a graph freed already, an in-place update of a leaf."""


class CaptureError(PlugradError, RuntimeError):
    """Something that a captured function cannot do, or a tensor of a capture that is used outside of it."""


class AnomalyError(PlugradError, FloatingPointError):
    """The first NaN or infinity found under `detect_anomaly`."""


class DataError(PlugradError, ValueError):
    """A data file or data set that is truncated, foreign or inconsistent."""


class CheckpointError(PlugradError, ValueError):
    """A checkpoint that is broken, foreign or does not fit the model."""


class DivergenceError(PlugradError, FloatingPointError):
    """A training whose loss became NaN or infinite."""

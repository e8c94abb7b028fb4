"""plugrad: a deep-learning framework that any accelerator can plug into.

The array functions follow the Python array API standard 2024.12; neural-network ops follow PyTorch's meaning
and argument positions, with ``dim`` spelled ``axis``. `Tensor` has the operators and the most used methods.
"""

from plugrad.autograd import checkpoint as checkpoint
from plugrad.autograd import custom_vjp as custom_vjp
from plugrad.autograd import grad as grad
from plugrad.autograd import gradcheck as gradcheck
from plugrad.autograd import hessian as hessian
from plugrad.autograd import jacobian as jacobian
from plugrad.autograd import jvp as jvp
from plugrad.autograd import value_and_grad as value_and_grad
from plugrad.autograd import vjp as vjp
from plugrad.backend import current_device as current_device
from plugrad.backend import devices as devices
from plugrad.backend import use_device as use_device
from plugrad.convert import asarray as asarray
from plugrad.convert import from_dlpack as from_dlpack
from plugrad.dtypes import DType as DType
from plugrad.dtypes import bfloat16 as bfloat16
from plugrad.dtypes import bool as bool
from plugrad.dtypes import can_cast as can_cast
from plugrad.dtypes import finfo as finfo
from plugrad.dtypes import float16 as float16
from plugrad.dtypes import float32 as float32
from plugrad.dtypes import float64 as float64
from plugrad.dtypes import iinfo as iinfo
from plugrad.dtypes import int8 as int8
from plugrad.dtypes import int16 as int16
from plugrad.dtypes import int32 as int32
from plugrad.dtypes import int64 as int64
from plugrad.dtypes import isdtype as isdtype
from plugrad.dtypes import uint8 as uint8
from plugrad.dtypes import uint16 as uint16
from plugrad.dtypes import uint32 as uint32
from plugrad.dtypes import uint64 as uint64
from plugrad.errors import PlugradError as PlugradError
from plugrad.graph import bodies as _bodies  # noqa: F401 - lets dispatch generate kernels of bodies
from plugrad.graph.jitted import jit as jit
from plugrad.modes import autocast as autocast
from plugrad.modes import detect_anomaly as detect_anomaly
from plugrad.modes import enable_grad as enable_grad
from plugrad.modes import fallback as fallback
from plugrad.modes import fallback_counts as fallback_counts
from plugrad.modes import get_matmul_precision as get_matmul_precision
from plugrad.modes import no_grad as no_grad
from plugrad.modes import set_matmul_precision as set_matmul_precision
from plugrad.ops import *
from plugrad.spec import Device as Device
from plugrad.tensor import Tensor as Tensor
from plugrad.version import VERSION

from plugrad import random as random  # isort: skip  (after the ops, on which it stands)
from plugrad.random import manual_seed as manual_seed  # isort: skip

__version__ = VERSION

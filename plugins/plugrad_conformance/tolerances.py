"""How far from the oracle a result may be: one reviewed table, the same for every device.

The measures:

- `Exact`: data that is only moved, compared, or computed in integers.
- `Ulp`: elementwise results, in units in the last place. The numbers are those that OpenCL 3.0 grants its full
  profile ("OpenCL C", section "Relative error as ULPs"), which WebNN's tables for tests follow too, rounded up; for an
  op that a device may compute by its body, the steps' errors together.
- `Terms`: sums. The rounding error is at most about ``count * eps`` of the sum of the terms' magnitudes, in whatever
  order they are added (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 4.2).
- `Norm`: results made of several steps, in units of ``eps`` times the largest magnitude of the result: where terms
  cancel, nothing smaller can be asked of a backward stable algorithm (ibid., section 3.1).
- `Gradient`: what a rule gives, as `Norm`, the largest cotangent counting as a result too.

No bound but that of `Terms` grows with the size of an array, and none is loosened for a device: what a device cannot
keep it waives in its manifest, with a reason, and the report shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import Kind
from plugrad.dtypes import DType


@dataclass(frozen=True, slots=True)
class Exact:
    """The same value, once rounded to the dtype."""


@dataclass(frozen=True, slots=True)
class Ulp:
    """At most ``n`` units in the last place.

    Attributes:
        n: how many.
        n16: how many in dtypes of 16 bits.
        operands: units of the larger of the result and the largest operand: for results that are differences.
    """

    n: float
    n16: float = 2.0
    operands: bool = False

    def of(self, dtype: DType) -> float:
        """The number for a dtype."""
        return self.n if dtype.itemsize > 2 else self.n16


@dataclass(frozen=True, slots=True)
class Terms:
    """At most ``factor * count * eps * sum(abs(terms))``."""

    factor: float


@dataclass(frozen=True, slots=True)
class Norm:
    """At most ``factor * eps * max(abs(result))``.

    Attributes:
        factor: the factor.
        operands: the largest operand counts as a result too.
    """

    factor: float
    operands: bool = False


@dataclass(frozen=True, slots=True)
class Gradient:
    """At most ``factor * eps`` of the largest magnitude among the gradient and the cotangents."""

    factor: float


Bound = Exact | Ulp | Terms | Norm | Gradient

_EXACT: Final = """
    where equal not_equal less less_equal greater greater_equal isnan isinf isfinite signbit
    bitwise_invert bitwise_and bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift
    logical_not logical_and logical_or logical_xor
    maximum minimum clip negative positive abs sign copysign relu floor ceil trunc round floor_divide nextafter
    full iota eye astype
    gather_nd take take_along_axis update_nd one_hot embedding nonzero_indices
    strided_slice scatter_slice reshape permute_dims select concatenate broadcast_to update_slice concat stack
    expand_dims squeeze flip matrix_transpose tril triu moveaxis roll tile pad
    max min count_nonzero argmax argmin all any max_pool
    argsort sort top_k searchsorted unique_all unique_counts unique_inverse unique_values
    advance_counter random_bits random_bernoulli random_permutation random_integers dropout_mask
"""

TABLE: Final[dict[str, Bound]] = {
    **dict.fromkeys(_EXACT.split(), Exact()),
    # -- elementwise --
    **dict.fromkeys(("add", "subtract", "multiply", "square", "leaky_relu", "masked_scale"), Ulp(1, 1)),
    **dict.fromkeys(("divide", "reciprocal", "sqrt", "remainder", "dropout"), Ulp(3)),
    **dict.fromkeys(("rsqrt", "hypot", "exp", "log", "log1p", "sin", "cos"), Ulp(4)),
    **dict.fromkeys(("asin", "acos", "atan", "expm1"), Ulp(5)),
    **dict.fromkeys(("log2", "log10", "atan2", "elu", "tanh"), Ulp(8)),
    **dict.fromkeys(("tan", "sinh", "cosh", "asinh", "acosh", "atanh", "pow", "erf"), Ulp(16)),
    **dict.fromkeys(("sigmoid", "silu"), Ulp(16, 4)),
    "softplus": Ulp(34, 10),
    **dict.fromkeys(("gelu", "logaddexp"), Ulp(16, 4, operands=True)),
    # -- sums and products --
    **dict.fromkeys(
        ("sum", "mean", "avg_pool", "cumulative_sum", "sum_to", "prod", "cumulative_prod"), Terms(2)
    ),
    **dict.fromkeys(("matrix_product", "matmul", "linear", "tensordot", "vecdot"), Terms(2)),
    **dict.fromkeys(("conv", "conv_transpose", "conv_weight", "scatter_nd", "scatter_add"), Terms(2)),
    # -- several steps --
    **dict.fromkeys(("arange", "linspace", "random_uniform", "random_normal"), Norm(8)),
    **dict.fromkeys(("logsumexp", "log_softmax", "diff", "var", "std"), Norm(16, operands=True)),
    "softmax": Norm(32),
    "linear_recurrence": Norm(32, operands=True),
    **dict.fromkeys(
        ("layer_norm", "rms_norm", "group_norm", "batch_norm_training", "batch_norm_inference"), Norm(32)
    ),
    **dict.fromkeys(("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits"), Norm(32)),
    "cross_entropy": Norm(32, operands=True),
    "scaled_dot_product_attention": Norm(32),
    **dict.fromkeys(("lstm_gates", "gru_gates", "lstm_cell", "gru_cell", "rnn_cell"), Norm(32)),
    **dict.fromkeys(("lstm_sequence", "gru_sequence", "rnn_sequence"), Norm(64)),
    **dict.fromkeys(("sgd_update", "sgd_momentum_update", "adagrad_update"), Norm(16)),
    **dict.fromkeys(("adam_update", "rmsprop_update"), Norm(32)),
}
"""By op. An op that a plugin adds gets its line through `declare`."""

RULES: Final[dict[Kind, Gradient]] = {
    Kind.MOVEMENT: Gradient(8),
    Kind.SORTING: Gradient(2),
    Kind.ELEMENTWISE: Gradient(32),
    Kind.INDEXING: Gradient(8),
    Kind.REDUCTION: Gradient(16),
    Kind.SCAN: Gradient(32),
    Kind.CONTRACTION: Gradient(32),
    Kind.OTHER: Gradient(32),
}
"""By the family of the op that a rule belongs to."""

OPEN_ZEROS: Final = frozenset(("maximum", "minimum", "clip", "relu", "elu"))
"""Ops that do not say which of 0 and -0 they choose."""


def declare(name: str, bound: Bound) -> None:
    """State the bound of an op that a plugin adds.

    Raises:
        ValueError: if it has one.
    """
    if name in TABLE:
        raise ValueError(f"{name} has a bound already")
    TABLE[name] = bound


def bound_of(op: Op[..., Any]) -> Bound:
    """The bound of an op's results.

    Raises:
        KeyError: if the table has no line for it.
    """
    return TABLE[op.name]


def gradient_bound(op: Op[..., Any]) -> Gradient:
    """The bound of an op's gradients."""
    return RULES[op.kind]

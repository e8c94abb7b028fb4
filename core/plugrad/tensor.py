"""`Tensor`: the public face of a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from plugrad import ops
from plugrad.autograd import engine
from plugrad.backend import backend_of, resolve_device
from plugrad.convert import asarray, scalar_of, to_device, to_host
from plugrad.dispatch.cells import grad_of, rebind, set_grad
from plugrad.dispatch.data import TensorData, set_tensor_class
from plugrad.dispatch.modes import local
from plugrad.dispatch.op import Scalar
from plugrad.dispatch.record import Leaf
from plugrad.dispatch.tracing import Symbol, array_of, refuse
from plugrad.dtypes import DType, as_dtype
from plugrad.errors import DeviceError, DTypeError, GradientError, ShapeError
from plugrad.spec import Device, Shape
from plugrad.subscript import contains, getitem, setitem

Axis = int | tuple[int, ...] | None


def _binary(op: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., Tensor]]:
    """The operator, its reflection and its in-place form, of an op of two operands."""

    def forward(self: Tensor, other: Tensor | Scalar) -> Tensor:
        return op(self, other)  # type: ignore[no-any-return]

    def reflected(self: Tensor, other: Tensor | Scalar) -> Tensor:
        return op(other, self)  # type: ignore[no-any-return]

    def inplace(self: Tensor, other: Tensor | Scalar) -> Tensor:
        return self.assign(op(self, other))

    return forward, reflected, inplace


def _matmul(x1: Tensor, x2: Tensor) -> Tensor:
    """`plugrad.matmul`; for matrices the primitive below it, without a look-up of its own."""
    if isinstance(x1, Tensor) and isinstance(x2, Tensor):
        a, b = x1._key.spec.shape, x2._key.spec.shape
        if len(a) == len(b) == 2 and a[1] == b[0]:
            return ops.matrix_product(x1, x2)
    return ops.matmul(x1, x2)


class Tensor(TensorData):
    """An n-dimensional array of one dtype on one device, made by `asarray` and by ops.

    Its value is immutable: indexing never writes through to another tensor. What looks like a change,
    ``x[i] = v``, ``x += v``, `assign`, binds this object to a new value.
    """

    __slots__ = ()

    # NumPy must not take a tensor for an array: the device and the record would be lost in silence.
    __array_ufunc__: ClassVar[None] = None

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("a tensor is made by plugrad.asarray(values, dtype=None, device=None)")

    # -- what it is ---------------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return self._key.spec.shape

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return self._key.spec.dtype

    @property
    def device(self) -> Device:
        """Where the elements are."""
        return self._key.spec.device

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._key.spec.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._key.spec.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self._key.spec.nbytes

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("len: a tensor of no axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise ShapeError("iteration: a tensor of no axes has nothing to iterate over")
        return (self[i] for i in range(self.shape[0]))

    def __getitem__(self, key: Any) -> Tensor:
        """What ``key`` selects, with NumPy's meaning: integers, slices, ``...``, None, masks, arrays of integers.

        Raises:
            AxisError, IndexRangeError, ShapeError, DTypeError: for a key that does not fit; see
                `plugrad.subscript.getitem`.
        """
        return getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Bind this tensor to its value with ``value`` at ``key``; gradients flow to both.

        ``value`` broadcasts and is cast to the dtype of the tensor, but a floating one to no other kind. Where the
        key names a place several times, the last element stays. What was read from the tensor before keeps
        its value.

        Raises:
            GradientError: as `assign`.
            DTypeError, ShapeError: if the value does not fit; for the key as ``x[key]``.
        """
        self.assign(setitem(self, key, value))

    def __contains__(self, value: Any) -> bool:
        """Whether an element equals ``value``."""
        return contains(self, value)

    def __repr__(self) -> str:
        tail = f", dtype={self.dtype}, device='{self.device}'"
        if self.requires_grad:
            tail += ", requires_grad=True" if self.is_leaf else f", made by {_maker(self)}"
        if local.modes.capturing or isinstance(self._array, Symbol):
            return f"tensor(<captured>, shape={self.shape}{tail})"
        try:
            host = to_host(self)
        except DeviceError:
            return f"tensor(<no values>, shape={self.shape}{tail})"
        if self.dtype.name == "bfloat16":
            host = host.astype(np.float32)
        body = np.array2string(host, separator=", ", prefix="tensor(", threshold=200, edgeitems=3)
        if not self.size:
            tail = f", shape={self.shape}{tail}"
        return f"tensor({body}{tail})"

    # -- its values on the host ---------------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array of the host, read-only or a copy."""
        return to_host(self, "numpy")

    def item(self) -> Scalar:
        """The value of a tensor of one element as a Python number."""
        return scalar_of(self, "item")  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return to_host(self, "tolist").tolist()

    def __float__(self) -> float:
        return float(scalar_of(self, "float"))

    def __int__(self) -> int:
        return int(scalar_of(self, "int"))

    def __bool__(self) -> bool:
        return bool(scalar_of(self, "bool"))

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise DTypeError(f"index: takes a tensor of an integer dtype, got {self.dtype}")
        return int(scalar_of(self, "index"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.requires_grad:
            raise GradientError(
                "a tensor that needs a gradient would lose it in NumPy: use .detach().numpy()"
            )
        if not backend_of(self.device).capabilities(self.device).host_memory:
            raise DeviceError(
                f"a tensor on {self.device} would be copied to the host in silence: use .numpy()"
            )
        host = to_host(self)
        return np.array(host, dtype, copy=copy) if copy is not None else np.asarray(host, dtype)

    def __dlpack__(self, **options: Any) -> Any:
        """A DLPack capsule that shares the memory (array API `__dlpack__`)."""
        if self.requires_grad:
            raise GradientError("a tensor that needs a gradient cannot leave: use .detach()")
        refuse("a tensor is exported", "export it outside")
        return backend_of(self.device).to_dlpack(self._array, **options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return backend_of(self.device).dlpack_device(self._array)

    def __reduce__(self) -> Any:
        return _rebuild, (
            to_host(self),
            self.dtype.name,
            str(self.device),
            self.is_leaf and self.requires_grad,
        )

    def __copy__(self) -> Tensor:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise GradientError(
                "a copy of a tensor that an op made would leave the record: use .detach() first"
            )
        copied = self.detach()
        if self.requires_grad:
            copied.requires_grad = True
        memo[id(self)] = copied
        return copied

    # -- elsewhere, in another dtype ----------------------------------------------------------------------

    def to(self, target: Any) -> Tensor:
        """This tensor on another device, or in another dtype; itself where nothing changes.

        Args:
            target: a device (``"numpy"``, ``"name:1"``, `Device`) or a dtype (``"float64"``, `DType`).
        """
        if isinstance(target, DType) or (isinstance(target, type) and not isinstance(target, Device)):
            return self.astype(target)
        if isinstance(target, str):
            try:
                return self.astype(as_dtype(target))
            except DTypeError:
                pass
        return to_device(self, resolve_device(target))

    def to_device(self, device: Device | str, /, *, stream: None = None) -> Tensor:
        """This tensor on another device (array API `to_device`)."""
        if stream is not None:
            raise DeviceError("to_device: streams are not taken; a device orders its own work")
        return to_device(self, resolve_device(device))

    def astype(self, dtype: Any, *, copy: bool = True) -> Tensor:
        """The elements cast to ``dtype``, as a tensor of its own; itself where nothing changes and ``copy`` is False."""
        target = as_dtype(dtype)
        if target is not self.dtype:
            return ops.astype(self, target)
        return self.clone() if copy else self

    # -- gradients ----------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether ops on this tensor are recorded. Setting it makes the tensor a leaf, or frees it."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value == self.requires_grad:
            return
        if not self.is_leaf:
            raise GradientError("requires_grad: an op made this tensor; .detach() gives one that can be set")
        if value and not self.dtype.is_floating:
            raise GradientError(f"requires_grad: takes a floating dtype, this tensor is {self.dtype}")
        if local.modes.capturing and not isinstance(self._array, Symbol):
            refuse(
                "requires_grad of a tensor from outside is set",
                "set it before the call, or use detach() inside",
                "where it would be set once",
            )
        spec = self.spec
        self._node = Leaf(spec) if value else None
        self._key = spec.tracked if value else spec

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad`; returns this tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made this tensor."""
        return self._node is None or isinstance(self._node, Leaf)

    @property
    def grad(self) -> Tensor | None:
        """What `backward` has accumulated for this leaf, a tensor of its own; None before."""
        return grad_of(self._node) if isinstance(self._node, Leaf) else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if not isinstance(self._node, Leaf):
            raise GradientError("grad: only a leaf that requires a gradient has one")
        if value is not None and value.spec is not self.spec:
            raise GradientError(f"grad: takes a tensor like this one, {self.spec!r}, got {value.spec!r}")
        set_grad(self._node, value)

    def detach(self) -> Tensor:
        """The same value, without the record."""
        t: Tensor = object.__new__(Tensor)
        t._array, t._key, t._node = array_of(self), self.spec, None
        return t

    def clone(self) -> Tensor:
        """The same value as a tensor of its own, followed by the record."""
        t: Tensor = object.__new__(Tensor)
        t._array, t._key, t._node = array_of(self), self._key, self._node
        return engine.alias(t) if self.requires_grad else t

    def backward(
        self,
        gradient: Tensor | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Accumulate the gradient of this tensor into ``.grad`` of the leaves that it was made from.

        Args:
            gradient: the cotangent of this tensor; 1 by default, for a tensor of one element.
            retain_graph: keep what the record saved, for another backward.
            create_graph: record the backward too, so that the gradients can be differentiated.
            inputs: the leaves to serve; by default all.

        Raises:
            GradientError: if this tensor is not recorded, has several elements and no ``gradient`` is
                given, or was freed by an earlier backward.
        """
        engine.backward(self, gradient, retain=retain_graph, create=create_graph, inputs=inputs)

    def assign(self, value: Tensor | Scalar) -> Tensor:
        """Bind this object to ``value``, which has its shape, dtype and device; returns this tensor.

        A leaf that requires a gradient stays that leaf, and takes values under `no_grad` alone.

        Raises:
            ShapeError, DTypeError, DeviceError: if ``value`` differs in shape, dtype or device.
            GradientError: for a leaf that requires a gradient, while ops are recorded.
        """
        if not isinstance(value, Tensor):
            value = asarray(value, dtype=self.dtype, device=self.device)
        spec, given = self.spec, value.spec
        if given is not spec:
            if given.device is not spec.device:
                raise DeviceError(f"assign: the tensor is on {spec.device}, the value on {given.device}")
            if given.shape != spec.shape:
                value = ops.broadcast_to(value, spec.shape)
            if given.dtype is not spec.dtype:
                raise DTypeError(
                    f"assign: the tensor is {spec.dtype}, the value {given.dtype}; cast it with astype"
                )
        if type(self._node) is Leaf:  # the argument of a transform is bound like any tensor
            if local.modes.recording:
                raise GradientError(
                    "assign: a leaf that requires a gradient changes under plugrad.no_grad() alone; "
                    "otherwise the record would not know of it"
                )
            rebind(self, array_of(value), self._key, self._node)
        else:
            rebind(self, array_of(value), value._key, value._node)
        return self

    # -- operators ----------------------------------------------------------------------------------------

    __add__, __radd__, __iadd__ = _binary(ops.add)
    __sub__, __rsub__, __isub__ = _binary(ops.subtract)
    __mul__, __rmul__, __imul__ = _binary(ops.multiply)
    __truediv__, __rtruediv__, __itruediv__ = _binary(ops.divide)
    __floordiv__, __rfloordiv__, __ifloordiv__ = _binary(ops.floor_divide)
    __mod__, __rmod__, __imod__ = _binary(ops.remainder)
    __pow__, __rpow__, __ipow__ = _binary(ops.pow)
    __matmul__, __rmatmul__, __imatmul__ = _binary(_matmul)
    __and__, __rand__, __iand__ = _binary(ops.bitwise_and)
    __or__, __ror__, __ior__ = _binary(ops.bitwise_or)
    __xor__, __rxor__, __ixor__ = _binary(ops.bitwise_xor)
    __lshift__, __rlshift__, __ilshift__ = _binary(ops.bitwise_left_shift)
    __rshift__, __rrshift__, __irshift__ = _binary(ops.bitwise_right_shift)

    def __neg__(self) -> Tensor:
        return ops.negative(self)

    def __pos__(self) -> Tensor:
        return ops.positive(self)

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __invert__(self) -> Tensor:
        return ops.bitwise_invert(self)

    def __eq__(self, other: Tensor | Scalar) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other)

    def __ne__(self, other: Tensor | Scalar) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other)

    def __lt__(self, other: Tensor | Scalar) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Tensor | Scalar) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Tensor | Scalar) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Tensor | Scalar) -> Tensor:
        return ops.greater_equal(self, other)

    __hash__ = object.__hash__

    # -- ops that people expect as methods ----------------------------------------------------------------

    @property
    def T(self) -> Tensor:  # noqa: N802  (array API)
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ShapeError(f"T: takes 2 axes, got shape {self.shape}; mT exchanges the last two")
        return ops.permute_dims(self, (1, 0))

    @property
    def mT(self) -> Tensor:  # noqa: N802  (array API)
        """The last two axes exchanged."""
        return ops.matrix_transpose(self)

    def reshape(self, *shape: Any) -> Tensor:
        """See `plugrad.reshape`; takes sizes, or one sequence of them."""
        given = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return ops.reshape(self, given)

    def permute_dims(self, *axes: Any) -> Tensor:
        """See `plugrad.permute_dims`; takes axes, or one sequence of them."""
        return ops.permute_dims(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes)

    def squeeze(self, axis: int | tuple[int, ...]) -> Tensor:
        """See `plugrad.squeeze`."""
        return ops.squeeze(self, axis)

    def expand_dims(self, axis: int) -> Tensor:
        """See `plugrad.expand_dims`."""
        return ops.expand_dims(self, axis=axis)

    def sum(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.sum`."""
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.mean`."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.max`."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.min`."""
        return ops.min(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
        """See `plugrad.var`."""
        return ops.var(self, axis=axis, correction=correction, keepdims=keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.argmax`."""
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.prod`."""
        return ops.prod(self, axis=axis, keepdims=keepdims)

    def std(self, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
        """See `plugrad.std`."""
        return ops.std(self, axis=axis, correction=correction, keepdims=keepdims)

    def all(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.all`."""
        return ops.all(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.any`."""
        return ops.any(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """See `plugrad.argmin`."""
        return ops.argmin(self, axis=axis, keepdims=keepdims)

    def sort(self, *, axis: int = -1, descending: bool = False) -> Tensor:
        """See `plugrad.sort`."""
        return ops.sort(self, axis=axis, descending=descending)

    def argsort(self, *, axis: int = -1, descending: bool = False) -> Tensor:
        """See `plugrad.argsort`."""
        return ops.argsort(self, axis=axis, descending=descending)

    def abs(self) -> Tensor:
        """See `plugrad.abs`."""
        return ops.abs(self)

    def clip(self, min: Tensor | Scalar | None = None, max: Tensor | Scalar | None = None) -> Tensor:
        """See `plugrad.clip`."""
        return ops.clip(self, min, max)

    def relu(self) -> Tensor:
        """See `plugrad.relu`."""
        return ops.relu(self)

    def sigmoid(self) -> Tensor:
        """See `plugrad.sigmoid`."""
        return ops.sigmoid(self)

    def softmax(self, axis: int = -1) -> Tensor:
        """See `plugrad.softmax`."""
        return ops.softmax(self, axis=axis)

    def exp(self) -> Tensor:
        """See `plugrad.exp`."""
        return ops.exp(self)

    def log(self) -> Tensor:
        """See `plugrad.log`."""
        return ops.log(self)

    def sqrt(self) -> Tensor:
        """See `plugrad.sqrt`."""
        return ops.sqrt(self)

    def tanh(self) -> Tensor:
        """See `plugrad.tanh`."""
        return ops.tanh(self)


set_tensor_class(Tensor)


def _maker(x: Tensor) -> str:
    origin = getattr(x._node, "node", x._node)
    return str(getattr(origin, "name", "?"))


def _rebuild(host: np.ndarray[Any, Any], dtype: str, device: str, leaf: bool) -> Tensor:
    t = asarray(host, dtype=dtype, device=device)
    t.requires_grad = leaf
    return t

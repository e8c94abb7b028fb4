"""A graph as JSON, and back; and whether two graphs are the same.

The document has the keys ``format``, ``version``, ``inputs``, ``constants``, ``nodes`` and ``outputs``. Values go by the
names of the text form: ``x0`` an input, ``c0`` a constant, ``v0`` what a node computes. What JSON has no word for is an
object of one key: ``{"tuple": [...]}``, ``{"dtype": "float32"}``, ``{"device": "name:0"}``, ``{"slice": [0, 4, null]}``,
``{"spec": {"shape": [2, 3], "dtype": "float32", "device": "name:0"}}``, ``{"float": "nan"}``, ``{"value": "x0"}``. The
op of a node is its name, or, where it is made of nodes, an object of its ``name``, its ``graph`` and its ``facts``.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from plugrad.backend import backend_of, resolve_device
from plugrad.backend.null import Nothing
from plugrad.dispatch.call import attribute_key
from plugrad.dispatch.statement import register
from plugrad.dtypes import DType, as_dtype
from plugrad.errors import ArgumentError, DataError, PlugradError
from plugrad.graph.bundle import Bundle
from plugrad.graph.epilogue import Epilogue
from plugrad.graph.fused import Fused
from plugrad.graph.ir import Composed, Graph, Value
from plugrad.graph.printing import names_of
from plugrad.graph.region import Region
from plugrad.graph.rewrite import specs_of
from plugrad.spec import Device, Spec

FORMAT: Final = "plugrad.graph"
VERSION: Final = 1

COMPOSED: Final[Mapping[str, type[Composed]]] = {c.name: c for c in (Bundle, Epilogue, Fused, Region)}
"""What nodes apply that is made of nodes, by name."""


def to_json(graph: Graph, *, constants: bool = True, indent: int | None = None) -> str:
    """The graph as a JSON document.

    Args:
        graph: any graph.
        constants: with the elements of the constants, in base64 of their bytes, row-major and little-endian. Without
            them, and for the null device, which has none, their specs stand alone.
        indent: spaces by which nested parts are indented; None writes one line.

    Raises:
        ArgumentError: for a static attribute that is no number, string, dtype, device, spec, slice or tuple of these.
    """
    document = {"format": FORMAT, "version": VERSION, **_document(graph, constants)}
    return json.dumps(document, indent=indent, allow_nan=False)


def _document(graph: Graph, constants: bool) -> dict[str, Any]:
    names = names_of(graph)
    return {
        "inputs": [_encoded(v.spec) for v in graph.inputs],
        "constants": [
            {**_encoded(v.spec), "base64": _base64(_elements(a, v.spec)) if constants else None}
            for v, a in graph.constants.items()
        ],
        "nodes": [
            {
                "op": n.op.name if not isinstance(n.op, Composed) else _composed(n.op, constants),
                "operands": [_encoded(o, names) for o in n.operands],
                "attributes": {k: _encoded(v) for k, v in n.attributes.items()},
                "results": _encoded(specs_of(n.form)),
                "line": n.line,
            }
            for n in graph.nodes
        ],
        "outputs": [names[v] for v in graph.outputs],
    }


def _composed(op: Composed, constants: bool) -> dict[str, Any]:
    facts = {k: _encoded(v) for k, v in op.facts().items()}
    return {"name": op.name, "graph": _document(op.graph, constants), "facts": facts}


def from_json(text: str) -> Graph:
    """The graph of a document that `to_json` wrote. Its ops must be stated, its devices be there.

    A constant without elements has the array None: such a graph can be looked at and compared, not run.

    Raises:
        DataError: if the text is no such document, names an op that is not stated, or a value that is not there.
        DeviceError: if it names a device that is not there.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"this is no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"this JSON is no graph: its format is not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise DataError(f"the graph has version {document.get('version')!r} of the format; takes {VERSION}")
    try:
        return _read(document)
    except PlugradError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise DataError(f"the graph is damaged: {type(error).__name__}: {error}") from error


def _read(document: Mapping[str, Any]) -> Graph:
    graph = Graph()
    values: dict[str, Value] = {}
    for i, given in enumerate(document["inputs"]):
        values[f"x{i}"] = graph.input(_spec(given["spec"]))
    for i, given in enumerate(document["constants"]):
        spec = _spec(given["spec"])
        values[f"c{i}"] = graph.constant(_array(given["base64"], spec), spec)
    made = 0
    for given in document["nodes"]:
        op = _op(given["op"])
        operands = [_decoded(o, values) for o in given["operands"]]
        attributes = {k: _decoded(v) for k, v in given["attributes"].items()}
        results = _decoded(given["results"])
        graph.add(op, operands, attributes, results, given["line"])
        for value in graph.nodes[-1].results:
            values[f"v{made}"] = value
            made += 1
    graph.outputs = [_named(name, values) for name in document["outputs"]]
    return graph


def _op(given: Any) -> Any:
    if isinstance(given, dict):
        facts = {k: _decoded(v) for k, v in given["facts"].items()}
        return COMPOSED[given["name"]].made_of(_read(given["graph"]), facts)
    if given not in register:
        raise DataError(f"the graph applies {given!r}, and no op of that name is stated here")
    return register[given]


def _encoded(value: Any, names: Mapping[Value, str] | None = None) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Value) and names is not None:
        return {"value": names[value]}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(v, names) for v in value]}
    if isinstance(value, list):
        return [_encoded(v, names) for v in value]
    if isinstance(value, DType):
        return {"dtype": value.name}
    if isinstance(value, Device):
        return {"device": str(value)}
    if isinstance(value, Spec):
        parts = {"shape": list(value.shape), "dtype": value.dtype.name, "device": str(value.device)}
        return {"spec": parts}
    if isinstance(value, slice):
        return {"slice": [_encoded(v) for v in (value.start, value.stop, value.step)]}
    raise ArgumentError(f"a graph with an attribute of type {type(value).__name__} cannot be written as JSON")


def _decoded(given: Any, values: Mapping[str, Value] | None = None) -> Any:
    if isinstance(given, list):
        return [_decoded(v, values) for v in given]
    if not isinstance(given, dict):
        return given
    [(kind, inner)] = given.items()
    if kind == "tuple":
        return tuple(_decoded(v, values) for v in inner)
    if kind == "value" and values is not None:
        return _named(inner, values)
    if kind == "slice":
        return slice(*inner)
    if kind not in _READERS:
        raise DataError(f"the graph is damaged: there is no {kind!r} in the format")
    return _READERS[kind](inner)


def _spec(given: Mapping[str, Any]) -> Spec:
    return Spec(tuple(map(int, given["shape"])), as_dtype(given["dtype"]), resolve_device(given["device"]))


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "dtype": as_dtype,
    "device": resolve_device,
    "spec": _spec,
    "float": float,
}


def _named(name: str, values: Mapping[str, Value]) -> Value:
    if name not in values:
        raise DataError(f"the graph is damaged: it reads {name!r}, which is not there at that point")
    return values[name]


def _elements(array: Any, spec: Spec) -> np.ndarray[Any, Any] | None:
    """The elements on the host; None where there are none."""
    return None if array is None or isinstance(array, Nothing) else backend_of(spec.device).to_host(array)


def _base64(elements: np.ndarray[Any, Any] | None) -> str | None:
    if elements is None:
        return None
    return base64.b64encode(_little(elements).tobytes()).decode()


def _little(elements: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Between the order of bytes of this host and the little-endian one of the document."""
    return elements if sys.byteorder == "little" else elements.byteswap()


def _array(given: str | None, spec: Spec) -> Any:
    if given is None:
        return None
    raw = base64.b64decode(given, validate=True)
    if len(raw) != spec.nbytes:
        raise DataError(
            f"the graph is damaged: {len(raw)} bytes for a constant {spec}, which has {spec.nbytes}"
        )
    host = _little(np.frombuffer(raw, spec.dtype.numpy))
    return backend_of(spec.device).from_host(host.reshape(spec.shape), spec.device)


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are the same: inputs, constants by their bits, nodes in order, attributes, outputs.

    Names and the user's lines do not count, nor the order of the constants, nor those that nothing reads. A constant
    without elements is the same as any of its spec.
    """
    if [v.spec for v in a.inputs] != [v.spec for v in b.inputs] or len(a.nodes) != len(b.nodes):
        return False
    pairs: dict[Value, Value] = dict(zip(a.inputs, b.inputs, strict=True))

    def alike(x: Any, y: Any) -> bool:
        if isinstance(x, Value) and isinstance(y, Value):
            if x in a.constants and y in b.constants and x not in pairs:
                pairs[x] = y
                return x.spec is y.spec and _same_elements(a.constants[x], b.constants[y], x.spec)
            return pairs.get(x) is y
        if isinstance(x, tuple) and isinstance(y, tuple):
            return len(x) == len(y) and all(map(alike, x, y))
        if isinstance(x, (Value, tuple)) or isinstance(y, (Value, tuple)):
            return False
        return bool(attribute_key(x) == attribute_key(y))

    for m, n in zip(a.nodes, b.nodes, strict=True):
        if (
            not _same_op(m.op, n.op)
            or specs_of(m.form) != specs_of(n.form)
            or _attributes(m.attributes) != _attributes(n.attributes)
            or not alike(m.operands, n.operands)
        ):
            return False
        pairs.update(zip(m.results, n.results, strict=True))
    return alike(tuple(a.outputs), tuple(b.outputs))


def _same_op(a: Any, b: Any) -> bool:
    if isinstance(a, Composed) and type(a) is type(b):
        return a.facts() == b.facts() and same(a.graph, b.graph)
    return a is b


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {k: attribute_key(v) for k, v in attributes.items()}


def _same_elements(x: Any, y: Any, spec: Spec) -> bool:
    first, second = _elements(x, spec), _elements(y, spec)
    return first is None or second is None or first.tobytes() == second.tobytes()

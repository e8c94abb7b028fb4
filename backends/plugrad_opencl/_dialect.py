"""OpenCL C as the templates of `plugrad.graph.source` need it (The OpenCL C Specification, version 1.2 and later)."""

from __future__ import annotations

from typing import Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.source import Dialect

TYPES: Final[dict[DType, str]] = {
    dtypes.bool: "uchar",
    dtypes.int8: "char",
    dtypes.int16: "short",
    dtypes.int32: "int",
    dtypes.int64: "long",
    dtypes.uint8: "uchar",
    dtypes.uint16: "ushort",
    dtypes.uint32: "uint",
    dtypes.uint64: "ulong",
    dtypes.float16: "half",
    dtypes.bfloat16: "ushort",
    dtypes.float32: "float",
    dtypes.float64: "double",
}

_BFLOAT16: Final = """static ushort bfloat16_of(float x)
{
    const uint bits = as_uint(x);
    return x != x ? (bits >> 16) | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}"""

OPENCL_C: Final = Dialect(
    kernel="__kernel void",
    function="static",
    pointer="__global {type} *{name}",
    indices=("get_global_id(0)", "get_global_id(1)", "get_global_id(2)"),
    types=TYPES,
    convert="convert_{type}({value})",
    claim="atomic_cmpxchg({name}, 0, {value}) == 0",
    preambles={
        dtypes.float64: "#pragma OPENCL EXTENSION cl_khr_fp64 : enable",
        dtypes.bfloat16: _BFLOAT16,
    },
    arithmetic={dtypes.float16: dtypes.float32, dtypes.bfloat16: dtypes.float32},
    loads={
        dtypes.float16: "vload_half({place}, {memory})",
        dtypes.bfloat16: "as_float((uint){memory}[{place}] << 16)",
    },
    stores={
        dtypes.float16: "vstore_half_rte({value}, {place}, {memory});",
        dtypes.bfloat16: "{memory}[{place}] = bfloat16_of({value});",
    },
    odd="""static float odd({type} x)
{{
    const float f = convert_float_rtz(x);
    return ({type})f == x ? f : as_float(as_uint(f) | 1);
}}""",
    lanes={dtypes.float32: 16, dtypes.float64: 8},
    vector="{type}{lanes}",
    load="vload{lanes}(0, {place})",
    store="vstore{lanes}({value}, 0, {place});",
    splat="({type}{lanes})({value})",
    fma="fma({a}, {b}, {c})",
    compose="({type}{lanes})({values})",
    lane="{vector}.s{lane:x}",
)

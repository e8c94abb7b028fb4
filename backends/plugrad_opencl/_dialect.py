"""OpenCL C as the templates of `plugrad.graph.source` need it (The OpenCL C Specification, version 1.2 and later)."""

from __future__ import annotations

from typing import Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.source import Dialect, Profile

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
}
static ushort16 bfloat16_of_16(float16 x)
{
    const uint16 bits = as_uint16(x);
    return convert_ushort16(select((bits + 0x7fff + (bits >> 16 & 1)) >> 16, (bits >> 16) | 0x40, x != x));
}"""

_FLOAT16: Final = """static float half_of(float x)
{
    ushort bits;
    vstore_half_rte(x, 0, (half *)&bits);
    return vload_half(0, (const half *)&bits);
}
static float16 half_of_16(float16 x)
{
    ushort bits[16];
    vstore_half16_rte(x, 0, (half *)bits);
    return vload_half16(0, (const half *)bits);
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
        dtypes.float16: _FLOAT16,
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
    narrow={
        dtypes.float16: "half_of({value})",
        dtypes.bfloat16: "as_float((uint)bfloat16_of({value}) << 16)",
    },
    narrow_vector={
        dtypes.float16: "half_of_{lanes}({value})",
        dtypes.bfloat16: "as_float{lanes}(convert_uint{lanes}(bfloat16_of_{lanes}({value})) << 16)",
    },
    vector_loads={
        dtypes.bool: "convert_int{lanes}(vload{lanes}(0, {place})) != 0",
        dtypes.float16: "vload_half{lanes}(0, {place})",
        dtypes.bfloat16: "as_float{lanes}(convert_uint{lanes}(vload{lanes}(0, {place})) << 16)",
    },
    vector_stores={
        dtypes.bool: "vstore{lanes}(convert_uchar{lanes}({value} & 1), 0, {place});",
        dtypes.float16: "vstore_half{lanes}_rte({value}, 0, {place});",
        dtypes.bfloat16: "vstore{lanes}(bfloat16_of_{lanes}({value}), 0, {place});",
    },
    choose="select({b}, {a}, {condition})",
    compose="({type}{lanes})({values})",
    reinterpret="as_{type}({value})",
    profile=Profile(lanes=16, chunk=1024, part=8192, items=64, group=1),
    lane="{vector}.s{lane:x}",
)

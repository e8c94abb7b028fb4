"""CUDA C++ as the templates of `plugrad.graph.source` need it (CUDA C++ Programming Guide), without any header.

Without headers a kernel compiles in a third of the time. What `cuda_fp16.h` would bring is written in PTX; a compiler
other than NVRTC has to bring `float_of_half` and `half_of_float` itself.
"""

from __future__ import annotations

from typing import Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.source import Dialect, Profile

TYPES: Final[dict[DType, str]] = {
    dtypes.bool: "unsigned char",
    dtypes.int8: "signed char",
    dtypes.int16: "short",
    dtypes.int32: "int",
    dtypes.int64: "long long",
    dtypes.uint8: "unsigned char",
    dtypes.uint16: "unsigned short",
    dtypes.uint32: "unsigned int",
    dtypes.uint64: "unsigned long long",
    dtypes.float16: "unsigned short",
    dtypes.bfloat16: "unsigned short",
    dtypes.float32: "float",
    dtypes.float64: "double",
}

_FLOAT16: Final = """#ifdef __CUDACC_RTC__
static __device__ float float_of_half(unsigned short x)
{
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x));
    return result;
}
static __device__ unsigned short half_of_float(float x)
{
    unsigned short result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(x));
    return result;
}
#endif"""

_BFLOAT16: Final = """static __device__ float float_of_bfloat16(unsigned short x)
{
    return __uint_as_float((unsigned int)x << 16);
}
static __device__ unsigned short bfloat16_of_float(float x)
{
    const unsigned int bits = __float_as_uint(x);
    return x != x ? (bits >> 16) | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}"""

_ODD: Final = """static __device__ float odd({type} x)
{{
    const float f = towards_zero(x);
    return ({type})f == x ? f : __uint_as_float(__float_as_uint(f) | 1);
}}"""

_TOWARDS_ZERO: Final = """static __device__ float towards_zero(double x) {{ return __double2float_rz(x); }}
static __device__ float towards_zero(int x) {{ return __int2float_rz(x); }}
static __device__ float towards_zero(unsigned int x) {{ return __uint2float_rz(x); }}
static __device__ float towards_zero(long long x) {{ return __ll2float_rz(x); }}
static __device__ float towards_zero(unsigned long long x) {{ return __ull2float_rz(x); }}
"""

CUDA_C: Final = Dialect(
    kernel='extern "C" __global__ void',
    function="static __device__",
    pointer="{type} *{name}",
    indices=(
        "((long long)(blockIdx.x % groups_first) * blockDim.x + threadIdx.x)",
        "((long long)(blockIdx.x / groups_first % groups_second))",
        "((long long)(blockIdx.x / groups_first / groups_second))",
    ),
    # A grid has 65535 blocks at most along its second and third axis: all three are laid along the first.
    shape=("groups_first", "groups_second"),
    types=TYPES,
    convert="({type})({value})",
    claim="atomicCAS({name}, 0, {value}) == 0",
    preambles={dtypes.float16: _FLOAT16, dtypes.bfloat16: _BFLOAT16},
    arithmetic={dtypes.float16: dtypes.float32, dtypes.bfloat16: dtypes.float32},
    loads={
        dtypes.float16: "float_of_half({memory}[{place}])",
        dtypes.bfloat16: "float_of_bfloat16({memory}[{place}])",
    },
    stores={
        dtypes.float16: "{memory}[{place}] = half_of_float({value});",
        dtypes.bfloat16: "{memory}[{place}] = bfloat16_of_float({value});",
    },
    odd=_TOWARDS_ZERO + _ODD,
    lanes={dtypes.float32: 1, dtypes.float64: 1},
    fma="fma({a}, {b}, {c})",
    infinity="__int_as_float(0x7f800000)",
    narrow={
        dtypes.float16: "float_of_half(half_of_float({value}))",
        dtypes.bfloat16: "float_of_bfloat16(bfloat16_of_float({value}))",
    },
    profile=Profile(),
)

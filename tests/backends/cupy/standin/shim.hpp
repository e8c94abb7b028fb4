// CUDA C++ as a host compiler takes it: what a kernel's text needs, and a call that runs a grid thread by thread.
// No standard header is included, so that a kernel compiles in a few hundredths of a second.
#define __global__
#define __device__
#define __shared__ static
#define __restrict__ __restrict
#define __forceinline__ inline

struct Index { unsigned x, y, z; };
static Index blockIdx, threadIdx, blockDim, gridDim;

extern "C" {
float expf(float); double exp(double); float expm1f(float); double expm1(double);
float logf(float); double log(double); float log1pf(float); double log1p(double);
float sqrtf(float); double sqrt(double); float powf(float, float); double pow(double, double);
float sinf(float); double sin(double); float cosf(float); double cos(double);
float tanhf(float); double tanh(double); float erff(float); double erf(double);
float atan2f(float, float); double atan2(double, double);
float floorf(float); double floor(double); float rintf(float); double rint(double);
float truncf(float); double trunc(double); float ceilf(float); double ceil(double); float fmodf(float, float); double fmod(double, double);
float copysignf(float, float); double copysign(double, double);
float nextafterf(float, float); double nextafter(double, double);
float fabsf(float); double fabs(double); float fmaf(float, float, float); double fma(double, double, double);
int getcontext(void *); int setcontext(const void *); int swapcontext(void *, const void *);
}
#define UNARY(name) static inline float name(float x) { return name##f(x); }
#define BINARY(name) static inline float name(float x, float y) { return name##f(x, y); }
UNARY(exp) UNARY(expm1) UNARY(log) UNARY(log1p) UNARY(sqrt) UNARY(sin) UNARY(cos) UNARY(tanh) UNARY(erf) UNARY(floor) UNARY(rint) UNARY(trunc) UNARY(ceil) UNARY(fabs)
BINARY(pow) BINARY(atan2) BINARY(fmod) BINARY(nextafter) BINARY(copysign)
static inline float fma(float a, float b, float c) { return fmaf(a, b, c); }
template <class T> static inline bool isnan(T x) { return x != x; }
template <class T> static inline bool isinf(T x) { return x == x && x - x != x - x; }
template <class T> static inline bool isfinite(T x) { return x - x == x - x; }
static inline int signbit(float x) { return __builtin_signbitf(x) != 0; }
static inline int signbit(double x) { return __builtin_signbit(x) != 0; }

static inline unsigned __float_as_uint(float x) { unsigned u; __builtin_memcpy(&u, &x, 4); return u; }
static inline float __uint_as_float(unsigned u) { float x; __builtin_memcpy(&x, &u, 4); return x; }
static inline float __int_as_float(int u) { return __uint_as_float((unsigned)u); }
static inline int atomicCAS(int *place, int old, int value) { int held = *place; if (held == old) *place = value; return held; }

// Towards zero: the nearest float, or the one before it in magnitude where that is too large.
template <class T> static inline float rounded_down(T x, bool over)
{
    const float f = (float)x;
    return over ? __uint_as_float(__float_as_uint(f) - 1) : f;
}
static inline float __double2float_rz(double x)
{
    const float f = (float)x;
    return rounded_down(x, x == x && fabs((double)f) > fabs(x));
}
static inline float __ull2float_rz(unsigned long long x)
{
    const float f = (float)x;
    return rounded_down(x, f >= 18446744073709551616.0f || (unsigned long long)f > x);
}
static inline float __ll2float_rz(long long x) { return x < 0 ? -__ull2float_rz(0 - (unsigned long long)x) : __ull2float_rz(x); }
static inline float __int2float_rz(int x) { return __ll2float_rz(x); }
static inline float __uint2float_rz(unsigned x) { return __ull2float_rz(x); }

// IEEE 754 binary16 in integers: to nearest, ties to even.
static inline float float_of_half(unsigned short h)
{
    const unsigned sign = (unsigned)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | fraction << 13);
    if (exponent) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
    const float small = (float)fraction * 5.9604644775390625e-8f;
    return sign ? -small : small;
}
static inline unsigned short half_of_float(float x)
{
    const unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return sign | 0x7e00 | (rest >> 13 & 0x1ff);
    if (rest >= 0x477ff000) return sign | 0x7c00;
    if (rest < 0x38800000)
        // Adding a half puts the bits below 2**-24 where the addition rounds them.
        return sign | (unsigned short)(__float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000);
    return sign | (unsigned short)((rest + 0xfff + (rest >> 13 & 1) - 0x38000000) >> 13);
}

template <int... I> struct Places {};
template <int N, int... I> struct Upto : Upto<N - 1, N - 1, I...> {};
template <int... I> struct Upto<0, I...> { typedef Places<I...> type; };
template <class T> struct Plain { typedef T type; };
template <class T> struct Plain<const T> { typedef T type; };

template <class... A, int... I>
static void call(void (*kernel)(A...), void **arguments, Places<I...>)
{
    kernel(*(typename Plain<A>::type *)arguments[I]...);
}

template <class... A> static void run(void (*kernel)(A...), const unsigned *grid, const unsigned *block, void **arguments)
{
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x)
                            call(kernel, arguments, typename Upto<sizeof...(A)>::type());
}

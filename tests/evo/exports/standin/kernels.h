// Runs a bundle's kernels on the CPU: a launch is a loop over its threads. Kernels with barriers run with one thread a
// block, which is a launch like any other for them: their threads go through their work in strides of the block.
#include <math.h>
#include <string.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __syncthreads()

struct Index { unsigned x, y, z; };
static Index blockIdx, blockDim, threadIdx, gridDim;

#ifdef DOUBLE  // the same text in double precision
static unsigned __float_as_uint(double x) { const float rounded = (float)x; unsigned bits; memcpy(&bits, &rounded, 4); return bits; }
static double __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
#define float double
#define sqrtf sqrt
#define expf exp
#define logf log
#define tanhf tanh
#define sinf sin
#define cosf cos
#define atan2f atan2
#define floorf floor
#define fabsf fabs
#define fmodf fmod
#define powf pow
#define fmaxf fmax
#define erff erf
#else
static unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
#endif

template <int... I> struct Places {};
template <int N, int... I> struct Counted : Counted<N - 1, N - 1, I...> {};
template <int... I> struct Counted<0, I...> { typedef Places<I...> Type; };

template <typename... A, int... I>
static int launch(void (*kernel)(A...), Places<I...>, const void* const* arguments, const int* widths, int n,
                  unsigned blocks, unsigned threads) {
    const int expected[] = {(int)sizeof(A)...};
    if (n != (int)sizeof...(A)) return 2;
    for (int k = 0; k < n; ++k)
        if (widths[k] != expected[k]) return 3;
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(*(const A*)arguments[I]...);
    return 0;
}

template <typename... A>
static int run(void (*kernel)(A...), const void* const* arguments, const int* widths, int n, unsigned blocks,
               unsigned threads) {
    return launch(kernel, typename Counted<sizeof...(A)>::Type(), arguments, widths, n, blocks, threads);
}

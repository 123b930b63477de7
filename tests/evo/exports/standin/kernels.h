// Runs a bundle's kernels on the CPU: a launch is a loop over its threads. Kernels with barriers run with one thread a
// block, which is a launch like any other for them: their threads go through their work in strides of the block.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __syncthreads()

struct Index { unsigned x, y, z; };
static Index blockIdx, blockDim, threadIdx, gridDim;

static unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }

template <int... I> struct Places {};
template <int N, int... I> struct Counted : Counted<N - 1, N - 1, I...> {};
template <int... I> struct Counted<0, I...> { typedef Places<I...> Type; };

template <typename... A, int... I>
static void launch(void (*kernel)(A...), Places<I...>, const void* const* arguments, unsigned blocks, unsigned threads) {
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(*(const A*)arguments[I]...);
}

typedef void Go(const void* const* arguments, unsigned blocks, unsigned threads);

template <typename K, K kernel> struct Launched;
template <typename... A, void (*kernel)(A...)> struct Launched<void (*)(A...), kernel> {
    static void go(const void* const* arguments, unsigned blocks, unsigned threads) {
        launch(kernel, typename Counted<sizeof...(A)>::Type(), arguments, blocks, threads);
    }
};

template <typename... A> static std::vector<size_t> widths(void (*)(A...)) { return {sizeof(A)...}; }

#ifdef DOUBLE
#include "double.h"
#endif

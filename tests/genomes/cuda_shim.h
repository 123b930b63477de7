// Runs CUDA kernel text on a CPU: a launch is a loop over its threads, forwards or backwards.
// Enough for kernels without barriers, whose threads read nothing of each other, such as ours; the text is compiled as it stands.
#include <math.h>

#include <string.h>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Index { int x, y; };
static Index blockIdx, blockDim, threadIdx, gridDim;

static unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static int __clz(int x) { return __builtin_clz(x); }
static float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }

template <typename A>
static void launch(void (*kernel)(A), const void* arguments, int blocks_x, int blocks_y, int threads, bool backwards) {
    const A& a = *(const A*)arguments;
    blockDim.x = threads;
    gridDim.x = blocks_x;
    gridDim.y = blocks_y;
    for (int y = 0; y < blocks_y; ++y)
        for (int x = 0; x < blocks_x; ++x)
            for (int thread = 0; thread < threads; ++thread) {
                blockIdx.y = backwards ? blocks_y - 1 - y : y;
                blockIdx.x = backwards ? blocks_x - 1 - x : x;
                threadIdx.x = backwards ? threads - 1 - thread : thread;
                kernel(a);
            }
}

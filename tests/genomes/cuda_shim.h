// Runs CUDA kernel text on a CPU: a launch is a loop over its threads, forwards or backwards.
// Enough for kernels without barriers and shared memory, such as ours; the text is compiled as it stands.
#include <math.h>

#include <string.h>

#define __global__
#define __device__

struct Index { int x, y; };
static Index blockIdx, blockDim, threadIdx;

static unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
static float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }

template <typename A>
static void launch(void (*kernel)(A), const A& a, int blocks_x, int blocks_y, int threads, bool backwards) {
    blockDim.x = threads;
    const long long count = (long long)blocks_x * blocks_y * threads;
    for (long long k = 0; k < count; ++k) {
        const long long n = backwards ? count - 1 - k : k;
        threadIdx.x = n % threads;
        blockIdx.x = n / threads % blocks_x;
        blockIdx.y = n / threads / blocks_x;
        kernel(a);
    }
}

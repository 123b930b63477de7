"""The text of a bundle's ``.cu`` file: helpers, then the kernels of its programs, all in one namespace."""

from __future__ import annotations

import re
from collections.abc import Mapping

from evo.exports.tig.layout import PARAMETERS, TENSOR_FIELDS, THREADS, Device
from genomes.backends.cuda import operations
from harness.train import STEPS_PER_EPOCH

POINTERS = 32  # that the kernel ``addresses`` takes in one launch
_QUALIFIER = "__device__ __forceinline__"


def _own(name: str) -> str:
    return operations.HELPERS[name].replace("{f}", "f").replace("__device__", _QUALIFIER)


_REDUCE = """\
template <typename T> __device__ __forceinline__ T block_{name}(T x) {{  // of all threads of the block, for all
    __shared__ T shared[{threads}];
    __syncthreads();
    shared[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {{
        if (threadIdx.x < half) shared[threadIdx.x] = {gather};
        __syncthreads();
    }}
    return shared[0];
}}"""
HELPERS = {
    **{name: _own(name) for name in ("sign", "larger", "smaller", "safe_div", "mod", "power", "bfloat16", "uniform")},
    "entry_of": """\
__device__ __forceinline__ unsigned entry_of(const Tensor& tensor, int element) {  // its number row by row
    const int i = element - tensor.offset;
    return i % tensor.rows * tensor.columns + i / tensor.rows;
}""",
    "output_shift": f"""\
__device__ __forceinline__ real output_shift(const real* shifts, const Tensor& tensor, int element, int n_outputs,
                                             unsigned t, real k) {{
    if (tensor.shifted == 0 || t % {STEPS_PER_EPOCH} != 0 || !(k >= 0 && k < n_outputs)) return 0;
    return shifts[(int)k * tensor.rows + element - tensor.offset];
}}""",
    "fours": "__device__ __forceinline__ int fours(int n) { return (n + 3) / 4; }",
    "multiply": """\
// Block i of 4 x 4 entries of z = alpha x y + beta w; x_row, x_column: the distances of rows and columns, and so on.
__device__ __forceinline__ void multiply(int i, int rows, int columns, int length, const real* x, int x_row,
                                         int x_column, const real* y, int y_row, int y_column, real* z, int z_row,
                                         int z_column, real alpha, real beta, const real* w) {
    const int row = i / fours(columns) * 4, column = i % fours(columns) * 4;
    real sums[4][4] = {};
    for (int k = 0; k < length; ++k) {
        real left[4], right[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            left[j] = row + j < rows ? x[(row + j) * x_row + k * x_column] : real(0);
            right[j] = column + j < columns ? y[k * y_row + (column + j) * y_column] : real(0);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int l = 0; l < 4; ++l) sums[j][l] += left[j] * right[l];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int l = 0; l < 4; ++l)
            if (row + j < rows && column + l < columns) {
                const int at = (row + j) * z_row + (column + l) * z_column;
                z[at] = w ? alpha * sums[j][l] + beta * w[at] : sums[j][l];
            }
}""",
    "block_sum": _REDUCE.format(name="sum", threads=THREADS, gather="shared[threadIdx.x] + shared[threadIdx.x + half]"),
    "block_max": _REDUCE.format(
        name="max", threads=THREADS, gather="larger(shared[threadIdx.x], shared[threadIdx.x + half])"
    ),
    "normal_share": """\
__device__ __forceinline__ real normal_share(real x) {  // the share of a standard normal variable below x
    return real(0.5) + real(0.5) * erff(x / real(1.4142135623730951));
}""",
    "rectified_variance": """\
__device__ __forceinline__ real rectified_variance(real center, real spread) {  // of max(z, 0) for a normal z
    const real ratio = center / spread, share = normal_share(ratio);
    const real part = spread * expf(real(-0.5) * ratio * ratio) / real(2.5066282746310002);
    const real mean = center * share + part;
    return larger((center * center + spread * spread) * share + center * part - mean * mean, real(0));
}""",
    "dot": """\
__device__ __forceinline__ real dot(const real* x, const real* y, int n) {
    real sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i] * y[i];
    return block_sum(sum);
}""",
    "take_along": """\
__device__ __forceinline__ void take_along(real* x, const real* y, int n) {  // from x its part along y
    const real size = dot(y, y, n), part = size > 0 ? dot(x, y, n) / size : real(0);
    for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] -= part * y[i];
    __syncthreads();
}""",
    "Key": """\
template <int bytes> struct Bits { typedef unsigned Word; };
template <> struct Bits<8> { typedef unsigned long long Word; };

struct Key {  // the bits of a number, in the order of numbers
    typedef Bits<sizeof(real)>::Word Word;
    union Both { real number; Word word; };

    static __device__ __forceinline__ Word of(real x) {
        const Word top = (Word)1 << (8 * sizeof(Word) - 1);
        Both both;
        both.number = x;
        return both.word & top ? ~both.word : both.word | top;
    }

    static __device__ __forceinline__ real back(Word key) {
        const Word top = (Word)1 << (8 * sizeof(Word) - 1);
        Both both;
        both.word = key & top ? key & ~top : ~key;
        return both.number;
    }
};""",
}
_HEAD = """\
namespace {bundle}_kernels {{

typedef float real;

struct Tensor {{  // one that trains; offsets are those of its elements, rows and columns among all of them
    int {fields};
}};
"""


def source(bundle: str, devices: Mapping[str, Device]) -> str:
    """The text of the file. ``devices``: by what the names of their kernels begin with."""
    kernels = [_addresses(bundle)]
    for prefix, device in devices.items():
        kernels += [_kernel(prefix + kernel.name, PARAMETERS, kernel.body.splitlines()) for kernel in device.kernels]
    text = "\n\n".join(kernels)
    for name, helper in reversed(HELPERS.items()):  # they call those above them
        if re.search(rf"(?<![\w.]){name}(\(|<|::)", text):
            text = f"{helper}\n\n{text}"
    head = _HEAD.format(bundle=bundle, fields=_wrapped(TENSOR_FIELDS, 4))
    return f"{head}\n{text}\n\n}}  // namespace {bundle}_kernels\n"


def _kernel(name: str, parameters: tuple[tuple[str, str], ...], lines: list[str]) -> str:
    given = _wrapped([f"{kind} {word}" for kind, word in parameters], 8)
    return "\n".join([f'extern "C" __global__ void {name}(', f"        {given}) {{", *(f"    {x}" for x in lines), "}"])


def _addresses(bundle: str) -> str:
    """Where the tensors of the challenge are, which come one by one: a list on the device."""
    names = [f"p{k}" for k in range(POINTERS)]
    given = (("real**", "addresses"), ("int", "first"), *(("real*", name) for name in names))
    lines = [
        f"real* given[{POINTERS}] = {{{_wrapped(names, 8)}}};",
        f"for (int i = 0; i < {POINTERS}; ++i) addresses[first + i] = given[i];",
    ]
    return _kernel(f"{bundle}_addresses", given, "\n".join(lines).splitlines())


def _wrapped(words: list[str] | tuple[str, ...], indent: int) -> str:
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) > 106 - indent:
            lines.append(f"{line},")
            line = word
        else:
            line = f"{line}, {word}" if line else word
    return ("\n" + " " * indent).join([*lines, line])

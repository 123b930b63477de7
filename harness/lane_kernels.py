"""The passes of `harness.lane_network` as CUDA kernels: one launch each, memory read and written once.

ReLU and BatchNorm take a thread for each (lane, column): neighboring threads read neighboring numbers, and a column's
sums stay in its thread and have one order. What a thread must read again it keeps in its own part of the block's shared
memory; no thread reads another's, so there are no barriers and the text also runs on a CPU, threads as loops. Shuffling
is a chain of draws: each seed has a block of one thread, which waits for no other's rejected draws.
`KernelPasses` is given the compiled text as a function that launches a kernel; see `harness.lane_passes` for the same
in torch operations. The text needs no header; real is float or double.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from harness.data import TRAIN_SIZE
from harness.lane_network import ROWS, Gradients, Norm
from harness.model import NORM_EPS, NORM_MOMENTUM

REALS = {torch.float32: "float", torch.float64: "double"}
_KEPT_BYTES = 32768  # of shared memory that a block uses
_TILE = 4096  # numbers of a lane that a block of a slab's pass owns
_TILE_THREADS = 256

# launcher(kernel, (blocks along x, along y), threads of a block, arguments)
Launcher = Callable[[str, tuple[int, int], int, ctypes.Structure], None]


class Arguments(ctypes.Structure):
    """The argument of every kernel, by value; the address is 0 where a kernel has no use for an array.

    Strides: numbers between two lanes, of ``values``, ``output`` and ``activated`` (``block``), of the array of their
    name, of running statistics, and of gradients.
    """

    _fields_ = (
        *((name, ctypes.c_longlong) for name in ("rows", "width", "n", "epochs")),
        *((f"{name}_stride", ctypes.c_longlong) for name in ("block", "bias", "scale", "shift", "running", "gradient")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "values", "output", "activated", "mean", "inverse_std", "bias", "scale", "shift",
                "running_mean", "running_var", "grad_bias", "grad_scale", "grad_shift",
                "target", "source", "flags", "lost", "orders", "positions", "keys",
            )
        ),
    )  # fmt: skip


def columns_per_block(real: str, arrays: int) -> int:
    """Columns, and threads, of a block that keeps ``arrays`` numbers of each row and column."""
    return _KEPT_BYTES // (ROWS * arrays * {"float": 4, "double": 8}[real])


def text(real: str) -> str:
    """The kernels for ``real``: ``float`` or ``double``."""
    return f"typedef {real} real;\n" + _TEXT.replace("FORWARD_COLUMNS", str(columns_per_block(real, 1))).replace(
        "BACKWARD_COLUMNS", str(columns_per_block(real, 2))
    )


_TEXT = f"""
struct Arguments {{
    long long rows, width, n, epochs;
    long long block_stride, bias_stride, scale_stride, shift_stride, running_stride, gradient_stride;
    real *values, *output;
    const real* activated;
    real *mean, *inverse_std;
    const real *bias, *scale, *shift;
    real *running_mean, *running_var, *grad_bias, *grad_scale, *grad_shift, *target;
    const real* source;
    const int* flags;
    int* lost;
    long long *orders, *positions;
    const unsigned* keys;
}};

__device__ real rectified(real x) {{ return x < 0 ? real(0) : x; }}  // NaN stays

extern "C" __global__ void normalize(Arguments a) {{  // a thread for each (lane, column)
    __shared__ real kept[{ROWS} * FORWARD_COLUMNS];
    const long long lane = blockIdx.y, column = blockIdx.x * FORWARD_COLUMNS + threadIdx.x;
    const int rows = a.rows, width = a.width;
    if (column >= width) return;
    const real bias = a.bias[lane * a.bias_stride + column];
    const real scale = a.scale[lane * a.scale_stride + column];
    const real shift = a.shift[lane * a.shift_stride + column];
    real* own = kept + threadIdx.x;
    real* values = a.values + lane * a.block_stride + column;
    real* output = a.output + lane * a.block_stride + column;
    real sum = 0;
#pragma unroll 16
    for (int row = 0; row < rows; ++row) {{
        const real value = rectified(values[row * width] + bias);
        own[row * FORWARD_COLUMNS] = value;
        sum += value;
    }}
    const real mean = sum / rows;
    real squares = 0;
    for (int row = 0; row < rows; ++row) {{
        const real centered = own[row * FORWARD_COLUMNS] - mean;
        squares += centered * centered;
    }}
    const real variance = squares / rows, inverse_std = 1 / sqrt(variance + real({NORM_EPS}));
#pragma unroll 16
    for (int row = 0; row < rows; ++row) {{
        const real value = own[row * FORWARD_COLUMNS];
        values[row * width] = value;
        output[row * width] = (value - mean) * inverse_std * scale + shift;
    }}
    a.mean[lane * width + column] = mean;
    a.inverse_std[lane * width + column] = inverse_std;
    if (!a.flags[lane]) return;
    real* running_mean = a.running_mean + lane * a.running_stride + column;
    real* running_var = a.running_var + lane * a.running_stride + column;
    const real unbiased = variance * (real(rows) / (rows - 1));
    *running_mean = real({1 - NORM_MOMENTUM}) * *running_mean + real({NORM_MOMENTUM}) * mean;
    *running_var = real({1 - NORM_MOMENTUM}) * *running_var + real({NORM_MOMENTUM}) * unbiased;
}}

extern "C" __global__ void normalize_backward(Arguments a) {{  // a thread for each (lane, column)
    __shared__ real kept[2 * {ROWS} * BACKWARD_COLUMNS];
    const long long lane = blockIdx.y, column = blockIdx.x * BACKWARD_COLUMNS + threadIdx.x;
    const int rows = a.rows, width = a.width;
    if (column >= width) return;
    const real mean = a.mean[lane * width + column], inverse_std = a.inverse_std[lane * width + column];
    const real factor = a.scale[lane * a.scale_stride + column] * inverse_std;
    real* own_grad = kept + threadIdx.x;
    real* own_value = kept + {ROWS} * BACKWARD_COLUMNS + threadIdx.x;
    real* values = a.values + lane * a.block_stride + column;
    const real* activated = a.activated + lane * a.block_stride + column;
    real grad_scale = 0, grad_shift = 0, grad_bias = 0;
#pragma unroll 16
    for (int row = 0; row < rows; ++row) {{
        const real grad = values[row * width], value = activated[row * width];
        own_grad[row * BACKWARD_COLUMNS] = grad;
        own_value[row * BACKWARD_COLUMNS] = value;
        grad_scale += grad * ((value - mean) * inverse_std);
        grad_shift += grad;
    }}
    const real mean_shift = grad_shift / rows, mean_scale = grad_scale / rows;
#pragma unroll 16
    for (int row = 0; row < rows; ++row) {{
        const real value = own_value[row * BACKWARD_COLUMNS], normalized = (value - mean) * inverse_std;
        const real found = (own_grad[row * BACKWARD_COLUMNS] - mean_shift - normalized * mean_scale) * factor;
        const real below = value <= 0 ? real(0) : found;
        values[row * width] = below;
        grad_bias += below;
    }}
    if (a.grad_bias) a.grad_bias[lane * a.gradient_stride + column] = grad_bias;
    if (a.grad_scale) a.grad_scale[lane * a.gradient_stride + column] = grad_scale;
    if (a.grad_shift) a.grad_shift[lane * a.gradient_stride + column] = grad_shift;
}}

extern "C" __global__ void normalize_by_running(Arguments a) {{  // a thread for each (lane, column)
    const long long lane = blockIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
    const int rows = a.rows, width = a.width;
    if (column >= width) return;
    const real bias = a.bias[lane * a.bias_stride + column];
    const real scale = a.scale[lane * a.scale_stride + column];
    const real shift = a.shift[lane * a.shift_stride + column];
    const real mean = a.running_mean[lane * a.running_stride + column];
    const real factor = scale / sqrt(a.running_var[lane * a.running_stride + column] + real({NORM_EPS}));
    real* values = a.values + lane * a.block_stride + column;
#pragma unroll 16
    for (int row = 0; row < rows; ++row)
        values[row * width] = (rectified(values[row * width] + bias) - mean) * factor + shift;
}}

extern "C" __global__ void copy_lanes(Arguments a) {{  // a block for each (lane, tile)
    const long long lane = blockIdx.y, begin = (long long)blockIdx.x * {_TILE};
    if (!a.flags[lane]) return;
    for (long long i = begin + threadIdx.x; i < begin + {_TILE} && i < a.n; i += blockDim.x)
        a.target[lane * a.n + i] = a.source[lane * a.n + i];
}}

extern "C" __global__ void mark_nan(Arguments a) {{  // a block for each (lane, tile)
    const long long lane = blockIdx.y, begin = (long long)blockIdx.x * {_TILE};
    if (!a.flags[lane]) return;
    for (long long i = begin + threadIdx.x; i < begin + {_TILE} && i < a.n; i += blockDim.x) {{
        const real value = a.source[lane * a.n + i];
        if (value != value) a.lost[lane] = 1;
    }}
}}

__device__ unsigned turned(unsigned x, int by) {{ return x << by | x >> (32 - by); }}

__device__ void quarter_round(unsigned& a, unsigned& b, unsigned& c, unsigned& d) {{
    a += b; d = turned(d ^ a, 16);
    c += d; b = turned(b ^ c, 12);
    a += b; d = turned(d ^ a, 8);
    c += d; b = turned(b ^ c, 7);
}}

__device__ void chacha12(unsigned* words, const unsigned* key, unsigned long long block) {{  // words[16] of a block
    unsigned x[16] = {{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}};  // "expand 32-byte k"
#pragma unroll
    for (int i = 0; i < 8; ++i) x[4 + i] = key[i];
    x[12] = block;
    x[13] = block >> 32;
#pragma unroll
    for (int i = 0; i < 16; ++i) words[i] = x[i];
    for (int round = 0; round < 12; round += 2) {{
#pragma unroll
        for (int i = 0; i < 4; ++i) quarter_round(x[i], x[4 + i], x[8 + i], x[12 + i]);
#pragma unroll
        for (int i = 0; i < 4; ++i) quarter_round(x[i], x[4 + (i + 1) % 4], x[8 + (i + 2) % 4], x[12 + (i + 3) % 4]);
    }}
#pragma unroll
    for (int i = 0; i < 16; ++i) words[i] += x[i];
}}

extern "C" __global__ void shuffle(Arguments a) {{  // a block of one thread for each seed; see StdRng.shuffles
    __shared__ unsigned words[16];
    __shared__ short order[{TRAIN_SIZE}];
    const long long seed = blockIdx.x;
    unsigned long long position = a.positions[seed], block = ~0ULL;  // of the next word; which block words holds
    for (long long epoch = 0; epoch < a.epochs; ++epoch) {{
        long long* shuffled = a.orders + (epoch * gridDim.x + seed) * {TRAIN_SIZE};
        for (int i = 0; i < {TRAIN_SIZE}; ++i) order[i] = i;
        for (unsigned n = {TRAIN_SIZE}; n > 1; --n) {{
            const unsigned zone = (n << __clz(n)) - 1;
            unsigned long long product;
            do {{
                if (position / 16 != block) chacha12(words, a.keys + 8 * seed, block = position / 16);
                product = (unsigned long long)words[position++ % 16] * n;
            }} while ((unsigned)product > zone);
            const int chosen = product >> 32;
            shuffled[n - 1] = order[chosen];  // the swap: this place is done
            order[chosen] = order[n - 1];
        }}
        shuffled[0] = order[0];
    }}
    a.positions[seed] = position;
}}
"""


class KernelPasses:
    """The `harness.lane_network.Passes` as kernels. ``launch``: of the compiled `text` for the slabs' type."""

    def __init__(self, launch: Launcher) -> None:
        self._launch = launch

    def normalize(self, activated: Tensor, output: Tensor, bias: Tensor, norm: Norm, moves: Tensor) -> None:
        """See `Passes.normalize`."""
        assert output.stride() == activated.stride()
        arguments = _of_columns(activated, norm)
        arguments.output, arguments.flags = output.data_ptr(), moves.data_ptr()
        _set(arguments, bias=bias, scale=norm.scale, shift=norm.shift)
        self._over_columns("normalize", activated, arguments, 1)

    def normalize_backward(self, grad: Tensor, activated: Tensor, norm: Norm, gradients: Gradients) -> None:
        """See `Passes.normalize_backward`."""
        assert activated.stride() == grad.stride()
        arguments = _of_columns(grad, norm)
        arguments.activated = activated.data_ptr()
        _set(arguments, scale=norm.scale)
        for name, target in (("bias", gradients.bias), ("scale", gradients.scale), ("shift", gradients.shift)):
            if target is not None:
                setattr(arguments, f"grad_{name}", target.data_ptr())
                arguments.gradient_stride = target.stride(0)
        self._over_columns("normalize_backward", grad, arguments, 2)

    def normalize_by_running(self, values: Tensor, bias: Tensor, norm: Norm) -> None:
        """See `Passes.normalize_by_running`."""
        arguments = _of_columns(values, norm)
        _set(arguments, bias=bias, scale=norm.scale, shift=norm.shift)
        self._over_columns("normalize_by_running", values, arguments, 1)

    def copy_lanes(self, target: Tensor, source: Tensor, flags: Tensor) -> None:
        """See `Passes.copy_lanes`."""
        self._over_tiles("copy_lanes", flags, target=target, source=source)

    def mark_nan(self, lost: Tensor, slab: Tensor, flags: Tensor) -> None:
        """See `Passes.mark_nan`."""
        self._over_tiles("mark_nan", flags, source=slab, lost=lost)

    def shuffler(self, seeds: Sequence[bytes], device: torch.device) -> Callable[[Tensor], None]:
        """See `Passes.shuffler`. Positions in the streams, in words, stay on the device."""
        keys = torch.frombuffer(bytearray(b"".join(seeds)), dtype=torch.int32).to(device)
        positions = torch.zeros(len(seeds), dtype=torch.int64, device=device)

        def shuffle(orders: Tensor) -> None:
            assert orders.is_contiguous()
            arguments = Arguments(
                epochs=len(orders), orders=orders.data_ptr(), positions=positions.data_ptr(), keys=keys.data_ptr()
            )
            self._launch("shuffle", (len(seeds), 1), 1, arguments)

        return shuffle

    def _over_columns(self, kernel: str, values: Tensor, arguments: Arguments, arrays: int) -> None:
        lanes, _, width = values.shape
        threads = columns_per_block(REALS[values.dtype], arrays)
        self._launch(kernel, (-(-width // threads), lanes), threads, arguments)

    def _over_tiles(self, kernel: str, flags: Tensor, source: Tensor, **more: Tensor) -> None:
        lanes, n = source.shape
        if not n:
            return
        arguments = Arguments(n=n, flags=flags.data_ptr(), source=source.data_ptr())
        for name, tensor in more.items():
            setattr(arguments, name, tensor.data_ptr())
        self._launch(kernel, (-(-n // _TILE), lanes), _TILE_THREADS, arguments)


def _of_columns(values: Tensor, norm: Norm) -> Arguments:
    """Arguments of a kernel over the columns of ``values`` ``[lane, rows, width]``."""
    _, rows, width = values.shape
    return Arguments(
        rows=rows,
        width=width,
        values=values.data_ptr(),
        block_stride=values.stride(0),
        running_stride=norm.running_mean.stride(0),
        **{name: getattr(norm, name).data_ptr() for name in ("mean", "inverse_std", "running_mean", "running_var")},
    )


def _set(arguments: Arguments, **parameters: Tensor) -> None:
    """Address and stride of parameters ``[lane, width]``."""
    for name, tensor in parameters.items():
        setattr(arguments, name, tensor.data_ptr())
        setattr(arguments, f"{name}_stride", tensor.stride(0))

"""The operations of a program in CUDA C++: one template each, and the helpers that templates call.

Clock and role values (HOST) are double, tensors (DEVICE) are ``real``. The texts want the arithmetic of IEEE 754, with
subnormal numbers, as compilers for GPUs give it unless asked for fast math.
"""

from __future__ import annotations

from genomes.backends.cuda.layout import ROLE_BITS

# {0} stands for an argument, always a name or a number; {f} for the suffix of a float's functions.
C = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "neg": "-{0}", "abs": "fabs{f}({0})",
    "sign": "sign({0})", "sqrt": "sqrt{f}({0})", "exp": "exp{f}({0})", "log": "log{f}({0})", "tanh": "tanh{f}({0})",
    "sin": "sin{f}({0})", "cos": "cos{f}({0})", "atan2": "atan2{f}({0}, {1})", "floor": "floor{f}({0})",
    "max": "larger({0}, {1})", "min": "smaller({0}, {1})", "safe_div": "safe_div({0}, {1})",
    "gt": "{0} > {1}", "ge": "{0} >= {1}", "eq": "{0} == {1}", "and": "{0} && {1}", "or": "{0} || {1}", "not": "!{0}",
    "where": "{0} ? {1} : {2}", "expand": "{0}",
}  # fmt: skip
HOST = {**C, "div": "safe_div({0}, {1})", "mod": "host_mod({0}, {1})", "power": "host_power({0}, {1})",
        "number": "{0} ? 1.0 : 0.0"}  # fmt: skip
DEVICE = {**C, "bfloat16": "bfloat16({0})",
          "output_shift": "output_shift(a, lane, index, element - tensor.offset, {0})",
          "uniform": "uniform(a.seed[lane], a.steps[lane], tensor.param_index, (unsigned)fmax{f}({0}, 0), "
                     "element - tensor.offset)",
          "div": "{0} / {1}", "mod": "mod({0}, {1})", "power": "power({0}, {1})",
          "number": "{0} ? real(1) : real(0)"}  # fmt: skip
_MOD = """\
__device__ {real} {name}({real} x, {real} y) {{  // remainder of x / y with the sign of y; 0 where y is 0
    if (y == 0) return 0;
    const {real} rest = fmod{f}(x, y);
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}}"""
_POWER = """\
__device__ {real} {name}({real} x, {real} y) {{  // of max(x, 0) where y has a fraction; 1 where y is 0
    if (y == 0) return 1;
    if (x != x || y != y) return x + y;
    const {real} raised = pow{f}(y != floor{f}(y) && x < 0 ? {real}(0) : x, fabs{f}(y));
    return y > 0 ? raised : safe_div({real}(1), raised);
}}"""
HELPERS = {
    "sign": "template <typename T> __device__ T sign(T x) { return T(x > 0) - T(x < 0); }",
    "larger": "template <typename T> __device__ T larger(T x, T y) { return x != x || x > y ? x : y; }",
    "smaller": "template <typename T> __device__ T smaller(T x, T y) { return x != x || x < y ? x : y; }",
    "safe_div": "template <typename T> __device__ T safe_div(T x, T y) { return y == 0 ? T(0) : x / y; }",
    "mod": _MOD.format(real="real", name="mod", f="{f}"),
    "power": _POWER.format(real="real", name="power", f="{f}"),
    "bfloat16": """\
__device__ real bfloat16(real x) {  // the nearest number with 8 significant bits, ties to even
    if (x != x) return x;
    const unsigned bits = __float_as_uint((float)x);
    return __uint_as_float((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}""",
    "uniform": """\
__device__ unsigned scramble(unsigned x) {  // mixes 32 bits, one to one
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

__device__ real uniform(unsigned seed, unsigned t, unsigned tensor, unsigned stream, unsigned entry) {  // in (0, 1]
    unsigned word = scramble(seed + 0x9e3779b9u * (t + 1));
    word = scramble(word + 0x9e3779b9u * (tensor + 1));
    word = scramble(word + 0x9e3779b9u * (stream + 1));
    return real((scramble(scramble(entry) ^ word) >> 8) + 1) * real(5.9604644775390625e-08);  // times 2^-24
}""",
    "output_shift": """\
__device__ real output_shift(const Arguments& a, int lane, int index, int entry, real k) {
    if (index != a.shift_tensor || a.steps_per_epoch == 0 || a.steps[lane] % a.steps_per_epoch != 0) return 0;
    if (!(k >= 0 && k < a.n_outputs)) return 0;
    return a.output_shift[((long long)lane * a.n_outputs + (int)k) * a.tensors[index].rows + entry];
}""",
    "host_mod": _MOD.format(real="double", name="host_mod", f=""),
    "host_power": _POWER.format(real="double", name="host_power", f=""),
}
CLOCK_TEXT = {
    "t": "a.steps[lane] + 1",
    "epoch": "a.epoch[lane]",
    "has_loss": "a.has_loss[lane] != 0",
    "train_loss": "a.has_loss[lane] ? a.train_loss[lane] : 1.0",
    "val_loss": "a.has_loss[lane] ? a.val_loss[lane] : 1.0",
    "model_size": "a.n_params",
    "layer_count": "a.n_layers",
    "steps_per_epoch": "a.steps_per_epoch",
    "output_count": "a.n_outputs",
}
ROLE_TEXT = {
    **{name: f"(tensor.roles & {bit}) != 0" for name, bit in ROLE_BITS.items()},
    "depth_fraction": "tensor.depth_fraction",
    "rows": "tensor.rows",
    "columns": "tensor.columns",
}

"""Kernel texts of any origin run on the CPU, each with names and arguments of its own."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np

from tests.genomes.cuda_on_cpu import compile_kernels

# each thread writes how many threads of the launch ran before it
TEXT = """
struct Arguments { int n; int* order; int* count; };

extern "C" __global__ void number(Arguments a) {
    const int i = (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < a.n) a.order[i] = a.count[0]++ * FACTOR;
}
"""


class Arguments(ctypes.Structure):
    _fields_ = (("n", ctypes.c_int), ("order", ctypes.c_void_p), ("count", ctypes.c_void_p))


def test_texts_share_no_names_and_run_in_both_orders():
    compiled = compile_kernels({"once": TEXT.replace("FACTOR", "1"), "twice": TEXT.replace("FACTOR", "2")})
    backwards = replace(compiled["once"], backwards=True)
    for kernels, wanted in (
        (compiled["once"], np.arange(11)),
        (compiled["twice"], 2 * np.arange(11)),
        (backwards, np.arange(11)[::-1]),
    ):
        order, count = np.zeros(11, np.int32), np.zeros(1, np.int32)
        kernels("number", (2, 2), 3, Arguments(11, order.ctypes.data, count.ctypes.data))
        np.testing.assert_array_equal(order, wanted)

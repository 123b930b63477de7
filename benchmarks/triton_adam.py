"""Adam's pass over the elements of many lanes, written by hand in Triton: what compile_latency.py compares NVRTC with.

It does what the kernel ``update_elements`` of ``render(adam, apply=True)`` does: constants and bias corrections come
from lane arrays, the update is added to the parameters, a flag tells of infinities. The other kernels of that text
(state's start, clock values) have no counterpart here.
"""

from __future__ import annotations

import tempfile

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_TYPES = dict.fromkeys(("theta", "g", "state", "constants", "corrections"), "*fp32") | {
    "alive": "*i32", "not_finite": "*i32", "n_params": "i32", "EPSILON": "constexpr", "BLOCK": "constexpr",
}  # fmt: skip


@triton.jit
def adam(
    theta,
    g,
    state,
    constants,
    corrections,
    alive,
    not_finite,
    n_params,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
):
    lane = tl.program_id(1)
    if tl.load(alive + lane) != 0:
        beta1 = tl.load(constants + 3 * lane)
        beta2 = tl.load(constants + 3 * lane + 1)
        lr = tl.load(constants + 3 * lane + 2)
        correction1 = tl.load(corrections + 2 * lane)
        correction2 = tl.load(corrections + 2 * lane + 1)
        element = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        exists = element < n_params
        first = state + 2 * lane.to(tl.int64) * n_params + element
        place = lane.to(tl.int64) * n_params + element
        gradient = tl.load(g + place, mask=exists, other=0.0)
        m = beta1 * tl.load(first, mask=exists, other=0.0) + (1 - beta1) * gradient
        v = beta2 * tl.load(first + n_params, mask=exists, other=0.0) + (1 - beta2) * gradient * gradient
        update = -lr * (m * correction1) / (tl.sqrt(v * correction2) + EPSILON)
        tl.store(theta + place, tl.load(theta + place, mask=exists, other=0.0) + update, mask=exists)
        tl.store(first, m, mask=exists)
        tl.store(first + n_params, v, mask=exists)
        infinite = tl.max((update - update != 0.0).to(tl.int32), axis=0)
        if infinite != 0:
            tl.store(not_finite + lane, 1)


def compile_adam(variant: int, architecture: int) -> bytes:
    """Machine code of the kernel. ``variant``: of its epsilon; ``architecture``: 90 for an H200. Nothing is cached."""
    source = ASTSource(adam, _TYPES, constexprs={"EPSILON": 1e-8 * (variant + 1), "BLOCK": 1024})
    with tempfile.TemporaryDirectory() as folder, triton.knobs.cache.scope():
        triton.knobs.cache.dir = folder
        options = {"num_warps": 8, "enable_fp_fusion": True}
        return triton.compile(source, GPUTarget("cuda", architecture, 32), options).asm["cubin"]

// What becomes of a sum, alike in every kernel that multiplies by a matrix.
#pragma once

#include "common.cuh"

__device__ __forceinline__ float silu_of(float x) { return x / (1.0f + expf(-x)); }

// Exact, by the error function.
__device__ __forceinline__ float gelu_of(float x) { return x * (0.5f * (1.0f + erff(x * 0.70710678118654752440f))); }

// Stores the sum of one output of one row; not for FINISH_GATE.
__device__ __forceinline__ void finish(const Linear &a, uint32_t row, uint32_t output, float sum) {
    if (a.bias) sum = __fadd_rn(sum, a.bias[output]);
    float *y = a.y + (size_t)row * a.outputs + output;
    switch (a.finish) {
        case FINISH_ADD: *y = __fadd_rn(*y, a.scale ? __fmul_rn(a.scale[output], sum) : sum); break;
        case FINISH_SILU: *y = silu_of(sum); break;
        case FINISH_GELU: *y = gelu_of(sum); break;
        default: *y = sum;
    }
}

// As `finish`, of a gate and its up: outputs 2 pair and 2 pair + 1.
__device__ __forceinline__ void finish_gate(const Linear &a, uint32_t row, uint32_t pair, float gate, float up) {
    a.y[(size_t)row * (a.outputs / 2) + pair] = silu_of(gate) * up;
}

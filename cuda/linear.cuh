// What becomes of a sum, alike in every kernel that multiplies by a matrix.
#pragma once

#include "common.cuh"

__device__ __forceinline__ float silu_of(float x) { return x / (1.0f + expf(-x)); }

// Exact, by the error function.
__device__ __forceinline__ float gelu_of(float x) { return x * (0.5f * (1.0f + erff(x * 0.70710678118654752440f))); }

__device__ __forceinline__ float relu_of(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays NaN, so that it is found

__device__ __forceinline__ float elu_of(float x) { return x < 0.0f ? expm1f(x) : x; }

// sin(x)^2 for |x| < 1e5, as the reference has it, operation for operation: x less the nearest multiple of pi (pi in three
// parts, the Cody-Waite reduction), then the Taylor series. The compiler's sinf would be as near, but not the same bits.
__device__ __forceinline__ float sin_squared(float x) {
    const float k = rintf(__fmul_rn(x, 0.318309886183790671538f));
    const float r = fmaf(k, -1.509958e-7f, fmaf(k, -__uint_as_float(0x3a7da000), fmaf(k, -3.140625f, x)));
    const float s = __fmul_rn(r, r);
    float p = 1.0f / 6227020800.0f;  // 1 / 13!
    p = fmaf(s, p, -1.0f / 39916800.0f);
    p = fmaf(s, p, 1.0f / 362880.0f);
    p = fmaf(s, p, -1.0f / 5040.0f);
    p = fmaf(s, p, 1.0f / 120.0f);
    p = fmaf(s, p, -1.0f / 6.0f);
    const float sine = fmaf(__fmul_rn(s, r), p, r);
    return __fmul_rn(sine, sine);
}

// What becomes of the sum of one output; not for FINISH_GATE. `base`: what FINISH_ADD adds it to.
__device__ __forceinline__ float finished(const Linear &a, uint32_t output, float sum, float base) {
    if (a.bias) sum = __fadd_rn(sum, a.bias[output]);
    switch (a.finish) {
        case FINISH_ADD: return __fadd_rn(base, a.scale ? __fmul_rn(a.scale[output], sum) : sum);
        case FINISH_SILU: return silu_of(sum);
        case FINISH_GELU: return gelu_of(sum);
        case FINISH_RELU: return relu_of(sum);
        case FINISH_TANH: return tanhf(relu_of(sum));
        default: return sum;
    }
}

// Stores it, of one row.
__device__ __forceinline__ void finish(const Linear &a, uint32_t row, uint32_t output, float sum) {
    const size_t at = (size_t)row * a.outputs + output;
    sum = finished(a, output, sum, a.finish == FINISH_ADD ? a.base[at] : 0.0f);
    if (a.y) a.y[at] = sum;
    if (!a.activated) return;
    a.activated[at] =
        a.snake.alpha ? fmaf(a.snake.inv_beta[output], sin_squared(__fmul_rn(a.snake.alpha[output], sum)), sum) : elu_of(sum);
}

// As `finished`, of a gate and its up: outputs 2 pair and 2 pair + 1.
__device__ __forceinline__ float gated(const Linear &a, uint32_t pair, float gate, float up) {
    if (a.bias) {
        gate = __fadd_rn(gate, a.bias[2 * pair]);
        up = __fadd_rn(up, a.bias[2 * pair + 1]);
    }
    return silu_of(gate) * up;
}

__device__ __forceinline__ void finish_gate(const Linear &a, uint32_t row, uint32_t pair, float gate, float up) {
    a.y[(size_t)row * (a.outputs / 2) + pair] = gated(a, pair, gate, up);
}

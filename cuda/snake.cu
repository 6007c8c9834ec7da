// SnakeBeta, and the clamp behind the last convolution: element by element over [channel][time].
#include "common.cuh"

// ---- kernels ----

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

// ---- entry points ----

// y = x + inv_beta * sin(alpha x)^2; y may be x.
extern "C" __global__ void snake(const __grid_constant__ Snake a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.count) return;
    const uint32_t channel = i / a.len;
    a.y[i] = fmaf(a.inv_beta[channel], sin_squared(__fmul_rn(a.alpha[channel], a.x[i])), a.x[i]);
}

// x into -1 .. 1; NaN stays NaN, so that it is found.
extern "C" __global__ void clamp(const __grid_constant__ Clamp a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.count) return;
    const float x = a.x[i];
    a.x[i] = x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
}

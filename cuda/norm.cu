// Norms over rows, and the residual sums between them. A block has a row; its threads walk it in strides.
#include "common.cuh"

// ---- entry points ----

extern "C" __global__ void rms_norm(const __grid_constant__ RmsNorm a) {
    __shared__ float shared[32];
    after_the_last();
    const float *x = a.x + (size_t)blockIdx.x * a.width;
    float *y = a.y + (size_t)blockIdx.x * a.width;
    float squares = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x) squares = fmaf(x[i], x[i], squares);
    // Each thread reads only what it will write, so y may be x.
    const float scale = 1.0f / sqrtf(block_sum(squares, shared) / (float)a.width + a.eps);
    for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x) y[i] = x[i] * scale * a.weight[i];
}

extern "C" __global__ void layer_norm(const __grid_constant__ LayerNorm a) {
    __shared__ float shared[32];
    after_the_last();
    const float *x = a.x + (size_t)blockIdx.x * a.width;
    float *y = a.y + (size_t)blockIdx.x * a.width;
    float total = 0.0f, squares = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x) total += x[i];
    const float mean = block_sum(total, shared) / (float)a.width;
    // The mean first: the squares of what is left do not cancel.
    for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x) squares = fmaf(x[i] - mean, x[i] - mean, squares);
    const float scale = 1.0f / sqrtf(block_sum(squares, shared) / (float)a.width + a.eps);
    // Each thread reads only what it will write, so y may be x.
    for (uint32_t i = threadIdx.x; i < a.width; i += blockDim.x)
        y[i] = __fadd_rn((x[i] - mean) * scale * a.weight[i], a.bias[i]);
}

// Rounds as the reference does, scale * y before the sum: the same bits.
extern "C" __global__ void add(const __grid_constant__ Add a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    after_the_last();
    if (i >= a.count) return;
    const float y = a.scale ? __fmul_rn(a.scale[i % a.width], a.y[i]) : a.y[i];
    a.x[i] = __fadd_rn(a.x[i], y);
}

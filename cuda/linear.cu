// Matrix times vector for one to a few rows of x, bound by the bytes of the weight; and what stands between two of them.
//
// A warp has one or two outputs. Its lanes take eight numbers at a time, 16 bytes of bf16, 256 a round, each lane one chain of
// multiply-adds in order of input; then the lanes are added pairwise. That order depends on `inputs` alone, so a row of x gives
// the same bits whatever rows are computed beside it and however many outputs a warp has.
#include "common.cuh"

// ---- kernels ----

// T rows of x (those that are not there repeat the last and are not written), R outputs.
template <class W, int T, int R>
__device__ __forceinline__ void linear(const Linear &a) {
    constexpr int AHEAD = 4;  // rounds whose loads are under way together
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t first = (blockIdx.x * LINEAR_WARPS + threadIdx.x / 32) * R;
    const uint32_t first_row = blockIdx.y * T;
    if (first >= a.outputs) return;
    size_t weight[R];
#pragma unroll
    for (int r = 0; r < R; r++) weight[r] = (size_t)min(first + r, a.outputs - 1) * a.inputs;
    const float *x[T];
#pragma unroll
    for (int t = 0; t < T; t++) x[t] = a.x + (size_t)min(first_row + t, a.rows - 1) * a.inputs;

    float sums[T][R] = {};
    if (a.inputs % 8 == 0) {
        for (uint32_t round = lane * 8; round < a.inputs; round += AHEAD * 256) {
            typename W::Eight eights[AHEAD][R];
#pragma unroll
            for (int ahead = 0; ahead < AHEAD; ahead++) {
                const uint32_t i = round + ahead * 256;
#pragma unroll
                for (int r = 0; r < R; r++)
                    if (i < a.inputs) eights[ahead][r] = W::load(a.weight, weight[r] + i);
            }
#pragma unroll
            for (int ahead = 0; ahead < AHEAD; ahead++) {
                const uint32_t i = round + ahead * 256;
                if (i >= a.inputs) break;
                float wide[R][8];
#pragma unroll
                for (int r = 0; r < R; r++) W::widen(eights[ahead][r], wide[r]);
#pragma unroll
                for (int t = 0; t < T; t++) {
                    const float4 low = *(const float4 *)(x[t] + i), high = *(const float4 *)(x[t] + i + 4);
                    const float in[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                    for (int r = 0; r < R; r++)
#pragma unroll
                        for (int n = 0; n < 8; n++) sums[t][r] = fmaf(wide[r][n], in[n], sums[t][r]);
                }
            }
        }
    } else {
        // Rows that do not begin at 16 bytes: small models alone have them.
        for (uint32_t i = lane; i < a.inputs; i += 32)
#pragma unroll
            for (int r = 0; r < R; r++) {
                const float w = W::one(a.weight, weight[r] + i);
#pragma unroll
                for (int t = 0; t < T; t++) sums[t][r] = fmaf(w, x[t][i], sums[t][r]);
            }
    }

#pragma unroll
    for (int t = 0; t < T; t++)
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float sum = warp_sum(sums[t][r]);
            if (lane == 0 && first + r < a.outputs && first_row + t < a.rows)
                a.y[(size_t)(first_row + t) * a.outputs + first + r] = a.bias ? sum + a.bias[first + r] : sum;
        }
}

__device__ __forceinline__ float silu_of(float x) { return x / (1.0f + expf(-x)); }

// ---- entry points ----

// A name says how the weight is stored and how many rows of x a pass serves. With few rows there is little to share between
// two outputs, with many one weight's worth of x is read for both.
#define LINEAR(name, W, T, R) \
    extern "C" __global__ void __launch_bounds__(32 * LINEAR_WARPS) name(const __grid_constant__ Linear a) { linear<W, T, R>(a); }
#define LINEARS(stored, W)            \
    LINEAR(linear_##stored##_1, W, 1, 1) \
    LINEAR(linear_##stored##_2, W, 2, 1) \
    LINEAR(linear_##stored##_4, W, 4, 2) \
    LINEAR(linear_##stored##_8, W, 8, 2)

LINEARS(bf16, Bf16)
LINEARS(f16, F16)
LINEARS(f32, F32)

extern "C" __global__ void silu(const __grid_constant__ Activate a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.count) a.x[i] = silu_of(a.x[i]);
}

extern "C" __global__ void silu_mul(const __grid_constant__ Activate a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.count) a.x[i] = silu_of(a.x[i]) * a.y[i];
}

// Exact, by the error function.
extern "C" __global__ void gelu(const __grid_constant__ Activate a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < a.count) a.x[i] *= 0.5f * (1.0f + erff(a.x[i] * 0.70710678118654752440f));
}

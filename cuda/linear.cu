// Matrix times vector for one to a few rows of x, bound by the bytes of the weight.
//
// A warp has one or two outputs. Its lanes take eight numbers at a time, 16 bytes of bf16, 256 a round, each lane one chain of
// multiply-adds in order of input; then the lanes are added pairwise. That order depends on `inputs` alone, so a row of x gives
// the same bits whatever rows are computed beside it and however many outputs a warp has. With a norm, a warp sums the squares
// of x beside the products and scales at the end: no kernel before it, and no barrier.
#include "linear.cuh"

// ---- kernels ----

__device__ __forceinline__ void eight_floats(const float *at, float (&to)[8]) {
    const float4 low = *(const float4 *)at, high = *(const float4 *)(at + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// T rows of x (those that are not there repeat the last and are not written), R outputs.
template <class W, int T, int R>
__device__ __forceinline__ void linear(const Linear &a) {
    constexpr int AHEAD = R == 1 ? 8 : 4;  // rounds whose loads are under way together
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

    float sums[T][R] = {}, squares[T] = {};
    // One number of x into the sums: normed first, but for the row's scale, which all have in common.
    const auto take = [&](int t, float in, float norm, const float (&w)[R]) {
        if (a.norm) {
            squares[t] = fmaf(in, in, squares[t]);
            in = __fmul_rn(in, norm);
        }
#pragma unroll
        for (int r = 0; r < R; r++) sums[t][r] = fmaf(w[r], in, sums[t][r]);
    };
    if (a.inputs % 8 == 0) {
        typename W::Eight eights[AHEAD][R];
        const auto load = [&](uint32_t round) {
#pragma unroll
            for (int ahead = 0; ahead < AHEAD; ahead++) {
                const uint32_t i = round + ahead * 256;
#pragma unroll
                for (int r = 0; r < R; r++)
                    if (i < a.inputs) eights[ahead][r] = W::load(a.weight, weight[r] + i);
            }
        };
        load(lane * 8);
        after_the_last();
        for (uint32_t round = lane * 8; round < a.inputs; round += AHEAD * 256) {
            if (round >= AHEAD * 256) load(round);
#pragma unroll
            for (int ahead = 0; ahead < AHEAD; ahead++) {
                const uint32_t i = round + ahead * 256;
                if (i >= a.inputs) break;
                float wide[R][8], norm[8];
#pragma unroll
                for (int r = 0; r < R; r++) W::widen(eights[ahead][r], wide[r]);
                if (a.norm) eight_floats(a.norm + i, norm);
#pragma unroll
                for (int t = 0; t < T; t++) {
                    float in[8];
                    eight_floats(x[t] + i, in);
#pragma unroll
                    for (int n = 0; n < 8; n++) {
                        float w[R];
#pragma unroll
                        for (int r = 0; r < R; r++) w[r] = wide[r][n];
                        take(t, in[n], norm[n], w);
                    }
                }
            }
        }
    } else {
        // Rows that do not begin at 16 bytes: small models alone have them.
        after_the_last();
        for (uint32_t i = lane; i < a.inputs; i += 32) {
            float w[R];
#pragma unroll
            for (int r = 0; r < R; r++) w[r] = W::one(a.weight, weight[r] + i);
#pragma unroll
            for (int t = 0; t < T; t++) take(t, x[t][i], a.norm ? a.norm[i] : 0.0f, w);
        }
    }

#pragma unroll
    for (int t = 0; t < T; t++) {
        const float scale = a.norm ? 1.0f / sqrtf(warp_sum(squares[t]) / (float)a.inputs + a.eps) : 1.0f;
#pragma unroll
        for (int r = 0; r < R; r++) sums[t][r] = __fmul_rn(scale, warp_sum(sums[t][r]));
        if (lane != 0 || first_row + t >= a.rows) continue;
        if (R == 2 && a.finish == FINISH_GATE) {
            finish_gate(a, first_row + t, first / 2, sums[t][0], sums[t][R - 1]);
        } else {
#pragma unroll
            for (int r = 0; r < R; r++)
                if (first + r < a.outputs) finish(a, first_row + t, first + r, sums[t][r]);
        }
    }
}

// ---- entry points ----

// A name says how the weight is stored, how many rows of x a pass serves, and how many outputs a warp has: with one row there
// is little to share between two outputs, with more one weight's worth of x is read for both; a gate and its up are two.
#define LINEAR(name, W, T, R) \
    extern "C" __global__ void __launch_bounds__(32 * LINEAR_WARPS) name(const __grid_constant__ Linear a) { linear<W, T, R>(a); }
#define LINEARS(stored, W)                  \
    LINEAR(linear_##stored##_1_1, W, 1, 1) \
    LINEAR(linear_##stored##_1_2, W, 1, 2) \
    LINEAR(linear_##stored##_2_2, W, 2, 2) \
    LINEAR(linear_##stored##_4_2, W, 4, 2) \
    LINEAR(linear_##stored##_8_2, W, 8, 2)

LINEARS(bf16, Bf16)
LINEARS(f16, F16)
LINEARS(f32, F32)

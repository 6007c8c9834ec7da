// What the encoders do besides multiplying: mirrored edges, statistics over time, gates, and the search for the nearest rows.
// Signals are [time][channel].
#include "common.cuh"

// ---- entry points ----

// A thread has a number of y.
extern "C" __global__ void mirror(const __grid_constant__ Mirror a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, row = i / a.width, column = i % a.width;
    after_the_last();
    if (row >= a.rows + 2 * a.edge) return;
    const uint32_t apart = row < a.edge ? a.edge - row : row - a.edge, last = a.rows - 1;
    const uint32_t from = apart > last ? 2 * last - apart : apart;
    const float x = a.x[(size_t)from * a.x_stride + column];
    a.y[(size_t)row * a.y_stride + column] = a.add ? __fadd_rn(x, a.add[(size_t)from * a.width + column]) : x;
}

// Over a block's warps, for each of its channels: warp w's lane c has its share of channel c, and all get channel c's whole.
template <class Reduce>
__device__ __forceinline__ float over_warps(float share, float (&shared)[32][POOL_CHANNELS + 1], float (&whole)[POOL_CHANNELS],
                                            Reduce reduce) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();  // none reads what was there before
    shared[warp][lane] = share;
    __syncthreads();
    const float all = reduce(shared[lane][warp]);
    if (lane == 0) whole[warp] = all;
    __syncthreads();
    return whole[lane];
}

// A block has 32 channels; its 32 warps walk the rows, a lane a channel.
extern "C" __global__ void __launch_bounds__(32 * POOL_CHANNELS) pool(const __grid_constant__ Pool a) {
    static_assert(POOL_CHANNELS == 32, "a lane each, and a warp each when they are summed");
    __shared__ float shared[32][POOL_CHANNELS + 1], whole[POOL_CHANNELS];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, channel = blockIdx.x * POOL_CHANNELS + lane;
    const bool there = channel < a.channels;  // the others keep the barriers company
    after_the_last();
    const auto sum = [](float x) { return warp_sum(x); };
    const auto at = [&](const float *of, uint32_t row) { return of[(size_t)row * a.channels + channel]; };
    float best = -INFINITY;
    if (a.scores) {
        if (there)
            for (uint32_t row = warp; row < a.rows; row += 32) best = fmaxf(best, at(a.scores, row));
        best = over_warps(best, shared, whole, [](float x) { return warp_max(x); });
    }
    const auto weight = [&](uint32_t row) { return a.scores ? expf(at(a.scores, row) - best) : 1.0f; };
    float weights = 0.0f, total = 0.0f, squares = 0.0f;
    if (there)
#pragma unroll 4
        for (uint32_t row = warp; row < a.rows; row += 32) {
            const float w = weight(row);
            weights += w;
            total = fmaf(w, at(a.x, row), total);
        }
    weights = over_warps(weights, shared, whole, sum);
    const float mean = over_warps(total, shared, whole, sum) / weights;
    // The mean first: the squares of what is left do not cancel.
    if (there)
#pragma unroll 4
        for (uint32_t row = warp; row < a.rows; row += 32) {
            const float left = at(a.x, row) - mean;
            squares = fmaf(weight(row), left * left, squares);
        }
    const float square = over_warps(squares, shared, whole, sum) / weights;
    if (warp != 0 || !there) return;
    a.y[channel] = mean;
    a.y[a.channels + channel] = sqrtf(square < 1e-12f ? 1e-12f : square);  // not fmaxf: NaN must stay NaN, so that it is found
}

// A thread has a number.
extern "C" __global__ void gate(const __grid_constant__ Gate a) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    after_the_last();
    if (i >= a.count) return;
    const float share = 1.0f / (1.0f + expf(-a.gate[i % a.width]));
    a.y[i] = __fadd_rn(__fmul_rn(a.x[i], share), a.base[i]);
}

// A block has a frame, for each of whose groups it reads a table: 2 MB at the published size, from the second-level cache,
// which gives a multiprocessor some 100 GB/s. That is 0.3 ms for all 16, and the same for as many frames as there are
// multiprocessors, where 10 s of sound have 125; what is computed is as long. A warp has a row of the table.
extern "C" __global__ void __launch_bounds__(NEAREST_THREADS) nearest(const __grid_constant__ Nearest a) {
    constexpr uint32_t WARPS = NEAREST_THREADS / 32;
    constexpr int EACH = NEAREST_WIDTH_MAX / 32;  // of a row's numbers, by lane
    __shared__ float apart[WARPS];
    __shared__ uint32_t rows[WARPS];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    after_the_last();
    const float *x = a.x + (size_t)blockIdx.x * 2 * a.width;
    float left[EACH];
    bool finite = true;
    for (uint32_t group = 0; group < ROW_GROUPS; group++) {
        if (group <= 1)
#pragma unroll
            for (int i = 0; i < EACH; i++) left[i] = lane + 32 * i < a.width ? x[group * a.width + lane + 32 * i] : 0.0f;
        const float *table = a.tables + (size_t)group * a.rows * a.width;
        float best = INFINITY;
        uint32_t nearest = 0;
#pragma unroll 4
        for (uint32_t row = warp; row < a.rows; row += WARPS) {
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < EACH; i++)
                if (lane + 32 * i < a.width) {
                    const float off = left[i] - table[(size_t)row * a.width + lane + 32 * i];
                    sum = fmaf(off, off, sum);
                }
            sum = warp_sum(sum);
            if (sum < best) best = sum, nearest = row;  // the first of equals: rows come in order
        }
        __syncthreads();  // all have read the last group's
        if (lane == 0) apart[warp] = best, rows[warp] = nearest;
        __syncthreads();
        best = apart[0], nearest = rows[0];
        for (uint32_t other = 1; other < WARPS; other++)
            if (apart[other] < best || (apart[other] == best && rows[other] < nearest)) best = apart[other], nearest = rows[other];
        // Every warp has the same.
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (lane + 32 * i < a.width) {
                left[i] = __fsub_rn(left[i], table[(size_t)nearest * a.width + lane + 32 * i]);
                finite &= isfinite(left[i]);
            }
        finite = __all_sync(ALL, finite);
        if (threadIdx.x == 0) a.codes[(size_t)blockIdx.x * ROW_GROUPS + group] = finite ? nearest : NO_CODE;
    }
}

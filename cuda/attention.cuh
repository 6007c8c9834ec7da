// Attention over keys and values that stay on the device, in f32 or bf16; all sums are f32. What a launch of its own and a frame's
// program have in common.
//
// Which positions a block sees depends on the query's own position alone, and sums have one order, so a query gives the same
// bits whatever rows are computed beside it.
#pragma once

#include "common.cuh"

constexpr int HEAD_EACH = HEAD_DIM_MAX / 32;  // of a head's numbers, by lane

// The keys or values of a position: all heads.
template <class K>
__device__ __forceinline__ char *row_of(const Store &store, void *run, uint64_t at, uint32_t position, size_t width) {
    if (store.pages) return (char *)store.pages[position / PAGE_POSITIONS] + at + position % PAGE_POSITIONS * width * K::BYTES;
    return (char *)run + (position < store.capacity ? position : position % store.capacity) * width * K::BYTES;
}

// What a query at `position` sees: from where, and how many positions of it a block has.
struct Seen {
    uint32_t first, count, span;
};
__device__ __forceinline__ Seen seen(const Attention &a, uint32_t position) {
    const uint32_t first = a.window && position + 1 > a.window ? position + 1 - a.window : 0, count = position + 1 - first;
    if (a.spans == 1) return {first, count, count};
    const uint32_t share = (count + a.spans - 1) / a.spans, least = ATTENTION_SPAN_MIN;
    return {first, count, max(least, (share + least - 1) / least * least)};
}

// One head, from `from` to the numbers of a head that `put` takes: normed if there is a norm, then turned by its position. A
// lane has the two numbers of a pair, so nothing is read that another lane writes. Read past the first-level cache: other
// blocks of the same launch may have written it.
template <class Put>
__device__ __forceinline__ void norm_and_turn(const Append &a, const float *from, const float *norm, uint32_t position,
                                              Put put) {
    constexpr int PAIRS = HEAD_EACH / 2;  // of a lane
    const uint32_t lane = threadIdx.x % 32, half = a.head_dim / 2;
    float low[PAIRS], high[PAIRS], squares = 0.0f, scale = 1.0f;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const uint32_t j = lane + 32 * i;
        low[i] = j < half ? __ldcg(from + j) : 0.0f;
        high[i] = j < half ? __ldcg(from + j + half) : 0.0f;
    }
    if (norm) {
#pragma unroll
        for (int i = 0; i < PAIRS; i++) squares = fmaf(high[i], high[i], fmaf(low[i], low[i], squares));
        scale = 1.0f / sqrtf(warp_sum(squares) / (float)a.head_dim + a.eps);
    }
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        const uint32_t j = lane + 32 * i;
        if (j >= half) break;
        if (norm) {
            low[i] = low[i] * scale * norm[j];
            high[i] = high[i] * scale * norm[j + half];
        }
        const float2 turn = ((const float2 *)a.turns)[(size_t)position * half + j];  // sin, cos
        // Two roundings and a sum, as the reference has it: without a norm the same bits.
        put(j, __fsub_rn(__fmul_rn(low[i], turn.y), __fmul_rn(high[i], turn.x)));
        put(j + half, __fadd_rn(__fmul_rn(high[i], turn.y), __fmul_rn(low[i], turn.x)));
    }
}

// Neighbouring numbers of a head that a lane has, of up to HEAD_EACH.
__device__ __forceinline__ uint32_t of_lane(const Attention &a) { return (a.head_dim + 31) / 32; }

// What a query head sees of a span of positions. First the scores, a warp a position; then their softmax; then the weighted
// values, a thread four numbers of the head and every so many positions. `q` is the query's head, in any memory; `scores` has
// room for the span, `partial` for four numbers of each thread.
template <class K>
__device__ __forceinline__ void attend(const Attention &a, uint32_t head, uint32_t row, uint32_t z, const Seen &seen_here,
                                       const float *q, float *scores, float *partial) {
    constexpr int WARPS_HERE = ATTENTION_THREADS / 32;
    const uint32_t start = seen_here.first + z * seen_here.span;
    const uint32_t count = min(seen_here.count - z * seen_here.span, seen_here.span);
    const size_t width = (size_t)a.kv_heads * a.head_dim;
    const uint32_t column = head / (a.heads / a.kv_heads) * a.head_dim;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, each = of_lane(a);
    const float scale = 1.0f / sqrtf((float)a.head_dim);
    const auto key = [&](uint32_t p) { return row_of<K>(a.store, a.store.keys, a.store.keys_at, start + p, width); };
    const auto value = [&](uint32_t p) { return row_of<K>(a.store, a.store.values, a.store.values_at, start + p, width); };
    const bool fours = a.head_dim % 4 == 0;  // rows begin where four numbers can be read at once

    const auto scored = [&](uint32_t p, float sum) {
        sum = warp_sum(sum) * scale;
        if (lane == 0) scores[p] = sum;
    };
    if (a.head_dim == 128) {
        const float4 mine = *(const float4 *)(q + lane * 4);
#pragma unroll 8
        for (uint32_t p = warp; p < count; p += WARPS_HERE) {
            const float4 k = K::fresh_four(key(p), column + lane * 4);
            scored(p, fmaf(mine.w, k.w, fmaf(mine.z, k.z, fmaf(mine.y, k.y, fmaf(mine.x, k.x, 0.0f)))));
        }
    } else {
        for (uint32_t p = warp; p < count; p += WARPS_HERE) {
            const void *from = key(p);
            float sum = 0.0f;
            for (uint32_t i = 0; i < each; i++) {
                const uint32_t j = lane * each + i;
                if (j < a.head_dim) sum = fmaf(q[j], K::fresh(from, column + j), sum);
            }
            scored(p, sum);
        }
    }
    __syncthreads();  // the scores are there

    // Every warp for itself: less than to wait for one another.
    float best = -INFINITY, total = 0.0f;
    for (uint32_t p = lane; p < count; p += 32) best = fmaxf(best, scores[p]);
    best = warp_max(best);
    for (uint32_t p = lane; p < count; p += 32) total += expf(scores[p] - best);
    total = warp_sum(total);
    __syncthreads();  // the scores have been read
    for (uint32_t p = threadIdx.x; p < count; p += ATTENTION_THREADS) scores[p] = expf(scores[p] - best);
    __syncthreads();  // now they are weights

    const uint32_t threads = ((a.head_dim + 3) / 4 + 31) / 32 * 32, shares = ATTENTION_THREADS / threads;
    const uint32_t j = threadIdx.x % threads * 4, share = threadIdx.x / threads;
    float sums[4] = {};
    if (j < a.head_dim) {
        if (fours) {
#pragma unroll 8
            for (uint32_t p = share; p < count; p += shares) {
                const float4 v = K::fresh_four(value(p), column + j);
                const float weight = scores[p];
                sums[0] = fmaf(weight, v.x, sums[0]), sums[1] = fmaf(weight, v.y, sums[1]);
                sums[2] = fmaf(weight, v.z, sums[2]), sums[3] = fmaf(weight, v.w, sums[3]);
            }
        } else {
            for (uint32_t p = share; p < count; p += shares) {
                const void *from = value(p);
                for (int n = 0; n < 4; n++)
                    if (j + n < a.head_dim) sums[n] = fmaf(scores[p], K::fresh(from, column + j + n), sums[n]);
            }
        }
    }
    *(float4 *)(partial + 4 * threadIdx.x) = make_float4(sums[0], sums[1], sums[2], sums[3]);
    __syncthreads();  // every share is there
    const uint32_t number = threadIdx.x;
    if (number >= a.head_dim) return;
    float sum = partial[number];
    for (uint32_t s = 1; s < shares; s++) sum += partial[4 * s * threads + number];
    if (a.spans == 1) {
        a.y[((size_t)row * a.heads + head) * a.head_dim + number] = sum / total;
        return;
    }
    float *part = a.parts + (((size_t)row * a.heads + head) * a.spans + z) * (a.head_dim + 2);
    part[number] = sum;
    if (number == 0) {
        part[a.head_dim] = best;
        part[a.head_dim + 1] = total;
    }
}

// Attention of the newest rows over keys and values that stay on the device, in f32 or bf16; all sums are f32.
//
// Which positions a block sees depends on the query's own position alone, and sums have one order, so a query gives the same
// bits whatever rows are computed beside it.
#include "common.cuh"

// ---- kernels ----

constexpr int EACH = HEAD_DIM_MAX / 32;  // of a head's numbers, by lane

// The keys or values of a position: all heads.
template <class K>
__device__ __forceinline__ char *row_of(const Store &store, void *run, uint64_t at, uint32_t position, size_t width) {
    char *from = store.pages ? (char *)store.pages[position / store.capacity] + at : (char *)run;
    return from + position % store.capacity * width * K::BYTES;
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
// lane has the two numbers of a pair, so nothing is read that another lane writes.
template <class Put>
__device__ __forceinline__ void norm_and_turn(const Append &a, const float *from, const float *norm, uint32_t position,
                                              Put put) {
    const uint32_t lane = threadIdx.x % 32, half = a.head_dim / 2;
    float scale = 1.0f;
    if (norm) {
        float squares = 0.0f;
        for (uint32_t j = lane; j < half; j += 32)
            squares = fmaf(from[j + half], from[j + half], fmaf(from[j], from[j], squares));
        scale = 1.0f / sqrtf(warp_sum(squares) / (float)a.head_dim + a.eps);
    }
    for (uint32_t j = lane; j < half; j += 32) {
        float low = from[j], high = from[j + half];
        if (norm) {
            low = low * scale * norm[j];
            high = high * scale * norm[j + half];
        }
        const float2 turn = ((const float2 *)a.turns)[(size_t)position * half + j];  // sin, cos
        // Two roundings and a sum, as the reference has it: without a norm the same bits.
        put(j, __fsub_rn(__fmul_rn(low, turn.y), __fmul_rn(high, turn.x)));
        put(j + half, __fadd_rn(__fmul_rn(high, turn.y), __fmul_rn(low, turn.x)));
    }
}

// A warp has a head of q, k or v at one row.
template <class K>
__device__ __forceinline__ void append(const Append &a) {
    const uint32_t heads = a.heads + 2 * a.kv_heads;
    const uint32_t index = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const uint32_t row = index / heads, head = index % heads;
    after_the_last();
    if (row >= a.rows) return;
    const uint32_t position = *a.position + row;
    const size_t width = (size_t)a.kv_heads * a.head_dim;
    float *from = a.qkv + (size_t)index * a.head_dim;
    if (head < a.heads) {
        norm_and_turn(a, from, a.q_norm, position, [&](uint32_t j, float x) { from[j] = x; });
        return;
    }
    const uint32_t column = (head - a.heads) % a.kv_heads * a.head_dim;
    if (head < a.heads + a.kv_heads) {
        void *keys = row_of<K>(a.store, a.store.keys, a.store.keys_at, position, width);
        norm_and_turn(a, from, a.k_norm, position, [&](uint32_t j, float x) { K::put(keys, column + j, x); });
    } else {
        void *values = row_of<K>(a.store, a.store.values, a.store.values_at, position, width);
        for (uint32_t j = threadIdx.x % 32; j < a.head_dim; j += 32) K::put(values, column + j, from[j]);
    }
}

// A block has (query head, row, span of positions). First the scores, a warp a position; then their softmax; then the
// weighted values, a thread a number of the head.
template <class K>
__device__ __forceinline__ void attention(const Attention &a) {
    __shared__ float scores[ATTENTION_SPAN_MAX];
    __shared__ float partial[ATTENTION_THREADS];
    __shared__ float shared[32];
    const uint32_t head = blockIdx.x, row = blockIdx.y;
    after_the_last();
    const Seen seen_here = seen(a, *a.position + a.behind + row);
    // Spans beyond the newest position have nothing to say; attention_join knows that.
    if (blockIdx.z * seen_here.span >= seen_here.count) return;
    const uint32_t start = seen_here.first + blockIdx.z * seen_here.span;
    const uint32_t count = min(seen_here.count - blockIdx.z * seen_here.span, seen_here.span);
    const size_t width = (size_t)a.kv_heads * a.head_dim;
    const uint32_t column = head / (a.heads / a.kv_heads) * a.head_dim;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    const float *q = a.qkv + ((size_t)row * (a.heads + 2 * a.kv_heads) + head) * a.head_dim;
    float mine[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) mine[i] = lane + 32 * i < a.head_dim ? q[lane + 32 * i] : 0.0f;
    const float scale = 1.0f / sqrtf((float)a.head_dim);
    float best = -INFINITY;
#pragma unroll 2
    for (uint32_t p = warp; p < count; p += ATTENTION_THREADS / 32) {
        const void *key = row_of<K>(a.store, a.store.keys, a.store.keys_at, start + p, width);
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < EACH; i++)
            if (lane + 32 * i < a.head_dim) sum = fmaf(mine[i], K::one(key, column + lane + 32 * i), sum);
        sum = warp_sum(sum) * scale;
        if (lane == 0) scores[p] = sum;
        best = fmaxf(best, sum);
    }
    best = block_max(best, shared);  // its barriers also show every thread the scores

    float total = 0.0f;
    for (uint32_t p = threadIdx.x; p < count; p += ATTENTION_THREADS) {
        const float weight = expf(scores[p] - best);
        scores[p] = weight;
        total += weight;
    }
    total = block_sum(total, shared);  // and the weights

    // Where a head is narrower than the block, several threads share a number, each every so many positions.
    const uint32_t threads = (a.head_dim + 31) / 32 * 32, shares = ATTENTION_THREADS / threads;
    const uint32_t j = threadIdx.x % threads, share = threadIdx.x / threads;
    float sum = 0.0f;
    if (share < shares && j < a.head_dim) {
#pragma unroll 4
        for (uint32_t p = share; p < count; p += shares) {
            const void *value = row_of<K>(a.store, a.store.values, a.store.values_at, start + p, width);
            sum = fmaf(scores[p], K::one(value, column + j), sum);
        }
    }
    partial[threadIdx.x] = sum;
    __syncthreads();  // every share is there
    if (share != 0 || j >= a.head_dim) return;
    for (uint32_t s = 1; s < shares; s++) sum += partial[s * threads + j];
    if (a.spans == 1) {
        a.y[((size_t)row * a.heads + head) * a.head_dim + j] = sum / total;
        return;
    }
    float *part = a.parts + (((size_t)row * a.heads + head) * a.spans + blockIdx.z) * (a.head_dim + 2);
    part[j] = sum;
    if (j == 0) {
        part[a.head_dim] = best;
        part[a.head_dim + 1] = total;
    }
}

// ---- entry points ----

extern "C" __global__ void append_f32(const __grid_constant__ Append a) { append<F32>(a); }
extern "C" __global__ void append_bf16(const __grid_constant__ Append a) { append<Bf16>(a); }
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_f32(const __grid_constant__ Attention a) {
    attention<F32>(a);
}
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS) attention_bf16(const __grid_constant__ Attention a) {
    attention<Bf16>(a);
}

// Adds the spans' parts in order of position. A block has a query head at a row, a thread a number of the head.
extern "C" __global__ void attention_join(const __grid_constant__ Attention a) {
    const uint32_t head = blockIdx.x, row = blockIdx.y, j = threadIdx.x;
    after_the_last();
    if (j >= a.head_dim) return;
    const Seen seen_here = seen(a, *a.position + a.behind + row);
    const uint32_t spans = (seen_here.count + seen_here.span - 1) / seen_here.span;
    const float *parts = a.parts + ((size_t)row * a.heads + head) * a.spans * (a.head_dim + 2);
    const size_t stride = a.head_dim + 2;
    float best = -INFINITY;
    for (uint32_t s = 0; s < spans; s++) best = fmaxf(best, parts[s * stride + a.head_dim]);
    float sum = 0.0f, total = 0.0f;
    for (uint32_t s = 0; s < spans; s++) {
        const float weight = expf(parts[s * stride + a.head_dim] - best);
        sum = fmaf(weight, parts[s * stride + j], sum);
        total = fmaf(weight, parts[s * stride + a.head_dim + 1], total);
    }
    a.y[((size_t)row * a.heads + head) * a.head_dim + j] = sum / total;
}

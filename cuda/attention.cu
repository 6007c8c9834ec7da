// Attention of the newest rows, each a launch: what they leave behind, what they see, and the sum of its parts.
#include "attention.cuh"

// ---- kernels ----

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

// A block has (query head, row, span of positions).
template <class K>
__device__ __forceinline__ void attention(const Attention &a) {
    __shared__ alignas(16) float scores[ATTENTION_SPAN_MAX], partial[4 * ATTENTION_THREADS], q[HEAD_DIM_MAX];
    const uint32_t head = blockIdx.x, row = blockIdx.y;
    after_the_last();
    const Seen seen_here = seen(a, *a.position + a.behind + row);
    // Spans beyond the newest position have nothing to say; attention_join knows that.
    if (blockIdx.z * seen_here.span >= seen_here.count) return;
    const float *from = a.qkv + ((size_t)row * (a.heads + 2 * a.kv_heads) + head) * a.head_dim;
    if (threadIdx.x < a.head_dim) q[threadIdx.x] = from[threadIdx.x];
    __syncthreads();  // the query is there
    attend<K>(a, head, row, blockIdx.z, seen_here, q, scores, partial);
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

// What every family uses: sums over a warp and a block in one fixed order, and loads that widen to f32. Knows no model.
//
// The order of a sum depends on the sizes of one output alone, never on what is computed beside it, so the same inputs give
// the same bits in every batch and on every run. Multiply-adds are written as such: the compiler chooses nothing.
#pragma once

#include "args.h"

constexpr unsigned ALL = 0xffffffffu;  // every lane of a warp

// Launches follow each other closely (`Shape::early`): a kernel begins while the one before it still runs, loads what no kernel
// writes, and says `after_the_last` before it reads or writes anything else. What came before that one is done by then, too,
// because that one has waited in turn: so every kernel says it. Without such launches, and on GPUs without them, it is nothing.
__device__ __forceinline__ void after_the_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");  // the next may begin as this one did
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The sum over a warp, the same bits in each lane: a butterfly adds the same pairs on both sides.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int far = 16; far > 0; far /= 2) x += __shfl_xor_sync(ALL, x, far);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int far = 16; far > 0; far /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, far));
    return x;
}

// A block's warps: their results through shared memory, then over one warp, in each of them alike. All threads call it; the
// barrier at its start lets `shared` (32 floats) be used again.
template <class Reduce>
__device__ __forceinline__ float block_reduce(float x, float none, float *shared, Reduce reduce) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    x = reduce(x);
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    return reduce(lane < warps ? shared[lane] : none);
}

__device__ __forceinline__ float block_sum(float x, float *shared) {
    return block_reduce(x, 0.0f, shared, [](float x) { return warp_sum(x); });
}

__device__ __forceinline__ float block_max(float x, float *shared) {
    return block_reduce(x, -INFINITY, shared, [](float x) { return warp_max(x); });
}

// ---- stored numbers ----

__device__ __forceinline__ float widen_bf16(unsigned bits) { return __uint_as_float(bits << 16); }

// As the host's: to the nearest, ties to even.
__device__ __forceinline__ unsigned short narrow_bf16(float x) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// The header for halves costs more to compile than all of this; one instruction serves.
__device__ __forceinline__ float widen_f16(unsigned short bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

// Sixteen bytes that are read once: they need not push anything out of the first-level cache.
__device__ __forceinline__ uint4 load_once(const void *at) {
    uint4 bits;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
        : "l"(at));
    return bits;
}

// Each storage type: one number widened, and eight of them as they are loaded and then widened.
struct Bf16 {
    using Eight = uint4;
    static constexpr size_t BYTES = 2;
    static __device__ float one(const void *table, size_t i) { return widen_bf16(((const unsigned short *)table)[i]); }
    static __device__ float4 four(const void *table, size_t i) {
        const uint2 two = *(const uint2 *)((const unsigned short *)table + i);
        return make_float4(__uint_as_float(two.x << 16), __uint_as_float(two.x & 0xffff0000u), __uint_as_float(two.y << 16),
                           __uint_as_float(two.y & 0xffff0000u));
    }
    static __device__ void put_four(void *table, size_t i, float4 x) {
        *(uint2 *)((unsigned short *)table + i) =
            make_uint2(narrow_bf16(x.x) | (uint32_t)narrow_bf16(x.y) << 16, narrow_bf16(x.z) | (uint32_t)narrow_bf16(x.w) << 16);
    }
    // As it will be read again.
    static __device__ float4 kept(float4 x) {
        return make_float4(widen_bf16(narrow_bf16(x.x)), widen_bf16(narrow_bf16(x.y)), widen_bf16(narrow_bf16(x.z)),
                           widen_bf16(narrow_bf16(x.w)));
    }
    static __device__ void put(void *table, size_t i, float x) { ((unsigned short *)table)[i] = narrow_bf16(x); }
    static __device__ Eight load(const void *table, size_t i) { return load_once((const unsigned short *)table + i); }
    static __device__ void widen(const Eight &eight, float (&wide)[8]) {
        const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            wide[2 * i] = __uint_as_float(pairs[i] << 16);
            wide[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
        }
    }
};

struct F16 {
    using Eight = uint4;
    static constexpr size_t BYTES = 2;
    static __device__ float one(const void *table, size_t i) { return widen_f16(((const unsigned short *)table)[i]); }
    static __device__ Eight load(const void *table, size_t i) { return load_once((const unsigned short *)table + i); }
    static __device__ void widen(const Eight &eight, float (&wide)[8]) {
        const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            wide[2 * i] = widen_f16(pairs[i] & 0xffff);
            wide[2 * i + 1] = widen_f16(pairs[i] >> 16);
        }
    }
};

struct F32 {
    struct Eight {
        uint4 low, high;
    };
    static constexpr size_t BYTES = 4;
    static __device__ float one(const void *table, size_t i) { return ((const float *)table)[i]; }
    static __device__ float4 four(const void *table, size_t i) { return *(const float4 *)((const float *)table + i); }
    static __device__ void put_four(void *table, size_t i, float4 x) { *(float4 *)((float *)table + i) = x; }
    static __device__ float4 kept(float4 x) { return x; }
    static __device__ void put(void *table, size_t i, float x) { ((float *)table)[i] = x; }
    static __device__ Eight load(const void *table, size_t i) {
        const float *at = (const float *)table + i;
        return {load_once(at), load_once(at + 4)};
    }
    static __device__ void widen(const uint4 &four, float (&wide)[4]) {
        wide[0] = __uint_as_float(four.x), wide[1] = __uint_as_float(four.y);
        wide[2] = __uint_as_float(four.z), wide[3] = __uint_as_float(four.w);
    }
    static __device__ void widen(const Eight &eight, float (&wide)[8]) {
        const unsigned bits[8] = {eight.low.x,  eight.low.y,  eight.low.z,  eight.low.w,
                                  eight.high.x, eight.high.y, eight.high.z, eight.high.w};
#pragma unroll
        for (int i = 0; i < 8; i++) wide[i] = __uint_as_float(bits[i]);
    }
};

// Numbers of a table whose storage is known only when it runs: for what is read a row at a time. Four, first as they are stored:
// whoever reads of many tables asks for all before it waits for one.
__device__ __forceinline__ uint4 stored_four(const void *table, uint32_t stored, size_t i) {
    if (stored == STORED_F32) return *(const uint4 *)((const float *)table + i);
    const uint2 two = *(const uint2 *)((const unsigned short *)table + i);
    return make_uint4(two.x & 0xffff, two.x >> 16, two.y & 0xffff, two.y >> 16);
}

__device__ __forceinline__ float widen_stored(uint32_t bits, uint32_t stored) {
    switch (stored) {
        case STORED_BF16: return widen_bf16(bits);
        case STORED_F16: return widen_f16(bits);
        default: return __uint_as_float(bits);
    }
}

__device__ __forceinline__ float stored_number(const void *table, uint32_t stored, size_t i) {
    return widen_stored(stored == STORED_F32 ? ((const uint32_t *)table)[i] : ((const unsigned short *)table)[i], stored);
}

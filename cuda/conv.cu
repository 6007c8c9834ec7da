// Causal convolutions along time over [channel][time], with the columns before the first in a tail that the state keeps; a
// transposed one is the same with more outputs (below). And what goes round them: keeping the tail, and the turn to
// [time][channel] and back.
//
// An output is a few chains of multiply-adds, one for so many input channels, in order of (channel, tap); the chains are added
// in order. How many channels a chain has is the layer's (CONV_CHAIN), so any cutting of time gives the same bits.
#include "common.cuh"

// ---- kernels ----

constexpr int THREADS = 128;  // of a block
constexpr int CHANNELS = 8;   // input channels that lie in shared memory together

// Column j of an input channel, counted from the tail's first.
__device__ __forceinline__ float column(const Conv &a, uint32_t channel, uint32_t j) {
    if (channel >= a.inputs || j >= a.past + a.len) return 0.0f;
    return j < a.past ? a.tail[(size_t)channel * a.past + j] : a.x[(size_t)channel * a.len + j - a.past];
}

// A block has OUT * 4 outputs at TIME * WIDE columns: a thread four outputs at WIDE columns. blockIdx.z is the chain.
template <int OUT, int TIME, int WIDE>
__device__ __forceinline__ void conv_tile(const Conv &a) {
    static_assert(OUT * TIME == THREADS, "each thread has its part");
    constexpr int OUTPUTS = OUT * 4, COLUMNS = TIME * WIDE;
    // A row of weights longer by one: threads that store one output's taps hit different banks.
    __shared__ float weights[CHANNELS * CONV_TAPS_MAX][OUTPUTS + 1];
    __shared__ float columns[CHANNELS][COLUMNS + CONV_PAST_MAX];
    const uint32_t first_out = blockIdx.y * OUTPUTS, first_column = blockIdx.x * COLUMNS;
    const uint32_t out = threadIdx.x / TIME * 4, time = threadIdx.x % TIME;
    const uint32_t reach = COLUMNS + (a.taps - 1) * a.dilation;
    const uint32_t from = blockIdx.z * a.chain, to = min(from + a.chain, a.inputs);

    float sums[4][WIDE] = {};
    for (uint32_t channel = from; channel < to; channel += CHANNELS) {
        const uint32_t taps = min((uint32_t)CHANNELS, to - channel) * a.taps;
        __syncthreads();  // the channels before are used up
        for (uint32_t n = threadIdx.x; n < OUTPUTS * taps; n += THREADS) {
            const uint32_t o = n / taps, tap = n % taps;
            weights[tap][o] =
                first_out + o < a.outputs
                    ? a.weight[((size_t)(first_out + o) * a.inputs + channel) * a.taps + tap]
                    : 0.0f;
        }
        for (uint32_t n = threadIdx.x; n < CHANNELS * reach; n += THREADS)
            columns[n / reach][n % reach] = column(a, channel + n / reach, first_column + n % reach);
        __syncthreads();  // and these are there
        for (uint32_t tap = 0; tap < taps; tap++) {
            const float *x = &columns[tap / a.taps][tap % a.taps * a.dilation + time];
#pragma unroll
            for (int o = 0; o < 4; o++)
#pragma unroll
                for (int w = 0; w < WIDE; w++) sums[o][w] = fmaf(weights[tap][out + o], x[w * TIME], sums[o][w]);
        }
    }

#pragma unroll
    for (int o = 0; o < 4; o++)
#pragma unroll
        for (int w = 0; w < WIDE; w++) {
            const uint32_t row = first_out + out + o, t = first_column + time + w * TIME;
            if (row >= a.outputs || t >= a.len) continue;
            // Of `rate` neighbouring outputs each is a channel's next sample: a transposed convolution.
            const size_t at = ((size_t)(row / a.rate) * a.len + t) * a.rate + row % a.rate;
            if (a.parts)
                a.parts[(size_t)blockIdx.z * a.outputs * a.len + at] = sums[o][w];
            else
                a.y[at] = sums[o][w] + a.bias[row / a.rate];
        }
}

// ---- entry points ----

// Wide, for many columns; narrow, for a few: the same sums.
extern "C" __global__ void __launch_bounds__(THREADS) conv_wide(const __grid_constant__ Conv a) {
    conv_tile<CONV_WIDE_OUTPUTS / 4, 16, CONV_WIDE_COLUMNS / 16>(a);
}
extern "C" __global__ void __launch_bounds__(THREADS) conv_narrow(const __grid_constant__ Conv a) {
    conv_tile<CONV_NARROW_OUTPUTS / 4, CONV_NARROW_COLUMNS, 1>(a);
}

// Adds the chains in order, then the bias.
extern "C" __global__ void conv_join(const __grid_constant__ Conv a) {
    const size_t count = (size_t)a.outputs * a.len, i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum = a.parts[i];
    for (uint32_t chain = 1; chain < a.chains; chain++) sum += a.parts[chain * count + i];
    a.y[i] = sum + a.bias[i / ((size_t)a.len * a.rate)];
}

// Each channel with its own taps, in order, then the bias: the reference's bits.
extern "C" __global__ void conv_depthwise(const __grid_constant__ Conv a) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)a.outputs * a.len) return;
    const uint32_t channel = i / a.len, t = i % a.len;
    float sum = 0.0f;
    for (uint32_t k = 0; k < a.taps; k++) sum = fmaf(a.weight[(size_t)channel * a.taps + k], column(a, channel, t + k), sum);
    a.y[i] = sum + a.bias[channel];
}

// The tail of the next call: the newest columns of what was kept and what is new. A block has a channel.
extern "C" __global__ void keep(const __grid_constant__ Keep a) {
    const uint32_t channel = blockIdx.x, j = threadIdx.x;
    const uint32_t from = j + a.len;  // of the tail and the new columns behind it
    float kept = 0.0f;
    if (j < a.past)
        kept = from < a.past ? a.tail[(size_t)channel * a.past + from] : a.x[(size_t)channel * a.len + from - a.past];
    __syncthreads();  // all is read before any of it is written over
    if (j < a.past) a.tail[(size_t)channel * a.past + j] = kept;
}

// x [rows][columns] to y [columns][rows], 32 by 32 through shared memory, so that both sides are read and written in runs.
extern "C" __global__ void transpose(const __grid_constant__ Transpose a) {
    __shared__ float tile[32][33];  // longer by one: a column lies in 32 banks
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const uint32_t column = blockIdx.x * 32, row = blockIdx.y * 32;
    for (uint32_t r = warp; r < 32; r += warps)
        if (row + r < a.rows && column + lane < a.columns) tile[r][lane] = a.x[(size_t)(row + r) * a.columns + column + lane];
    __syncthreads();  // the tile is there
    for (uint32_t c = warp; c < 32; c += warps)
        if (column + c < a.columns && row + lane < a.rows) a.y[(size_t)(column + c) * a.rows + row + lane] = tile[lane][c];
}

// What is along time in the codec and no matter for gemm.cu: a convolution of each channel by itself, the last one, to one
// channel, and the tails. Signals are [time][channel]; the rows before the first are the tail that the state keeps.
//
// An output's sum has one order, whatever is computed beside it, so any cutting of time gives the same bits.
#include "common.cuh"

// ---- kernels ----

// Row t of what the tail and x are together.
__device__ __forceinline__ const float *row_of(const float *tail, const float *x, uint32_t past, uint32_t channels, uint32_t t) {
    return t < past ? tail + (size_t)t * channels : x + (size_t)(t - past) * channels;
}

// ---- entry points ----

// A block has a row.
extern "C" __global__ void depthwise(const __grid_constant__ Depthwise a) {
    __shared__ float shared[32];
    after_the_last();
    const float *rows[CONV_TAPS];
    for (uint32_t k = 0; k < CONV_TAPS; k++) rows[k] = row_of(a.tail, a.x, CONV_TAPS - 1, a.channels, blockIdx.x + k);
    float *y = a.y + (size_t)blockIdx.x * a.channels;
    float total = 0.0f;
    for (uint32_t c = threadIdx.x; c < a.channels; c += blockDim.x) {
        float sum = 0.0f;
        for (uint32_t k = 0; k < CONV_TAPS; k++) sum = fmaf(a.weight[k * a.channels + c], rows[k][c], sum);
        sum = __fadd_rn(sum, a.bias[c]);
        y[c] = sum;  // each thread reads again only what it wrote
        total += sum;
    }
    const float mean = block_sum(total, shared) / (float)a.channels;
    // The mean first: the squares of what is left do not cancel.
    float squares = 0.0f;
    for (uint32_t c = threadIdx.x; c < a.channels; c += blockDim.x) squares = fmaf(y[c] - mean, y[c] - mean, squares);
    const float scale = 1.0f / sqrtf(block_sum(squares, shared) / (float)a.channels + a.eps);
    for (uint32_t c = threadIdx.x; c < a.channels; c += blockDim.x)
        y[c] = __fadd_rn((y[c] - mean) * scale * a.norm[c], a.norm_bias[c]);
}

// A block has LAST_ROWS samples.
extern "C" __global__ void __launch_bounds__(LAST_ROWS *LAST_THREADS) last(const __grid_constant__ Last a) {
    constexpr uint32_t ROWS = LAST_ROWS + CONV_TAPS - 1;
    // A row longer by one: neighbouring rows begin in neighbouring banks.
    __shared__ float rows[ROWS * (LAST_CHANNELS_MAX + 1)], weight[CONV_TAPS * LAST_CHANNELS_MAX];
    const uint32_t first = blockIdx.x * LAST_ROWS, stride = a.channels + 1;
    after_the_last();
    for (uint32_t n = threadIdx.x; n < ROWS * a.channels; n += LAST_ROWS * LAST_THREADS) {
        const uint32_t t = n / a.channels, c = n % a.channels;
        const bool there = first + t < CONV_TAPS - 1 + a.rows;
        rows[t * stride + c] = there ? row_of(a.tail, a.x, CONV_TAPS - 1, a.channels, first + t)[c] : 0.0f;
    }
    for (uint32_t n = threadIdx.x; n < CONV_TAPS * a.channels; n += LAST_ROWS * LAST_THREADS) weight[n] = a.weight[n];
    __syncthreads();  // all is there
    const uint32_t t = threadIdx.x / LAST_THREADS, share = threadIdx.x % LAST_THREADS;
    float sum = 0.0f;
    for (uint32_t k = 0; k < CONV_TAPS; k++)
        for (uint32_t c = share; c < a.channels; c += LAST_THREADS) sum = fmaf(weight[k * a.channels + c], rows[(t + k) * stride + c], sum);
#pragma unroll
    for (int far = LAST_THREADS / 2; far > 0; far /= 2) sum += __shfl_xor_sync(ALL, sum, far);
    if (share != 0 || first + t >= a.rows) return;
    sum = __fadd_rn(sum, a.bias[0]);
    a.y[first + t] = sum < -1.0f ? -1.0f : sum > 1.0f ? 1.0f : sum;  // NaN stays NaN, so that it is found
}

// blockIdx.y is the tail, a thread has a channel of it: no thread reads what another writes.
extern "C" __global__ void __launch_bounds__(KEEP_WIDTH) keep(const __grid_constant__ Keep a) {
    const Tail &tail = a.tails[blockIdx.y];
    const uint32_t c = blockIdx.x * KEEP_WIDTH + threadIdx.x;
    after_the_last();
    if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *a.position += a.frames;
    if (c >= tail.channels) return;
    // All is read before any of it is written over.
    float kept[CONV_PAST_MAX];
#pragma unroll
    for (uint32_t j = 0; j < CONV_PAST_MAX; j++)
        if (j < tail.past) kept[j] = row_of(tail.tail, tail.x, tail.past, tail.channels, tail.rows + j)[c];
#pragma unroll
    for (uint32_t j = 0; j < CONV_PAST_MAX; j++)
        if (j < tail.past) tail.tail[(size_t)j * tail.channels + c] = kept[j];
}

// Matrix times many rows of x, on the tensor cores: the prompt's positions; and the codec's convolutions, whose rows are the
// taps' rows one behind the other.
//
// Tensor cores multiply bf16. An f32 is the sum of three bf16 terms, each the nearest to what the ones before it leave. A bf16
// weight is one term, exactly; an f16 is two, exactly. Of the products those are left out that are smaller than what the last
// term leaves anyway. (Two terms of x are a third cheaper and 17 bits: at full size scores were 2.1e-5 off the official ones.)
//
// The tensor cores add without rounding to nearest, so only 32 inputs are one chain of theirs, from zero; the chains are added
// in order, by rounded additions. Inputs are cut in slices, a block of a cluster each, so that a short prompt keeps the device
// busy too; the slices' sums are added in order. How many slices there are is a matter of the matrix alone, and a tile's size
// has no part in any order: so a row of x gives the same bits whatever rows are computed beside it.
#include "linear.cuh"

// ---- kernels ----

// A plane is 32 inputs of each row of a tile, and a lane's share of a row 8 of them, as they lie in memory: lane t of four has
// 8 t and on. A multiplication's 16 inputs may be any, in any order, if they are the same for x and weight: the first takes
// the first four of each lane's eight, the second the others.
constexpr int PLANE = 32;

// Slices begin at multiples of this.
constexpr uint32_t SLICE = 64;

// Rows of a plane, in units of 16 bytes.
template <class Stored>
constexpr int UNITS = sizeof(typename Stored::Eight) / 16 * (PLANE / 8);

// Where a row's unit lies. Eight lanes read 16 bytes each at once, four of a row and four of the next: rows of 64 bytes fill
// the banks between them; of rows of 128, every other unit is read, and odd rows lie the other way round.
template <class Stored>
__device__ __forceinline__ int unit_at(int row, int unit) {
    return row * UNITS<Stored> + (UNITS<Stored> == 8 ? unit ^ (row & 1) : unit);
}

// Rows of the weight, and where each has its numbers.
struct WeightRows {
    const Linear &a;
    __device__ uint32_t count() const { return a.outputs; }
    __device__ uint32_t width() const { return a.inputs; }
    __device__ const char *at(uint32_t row, uint32_t, uint32_t input, int bytes) const {
        return (const char *)a.weight + ((size_t)row * a.inputs + input) * bytes;
    }
};

// Rows of x; a tap's numbers are those of an earlier row, which may lie in the tail.
struct XRows {
    const Linear &a;
    __device__ uint32_t count() const { return a.rows; }
    __device__ uint32_t width() const { return a.channels; }
    __device__ const char *at(uint32_t row, uint32_t tap, uint32_t channel, int) const {
        row += tap * a.dilation;
        const float *from = row < a.past ? a.tail + (size_t)row * a.channels : a.x + (size_t)(row - a.past) * a.channels;
        return (const char *)(from + channel);
    }
};

// Begins to copy a plane of `ROWS` rows from `first` on to shared memory, `PLANES` of them. Rows that are not there repeat the
// last; inputs that are not there are zero.
template <class Stored, int ROWS, int PLANES, int THREADS, class From>
__device__ __forceinline__ void begin_copy(uint4 *to, const From &from, uint32_t first, uint32_t input) {
    constexpr int ROW_UNITS = UNITS<Stored> * PLANES, EACH = PLANE / UNITS<Stored>, BYTES = 16 / EACH;
    // What a thread copies: the same unit of every APART-th row.
    constexpr int APART = THREADS / ROW_UNITS;
    static_assert(THREADS % ROW_UNITS == 0 && ROWS % APART == 0, "every thread copies as much");
    static_assert(APART % 2 == 0, "odd rows stay odd");
    const int row = threadIdx.x / ROW_UNITS, unit = threadIdx.x % ROW_UNITS;
    const uint32_t at = input + unit * EACH, inputs = from.a.inputs, width = from.width();
    to += unit / UNITS<Stored> * ROWS * UNITS<Stored> + unit_at<Stored>(row, unit % UNITS<Stored>);
    const auto row_of = [&](int pass) { return min(first + row + pass * APART, from.count() - 1); };
    if (width % EACH == 0) {
        const unsigned there = at < inputs ? 16 : 0;  // the rest of the 16 is filled with zeros
        const uint32_t inside = at < inputs ? at : 0;
        const uint32_t tap = width == inputs ? 0 : inside / width;
#pragma unroll
        for (int pass = 0; pass < ROWS / APART; pass++)
            asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                             (unsigned)__cvta_generic_to_shared(to + pass * APART * UNITS<Stored>)),
                         "l"(from.at(row_of(pass), tap, inside - tap * width, BYTES)), "r"(there)
                         : "memory");
        return;
    }
    // Rows that do not begin at 16 bytes: small models alone have them.
    for (int pass = 0; pass < ROWS / APART; pass++) {
        unsigned words[4] = {};
#pragma unroll
        for (int n = 0; n < EACH; n++)
            if (at + n < inputs) {
                const uint32_t tap = (at + n) / width;
                const char *number = from.at(row_of(pass), tap, at + n - tap * width, BYTES);
                if (BYTES == 4) words[n % 4] = *(const unsigned *)number;
                else words[n / 2] |= (unsigned)*(const unsigned short *)number << n % 2 * 16;
            }
        to[pass * APART * UNITS<Stored>] = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

// Eight numbers as `TERMS` terms, in pairs.
template <int TERMS>
__device__ __forceinline__ void split(float (&numbers)[8], unsigned (&terms)[TERMS][4]) {
#pragma unroll
    for (int pair = 0; pair < 4; pair++) {
        float low = numbers[2 * pair], high = numbers[2 * pair + 1];
#pragma unroll
        for (int term = 0; term < TERMS; term++) {
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(terms[term][pair]) : "f"(high), "f"(low));
            low = __fsub_rn(low, __uint_as_float(terms[term][pair] << 16));
            high = __fsub_rn(high, __uint_as_float(terms[term][pair] & 0xffff0000u));
        }
    }
}

// A lane's eight of a row, in terms.
template <class Stored, int TERMS>
__device__ __forceinline__ void take(const uint4 *plane, int row, int t, unsigned (&terms)[TERMS][4]) {
    typename Stored::Eight eight;
    if constexpr (UNITS<Stored> == 8) {
        eight = {plane[unit_at<Stored>(row, 2 * t)], plane[unit_at<Stored>(row, 2 * t + 1)]};
    } else {
        eight = plane[unit_at<Stored>(row, t)];
        if constexpr (TERMS == 1) {  // bf16 as it is
            terms[0][0] = eight.x, terms[0][1] = eight.y, terms[0][2] = eight.z, terms[0][3] = eight.w;
            return;
        }
    }
    float wide[8];
    Stored::widen(eight, wide);
    split(wide, terms);
}

// sums += 16 rows of x by 8 outputs of weight, over 16 inputs.
__device__ __forceinline__ void multiply(float (&sums)[4], const unsigned (&x)[4], const unsigned (&w)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(w[0]), "r"(w[1]));
}

// A block's tile: WARPS_DOWN by WARPS_ACROSS warps of 16 * DOWN rows and 8 * ACROSS outputs. STAGES times PLANES planes are in
// shared memory, all but one stage of them on their way.
template <class W, int W_TERMS, int X_TERMS, int DOWN, int ACROSS, int WARPS_DOWN, int WARPS_ACROSS, int PLANES, int STAGES>
__device__ __forceinline__ void gemm(const Linear &a) {
    constexpr int THREADS = 32 * WARPS_DOWN * WARPS_ACROSS;
    constexpr int ROWS = 16 * DOWN * WARPS_DOWN, OUTPUTS = 8 * ACROSS * WARPS_ACROSS;
    constexpr int X_UNITS = ROWS * UNITS<F32>, W_UNITS = OUTPUTS * UNITS<W>;  // of a plane
    constexpr int STAGE = PLANES * (X_UNITS + W_UNITS);
    constexpr int STRIDE = OUTPUTS + 8;  // of a row of sums: four rows fill the banks as they are written
    static_assert(PLANES * PLANE <= SLICE, "a stage does not reach into the next slice");
    static_assert(ROWS * STRIDE <= STAGES * STAGE * 4, "the sums fit where the planes were");
    __shared__ uint4 shared[STAGES * STAGE];

    const uint32_t tiles = (a.outputs + OUTPUTS - 1) / OUTPUTS, slices = gridDim.x / tiles;
    const uint32_t first_output = blockIdx.x / slices * OUTPUTS, first_row = blockIdx.y * ROWS;
    const uint32_t inputs_each = ((a.inputs + slices - 1) / slices + SLICE - 1) / SLICE * SLICE;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int warp_row = warp / WARPS_ACROSS * 16 * DOWN, warp_output = warp % WARPS_ACROSS * 8 * ACROSS;

    float sums[DOWN][ACROSS][4];
    const auto add_slice = [&](uint32_t slice) {
        const uint32_t start = min(slice * inputs_each, a.inputs), end = min(start + inputs_each, a.inputs);
        const uint32_t stages = (end - start + PLANES * PLANE - 1) / (PLANES * PLANE);
        const auto begin_x = [&](uint32_t stage) {
            uint4 *to = shared + stage % STAGES * STAGE;
            if (stage < stages) begin_copy<F32, ROWS, PLANES, THREADS>(to, XRows{a}, first_row, start + stage * PLANES * PLANE);
            asm volatile("cp.async.commit_group;" ::: "memory");  // of nothing too: the count below stays right
        };
        const auto begin_weight = [&](uint32_t stage) {
            uint4 *to = shared + stage % STAGES * STAGE + PLANES * X_UNITS;
            if (stage < stages)
                begin_copy<W, OUTPUTS, PLANES, THREADS>(to, WeightRows{a}, first_output, start + stage * PLANES * PLANE);
        };
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
#pragma unroll
                for (int n = 0; n < 4; n++) sums[i][j][n] = 0.0f;
        for (uint32_t stage = 0; stage < STAGES - 1; stage++) begin_weight(stage);
        after_the_last();
        for (uint32_t stage = 0; stage < STAGES - 1; stage++) begin_x(stage);
        for (uint32_t stage = 0; stage < stages; stage++) {
            asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
            __syncthreads();  // this stage is there for all, and none reads any longer what is overwritten next
            begin_weight(stage + STAGES - 1);
            begin_x(stage + STAGES - 1);
#pragma unroll
            for (int plane = 0; plane < PLANES; plane++) {
                const uint4 *x = shared + stage % STAGES * STAGE + plane * X_UNITS;
                const uint4 *w = shared + stage % STAGES * STAGE + PLANES * X_UNITS + plane * W_UNITS;
                unsigned x_terms[DOWN][2][X_TERMS][4];
#pragma unroll
                for (int i = 0; i < 2 * DOWN; i++)
                    take<F32, X_TERMS>(x, warp_row + i * 8 + g, t, x_terms[i / 2][i % 2]);
                unsigned w_terms[ACROSS][W_TERMS][4];
#pragma unroll
                for (int j = 0; j < ACROSS; j++) take<W, W_TERMS>(w, warp_output + j * 8 + g, t, w_terms[j]);
                float chains[DOWN][ACROSS][4] = {};
                // The smallest products first. All chains a step at a time: none waits for its own last step.
#pragma unroll
                for (int order = X_TERMS - 1; order >= 0; order--)
#pragma unroll
                    for (int of_w = 0; of_w < W_TERMS && of_w <= order; of_w++)
#pragma unroll
                        for (int step = 0; step < 4; step += 2)
#pragma unroll
                            for (int i = 0; i < DOWN; i++)
#pragma unroll
                                for (int j = 0; j < ACROSS; j++) {
                                    const auto &up = x_terms[i][0][order - of_w], &low = x_terms[i][1][order - of_w];
                                    multiply(chains[i][j], {up[step], low[step], up[step + 1], low[step + 1]},
                                             {w_terms[j][of_w][step], w_terms[j][of_w][step + 1]});
                                }
#pragma unroll
                for (int i = 0; i < DOWN; i++)
#pragma unroll
                    for (int j = 0; j < ACROSS; j++)
#pragma unroll
                        for (int n = 0; n < 4; n++) sums[i][j][n] = __fadd_rn(sums[i][j][n], chains[i][j][n]);
            }
        }
        __syncthreads();  // none reads the planes any longer
    };

    const uint32_t slice = blockIdx.x % slices;
#if __CUDA_ARCH__ >= 900
    add_slice(slice);
#else
    // Without clusters one block has all slices, in the same order.
    if (slice != 0) return;
    float total[DOWN][ACROSS][4] = {};
    for (uint32_t next = 0; next < slices; next++) {
        add_slice(next);
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
#pragma unroll
                for (int n = 0; n < 4; n++)
                    total[i][j][n] = next == 0 ? sums[i][j][n] : __fadd_rn(total[i][j][n], sums[i][j][n]);
    }
#endif

    float *tile = (float *)shared;
#pragma unroll
    for (int i = 0; i < DOWN; i++)
#pragma unroll
        for (int j = 0; j < ACROSS; j++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
#if __CUDA_ARCH__ >= 900
                const float *from = &sums[i][j][2 * half];
#else
                const float *from = &total[i][j][2 * half];
#endif
                const int row = warp_row + i * 16 + half * 8 + g, output = warp_output + j * 8 + 2 * t;
                *(float2 *)(tile + row * STRIDE + output) = make_float2(from[0], from[1]);
            }

    // Every block of the cluster finishes its share of the tile, two neighbouring outputs at a time.
    constexpr uint32_t PAIRS = ROWS * OUTPUTS / 2;
#if __CUDA_ARCH__ >= 900
    // Every slice's sums are there, for the whole cluster.
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
    const uint32_t from = slice * PAIRS / slices, to = (slice + 1) * PAIRS / slices;
#else
    __syncthreads();  // the sums are there
    const uint32_t from = 0, to = PAIRS;
#endif
    for (uint32_t pair = from + threadIdx.x; pair < to; pair += THREADS) {
        const uint32_t row = pair / (OUTPUTS / 2), column = pair % (OUTPUTS / 2) * 2;
        if (first_row + row >= a.rows || first_output + column >= a.outputs) continue;
        const float *place = tile + row * STRIDE + column;
#if __CUDA_ARCH__ >= 900
        float2 sum = make_float2(0.0f, 0.0f);
#pragma unroll 4
        for (uint32_t other = 0; other < slices; other++) {
            float2 part;
            asm volatile("{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %2, %3;\n"
                         "ld.shared::cluster.v2.f32 {%0, %1}, [there];\n}"
                         : "=f"(part.x), "=f"(part.y)
                         : "r"((unsigned)__cvta_generic_to_shared(place)), "r"(other)
                         : "memory");
            sum = other == 0 ? part : make_float2(__fadd_rn(sum.x, part.x), __fadd_rn(sum.y, part.y));
        }
#else
        const float2 sum = *(const float2 *)place;
#endif
        const uint32_t output = first_output + column;
        if (a.finish == FINISH_GATE) {
            finish_gate(a, first_row + row, output / 2, sum.x, sum.y);
        } else {
            finish(a, first_row + row, output, sum.x);
            if (output + 1 < a.outputs) finish(a, first_row + row, output + 1, sum.y);
        }
    }
#if __CUDA_ARCH__ >= 900
    // A block's shared memory stays until all have read it; nothing that was written has to be seen.
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
#endif
}

// ---- entry points ----

// A name says how the weight is stored, and the rows and outputs of a tile. A grid is (tiles of outputs * slices, tiles of
// rows); where there are clusters, a cluster is the slices of a tile.
#define GEMM(name, W, W_TERMS, X_TERMS, DOWN, ACROSS, WARPS_DOWN, WARPS_ACROSS, PLANES, STAGES)                            \
    extern "C" __global__ void __launch_bounds__(32 * WARPS_DOWN *WARPS_ACROSS) name(const __grid_constant__ Linear a) { \
        gemm<W, W_TERMS, X_TERMS, DOWN, ACROSS, WARPS_DOWN, WARPS_ACROSS, PLANES, STAGES>(a);                            \
    }

GEMM(gemm_bf16_16x64, Bf16, 1, 3, 1, 2, 1, 4, 2, 4)
GEMM(gemm_bf16_32x64, Bf16, 1, 3, 2, 2, 1, 4, 2, 3)
GEMM(gemm_bf16_64x64, Bf16, 1, 3, 2, 4, 2, 2, 1, 4)
GEMM(gemm_bf16_64x128, Bf16, 1, 3, 2, 4, 2, 4, 1, 3)
// Small test models alone have this.
GEMM(gemm_f16_32x64, F16, 2, 3, 2, 2, 1, 4, 1, 4)
// The codec.
GEMM(gemm_f32_16x64, F32, 3, 3, 1, 2, 1, 4, 1, 4)
GEMM(gemm_f32_32x64, F32, 3, 3, 2, 2, 1, 4, 1, 4)
GEMM(gemm_f32_64x64, F32, 3, 3, 2, 4, 2, 2, 1, 3)

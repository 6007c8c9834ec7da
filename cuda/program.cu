// A list of operations in one launch: all of a frame's talker, or all of its predictor. Every block walks the same list.
//
// No barrier stands between operations. What an operation makes goes to the exchange, where every number of a launch has a place
// of its own, empty (EMPTY) when the launch begins: whoever needs a number looks until it is there. A number and the news of it
// are one word, so nothing has to be fenced, and a step costs one way to the second-level cache and one back. A launch empties
// the half of the exchange that the next one has: the end of a launch orders that, and nothing else has to.
//
// What bounds a list is the weights' way from memory, so that never stops: warps that do nothing else load what each warp will
// multiply, operations ahead, as much as shared memory holds, whatever it waits for.
#include <type_traits>

#include "linear.cuh"
#include "sample.cuh"

// ---- kernels ----

constexpr int WARPS = PROGRAM_THREADS / 32, LOADERS = PROGRAM_LOADERS / 32, SERVED = WARPS / LOADERS;
constexpr int TILE = 8;      // rows of a weight that a warp loads together
constexpr int SEGMENT = 256;  // bytes of each of them
constexpr int CHUNK = TILE * SEGMENT;
constexpr int SLOTS_MAX = 6;  // chunks that a warp has under way
constexpr int OPS = 4;  // of the list, in shared memory: those that a warp may still read or already read
constexpr uint32_t EMPTY = 0xffffffffu;  // a NaN that no arithmetic makes
// Inputs of a segment.
template <class W>
constexpr uint32_t INPUTS = SEGMENT / W::BYTES;
// bf16 goes through the tensor cores, x in three terms of bf16: their sum has all bits of an f32.
template <class W>
constexpr bool TERMS = std::is_same<W, Bf16>::value;
static_assert(PROGRAM_THREADS == SAMPLE_THREADS, "every block chooses");
static_assert(sizeof(Op) % 16 == 0 && sizeof(Op) / 16 <= PROGRAM_THREADS, "a thread loads 16 bytes of an operation");
static_assert((PROGRAM_X + PROGRAM_MERGE) * 4 >= SAMPLE_SCORES_MAX * 8, "top-p's order fits");
static_assert(PROGRAM_MERGE >= WARPS * 2 * (PROGRAM_HEAD_DIM_MAX + 2), "two heads' numbers of every warp fit");

// ---- shared memory ----

// Every operation is a function of its own, so that each has the registers it needs; what they have in common lies here.

// Barriers on which threads wait for copies (mbarrier): a phase ends when as many have arrived as it counts.
struct Chunks {
    uint64_t full[SLOTS_MAX], free[SLOTS_MAX];  // a slot is filled; it is read
};

struct Launch {
    float *exchange;  // this launch's half
    uint32_t patience;
    uint32_t over;         // not 0: the list is left
    uint32_t group, span;  // of an attention, the block's first
};

extern __shared__ uint4 dynamic[];  // x, then merge, then every warp's slots
__shared__ alignas(16) Op ops[OPS];
__shared__ Launch launch;
__shared__ Chunks chunks[WARPS];
__shared__ alignas(16) float sums[PROGRAM_SUMS];                // [warp][row of x][output][4]: parts of it
__shared__ alignas(16) float squares[2][PROGRAM_ROWS * WARPS];       // of this operation's rows of x, and the one's before

// Rows of x, as `Rows` lays them.
__device__ __forceinline__ char *shared_x() { return (char *)dynamic; }
// Whole rows, or what warps tell each other of an attention.
__device__ __forceinline__ float *shared_merge() { return (float *)dynamic + PROGRAM_X; }
__device__ __forceinline__ char *shared_slots() { return (char *)dynamic + 4 * (PROGRAM_X + PROGRAM_MERGE); }

// ---- the exchange ----

__device__ __forceinline__ void publish(float *at, float x) {
    uint32_t bits = __float_as_uint(x);
    if (bits == EMPTY) bits = 0x7fffffffu;  // another NaN
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(at), "r"(bits));
}

__device__ __forceinline__ float look(const float *at) {
    uint32_t bits;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(bits) : "l"(at));
    return __uint_as_float(bits);
}

__device__ __forceinline__ float4 look_at_four(const float *at) {
    uint32_t x, y, z, w;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                 : "l"(at));
    return make_float4(__uint_as_float(x), __uint_as_float(y), __uint_as_float(z), __uint_as_float(w));
}

__device__ __forceinline__ bool there(float x) { return __float_as_uint(x) != EMPTY; }
__device__ __forceinline__ bool there(const float4 &x) { return there(x.x) && there(x.y) && there(x.z) && there(x.w); }

__device__ __forceinline__ void look_again(float &x, const float *at) { x = look(at); }
__device__ __forceinline__ void look_again(float4 &x, const float *at) { x = look_at_four(at); }

// Waits for N numbers, or pieces of four, looked at together: `at(n)` is where the n-th lies, if `any(n)`. False: too long.
template <int N, class X, class Any, class At>
__device__ __forceinline__ bool await(X (&x)[N], Any any, At at) {
    const uint32_t patience = launch.patience;
#pragma unroll
    for (int n = 0; n < N; n++) {
        x[n] = X{};
        if (any(n)) look_again(x[n], at(n));
    }
    for (uint32_t looks = 0;; looks++) {
        bool all = true;
#pragma unroll
        for (int n = 0; n < N; n++)
            if (!there(x[n])) {
                all = false;
                look_again(x[n], at(n));
            }
        if (all) return true;
        if (looks >= patience) return false;
    }
}

// ---- what a block has of an operation ----

// Of what an operation makes: the first, and how many.
struct Own {
    uint32_t first, count;
};
__device__ __forceinline__ Own own_of(uint32_t each, uint32_t more) {
    return {blockIdx.x * each + min(blockIdx.x, more), each + (blockIdx.x < more)};
}

// The segments of a row that a warp has, of every row.
struct Segments {
    uint32_t from, to;
};
template <class W>
__device__ __forceinline__ Segments segments_of(uint32_t inputs, uint32_t warp) {
    const uint32_t segments = (inputs + INPUTS<W> - 1) / INPUTS<W>;
    return {segments * warp / WARPS, segments * (warp + 1) / WARPS};
}

// ---- weights ----

__device__ __forceinline__ uint32_t shared_address(const void *at) { return (uint32_t)__cvta_generic_to_shared(at); }
__device__ __forceinline__ void init_phases(uint64_t *at, uint32_t count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(at)), "r"(count) : "memory");
}
__device__ __forceinline__ bool phase_ended(uint32_t at, uint32_t phase) {
    uint32_t ended;
    asm volatile(
        "{\n.reg .pred p;\n"
#if __CUDA_ARCH__ >= 900
        "mbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
#else
        "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
#endif
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(ended)
        : "r"(at), "r"(phase)
        : "memory");
    return ended;
}
__device__ __forceinline__ void arrive(uint32_t at) {
    asm volatile("{\n.reg .b64 t;\nmbarrier.arrive.shared.b64 t, [%0];\n}" ::"r"(at) : "memory");
}

// What a warp of loaders does: the chunks of the warps that it serves, in the order in which they multiply them: of every tile
// of rows their segments. In shared memory the halves of 128 bytes change places in every other row, so that a quarter of a warp
// reads two rows without conflict.
template <class W, int SLOTS>
__device__ __noinline__ void load(const Program &program) {
    const uint32_t lane = threadIdx.x % 32, half = lane / 16, first_served = (threadIdx.x / 32 - WARPS) * SERVED;
    const uint32_t place = half * SEGMENT + ((lane % 16) ^ (half * 4)) * 16;
    uint32_t slot[SERVED] = {}, phase = (1u << SERVED) - 1;  // of `free`, a bit each: the first turn waits for nobody
    Ahead next = program.ahead[0];
    for (uint32_t i = 0; i < program.ahead_count; i++) {
        const Ahead now = next;
        if (i + 1 < program.ahead_count) next = program.ahead[i + 1];
        const Own own = own_of(now.each, now.more);
        const uint32_t rows = own.count << now.in_pairs, row_bytes = now.inputs * W::BYTES;
        Segments segments[SERVED];
        uint32_t most = 0;
#pragma unroll
        for (int served = 0; served < SERVED; served++) {
            segments[served] = segments_of<W>(now.inputs, first_served + served);
            most = max(most, segments[served].to - segments[served].from);
        }
        const char *tile = (const char *)now.weight + (size_t)((own.first << now.in_pairs) + half) * row_bytes + lane % 16 * 16;
        for (uint32_t row = 0; row < rows; row += TILE, tile += (size_t)TILE * row_bytes) {
            const uint32_t left = rows - row;
            for (uint32_t n = 0; n < most; n++) {
#pragma unroll
                for (int served = 0; served < SERVED; served++) {
                    const uint32_t segment = segments[served].from + n;
                    if (segment >= segments[served].to) continue;
                    Chunks &of_warp = chunks[first_served + served];
                    const uint32_t at = slot[served], is_free = shared_address(&of_warp.free[at]);
                    while (!phase_ended(is_free, phase >> served & 1))
                        if (*(volatile uint32_t *)&launch.over) {
                            asm volatile("cp.async.wait_all;" ::: "memory");
                            return;
                        }
                    const uint32_t to = shared_address(shared_slots()) + ((first_served + served) * SLOTS + at) * CHUNK + place;
                    const char *from = tile + segment * SEGMENT;
                    // Behind a row's end there are zeros.
                    const uint32_t bytes = segment * SEGMENT + lane % 16 * 16 < row_bytes ? 16 : 0;
#pragma unroll
                    for (int piece = 0; piece < TILE / 2; piece++) {
                        if (2 * piece + half < left)
                            asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to + piece * 2 * SEGMENT),
                                         "l"(from), "r"(bytes)
                                         : "memory");
                        from += 2 * row_bytes;
                    }
                    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&of_warp.full[at]))
                                 : "memory");
                    slot[served] = at + 1 == SLOTS ? 0 : at + 1;
                    if (at + 1 == SLOTS) phase ^= 1u << served;
                }
            }
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// A warp's chunks as it takes them: how many it has taken, by way of the slot and its phase.
template <int SLOTS>
struct Taken {
    uint32_t slot, phase;  // of the oldest

    __device__ __forceinline__ explicit Taken(uint32_t state) : slot(state / 2), phase(state % 2) {}
    __device__ __forceinline__ uint32_t state() const { return slot * 2 + phase; }

    // Waits for it.
    __device__ __forceinline__ void wait(const Chunks &of_warp) const {
        const uint32_t full = shared_address(&of_warp.full[slot]);
        while (!phase_ended(full, phase)) {}
    }
    __device__ __forceinline__ void next() {
        slot = slot + 1 == SLOTS ? 0 : slot + 1;
        phase ^= slot == 0;
    }
};

// ---- rows of x ----

// How rows of x lie in shared memory for a weight of W, zeros up to a segment's end: as they are, or three planes of their
// terms. Of every eight numbers a plane has the pairs 0, 2, 1, 3: as `times_chunks` takes them. Planes begin so that lanes that
// differ in the plane read without conflict.
template <class W>
struct Rows {
    uint32_t width;  // of a row, a multiple of a segment's inputs

    __device__ __forceinline__ explicit Rows(uint32_t inputs) : width((inputs + INPUTS<W> - 1) / INPUTS<W> * INPUTS<W>) {}
    __device__ __forceinline__ uint32_t plane(uint32_t term) const { return term * width * 2 + (term == 0 ? 0 : 56 + 8 * term); }
    __device__ __forceinline__ uint32_t row() const { return TERMS<W> ? 3 * width * 2 + 128 : width * 4; }

    __device__ __forceinline__ void put(char *row, uint32_t first, const float4 &x) const {
        if constexpr (TERMS<W>) {
            float left[4] = {x.x, x.y, x.z, x.w};
            char *to = row + first / 8 * 16 + first / 4 % 2 * 4;
#pragma unroll
            for (int term = 0; term < 3; term++) {
                uint32_t low, high;  // a pair each, the first number in the lower half
                asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(low) : "f"(left[1]), "f"(left[0]));
                asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(high) : "f"(left[3]), "f"(left[2]));
                *(uint32_t *)(to + plane(term)) = low;
                *(uint32_t *)(to + plane(term) + 8) = high;
                left[0] -= __uint_as_float(low << 16), left[1] -= __uint_as_float(low & 0xffff0000u);
                left[2] -= __uint_as_float(high << 16), left[3] -= __uint_as_float(high & 0xffff0000u);
            }
        } else {
            *(float4 *)(row + first * 4) = x;
        }
    }
};

__device__ __forceinline__ float4 times(const float4 &x, const float4 &y) {
    return make_float4(__fmul_rn(x.x, y.x), __fmul_rn(x.y, y.y), __fmul_rn(x.z, y.z), __fmul_rn(x.w, y.w));
}

// Four numbers of each of the rows at a time, wherever they come from, to `put(t, first, numbers)`; then, if `squared`, squares
// have what the root of each row's mean square is made of. False: stuck.
template <int T, class Put>
__device__ __forceinline__ bool take_rows(const Op &op, const float *memory, uint32_t width, bool squared, float *squares,
                                          Put put) {
    constexpr int STEP = 4 * PROGRAM_THREADS;
    const uint32_t kind = op.from, thread = threadIdx.x;
    const float *rows = kind == FROM_OTHERS ? launch.exchange + op.in : memory;
    bool well = true;
#pragma unroll
    for (int t = 0; t < T; t++) {
        float sum = 0.0f;
        const auto take = [&](uint32_t first, const float4 &p) {
            sum = fmaf(p.w, p.w, fmaf(p.z, p.z, fmaf(p.y, p.y, fmaf(p.x, p.x, sum))));
            put(t, first, p);
        };
        const float *from = rows + t * width;
        uint32_t first = 4 * thread;
        if (kind == FROM_OTHERS) {
            // A few at once where there are a few.
            for (; first + STEP < width; first += 3 * STEP) {
                float4 pieces[3];
                const auto any = [&](int n) { return first + n * STEP < width; };
                well &= await(pieces, any, [&](int n) { return from + first + n * STEP; });
#pragma unroll
                for (int n = 0; n < 3; n++)
                    if (any(n)) take(first + n * STEP, pieces[n]);
            }
            if (first < width) {
                float4 piece[1];
                well &= await(piece, [](int) { return true; }, [&](int) { return from + first; });
                take(first, piece[0]);
            }
        } else {
            if (kind == FROM_STAGED) from = shared_merge() + t * width;
            for (; first < width; first += STEP) take(first, *(const float4 *)(from + first));
        }
        if (squared) {
            sum = warp_sum(sum);
            if (thread % 32 == 0) squares[t * WARPS + thread / 32] = sum;
        }
    }
    return !together_or(!well);  // x is there
}

// What a normed row is to be multiplied by.
__device__ __forceinline__ float norm_scale(const float *squares, uint32_t width, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) sum += squares[warp];
    return __frsqrt_rn(sum / (float)width + eps);
}

// ---- operations ----

// Volatile, as the reads below: the compiler would put each read right before its use.
__device__ __forceinline__ void mma(float (&c)[4], const uint4 &a, const uint2 &b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}
__device__ __forceinline__ uint4 shared_sixteen(uint32_t at) {
    uint4 bits;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w) : "r"(at));
    return bits;
}
__device__ __forceinline__ uint2 shared_eight(uint32_t at) {
    uint2 bits;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(bits.x), "=r"(bits.y) : "r"(at));
    return bits;
}

// N chunks times their segments of T rows of x: of lane l a part of row l / 4 of each one's tile. Where a lane's parts of a
// chunk lie: `even`, of the first and third 64 bytes of a row, `odd`, of the others; and of x's first row, `x`.
//
// The tensor cores take 16 rows and 8 columns. Rows 0 to 7 are the tile's over the even pairs of inputs, rows 8 to 15 the same
// over the odd pairs: so a lane's 16 bytes of a weight are its four registers as they lie. Columns 0 to 2 are the terms of x
// over the even pairs, 3 to 5 those over the odd; what crosses is thrown away, and with it a row's last quarter of lanes.
template <class W, int T, int N>
__device__ __forceinline__ void times_chunks(const uint32_t (&even)[N], const uint32_t (&odd)[N], const uint32_t (&x)[N],
                                             uint32_t row_bytes, uint32_t quarter, float (&part)[N][T]) {
    uint4 a[N][4];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int n = 0; n < N; n++) a[n][i] = shared_sixteen((i % 2 ? odd[n] : even[n]) + i / 2 * 128);
#pragma unroll
    for (int t = 0; t < T; t++) {
        if constexpr (TERMS<W>) {
            uint2 b[N][4];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int n = 0; n < N; n++) b[n][i] = shared_eight(x[n] + t * row_bytes + i * 64);
            float c[N][2][4] = {};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int n = 0; n < N; n++) mma(c[n][i % 2], a[n][i], b[n][i]);
#pragma unroll
            for (int n = 0; n < N; n++) {
                const float first = quarter < 2 ? c[n][0][0] + c[n][1][0] : c[n][0][2] + c[n][1][2];
                part[n][t] = first + (quarter == 0 ? c[n][0][1] + c[n][1][1] : c[n][0][3] + c[n][1][3]);
            }
        } else {
            constexpr int NUMBERS = 16 / W::BYTES;
#pragma unroll
            for (int n = 0; n < N; n++) {
                float sum = 0.0f;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float wide[NUMBERS];
                    W::widen(a[n][i], wide);
#pragma unroll
                    for (int m = 0; m < NUMBERS; m += 4) {
                        const uint4 four = shared_sixteen(x[n] + t * row_bytes + i * 4 * NUMBERS * 4 + m * 4);
                        sum = fmaf(wide[m + 1], __uint_as_float(four.y), fmaf(wide[m], __uint_as_float(four.x), sum));
                        sum = fmaf(wide[m + 3], __uint_as_float(four.w), fmaf(wide[m + 2], __uint_as_float(four.z), sum));
                    }
                }
                part[n][t] = sum;
            }
        }
    }
}

// Returns what Taken says then, or STUCK.
constexpr uint32_t STUCK = 0xffffffffu;
template <class W, int T, int SLOTS>
__device__ __noinline__ uint32_t multiply(uint32_t index, uint32_t state) {
    const Op &op = ops[index % OPS];
    const Linear &a = op.as.linear;
    const uint32_t thread = threadIdx.x, lane = thread % 32, warp = thread / 32, inputs = a.inputs;
    const bool pairs = a.finish == FINISH_GATE;
    const Own own = own_of(op.each, op.more);
    // Rows whose sums there is room for: where a block has more, it takes them in passes.
    constexpr uint32_t PASS = PROGRAM_SUMS / (WARPS * T * 4) / TILE * TILE;
    const uint32_t width = pairs ? a.outputs / 2 : a.outputs;
    const float *norm = a.norm;
    float *squares_here = squares[index % 2];
    const Rows<W> layout(inputs);
    // A thread finishes one output (or pair), in all rows of x.
    const bool mine = thread < own.count;
    const uint32_t output = own.first + thread;
    float base[T] = {};
    if (a.finish == FINISH_ADD && mine)
#pragma unroll
        for (int t = 0; t < T; t++) base[t] = __ldcg(a.base + (size_t)t * width + output);
    const uint32_t row_bytes = layout.row();
    // Behind the row's end.
    for (uint32_t first = inputs + 4 * thread; first < layout.width; first += 4 * PROGRAM_THREADS)
#pragma unroll
        for (int t = 0; t < T; t++) layout.put(shared_x() + t * row_bytes, first, make_float4(0, 0, 0, 0));
    if (norm) {
        // Before x is waited for; rows wider than most wait for the rest.
        float4 weights[2];
#pragma unroll
        for (int n = 0; n < 2; n++)
            if (4 * (thread + n * PROGRAM_THREADS) < inputs) weights[n] = *(const float4 *)(norm + 4 * (thread + n * PROGRAM_THREADS));
        const auto put = [&](int t, uint32_t first, const float4 &x) {
            const uint32_t n = first / (4 * PROGRAM_THREADS);
            layout.put(shared_x() + t * row_bytes, first, times(x, n == 0 ? weights[0] : n == 1 ? weights[1] : *(const float4 *)(norm + first)));
        };
        if (!take_rows<T>(op, a.x, inputs, true, squares_here, put)) return STUCK;
    } else {
        const auto put = [&](int t, uint32_t first, const float4 &x) { layout.put(shared_x() + t * row_bytes, first, x); };
        if (!take_rows<T>(op, a.x, inputs, false, squares_here, put)) return STUCK;
    }

    constexpr uint32_t X_SEGMENT = TERMS<W> ? SEGMENT : INPUTS<W> * 4;
    const Segments segments = segments_of<W>(inputs, warp);
    const uint32_t tile_row = lane / 4, quarter = lane % 4, column = tile_row < 6 ? tile_row : 5;
    // In odd rows the first 64 bytes lie where the second do in even ones.
    const uint32_t even = shared_address(shared_slots()) + warp * SLOTS * CHUNK + tile_row * SEGMENT + quarter * 16 + tile_row % 2 * 64;
    const uint32_t odd = even + 64 - tile_row % 2 * 128;
    // The lane's column of x: its term, and which pairs of it.
    const uint32_t x = shared_address(shared_x()) + segments.from * X_SEGMENT +
                       (TERMS<W> ? layout.plane(column % 3) + column / 3 * 8 + quarter * 16 : quarter * (64 / W::BYTES));
    const uint32_t x_end = x + (segments.to - segments.from) * X_SEGMENT;
    Chunks &of_warp = chunks[warp];
    Taken<SLOTS> taken(state);
    uint32_t tiles = 0;  // rows of this pass, and zeros
    float *to = sums;
    float sum[T] = {};
    uint32_t at = x;
    // After a chunk; behind a tile's last its sums lie in shared memory.
    const auto add = [&](const float (&part)[T], bool ends) {
#pragma unroll
        for (int t = 0; t < T; t++) sum[t] += part[t];
        if (!ends) return;
#pragma unroll
        for (int t = 0; t < T; t++) {
            to[t * tiles * 4] = sum[t];
            sum[t] = 0.0f;
        }
        to += TILE * 4;
    };
    const auto next = [&] {  // true: that was a tile's last
        at += X_SEGMENT;
        const bool ends = at == x_end;
        if (ends) at = x;
        return ends;
    };
    float scale[T];
    for (uint32_t done = 0, rows = own.count << pairs; done < rows; done += PASS) {
        if (done) together();  // the sums of the pass before are read
        tiles = (min(rows - done, PASS) + TILE - 1) / TILE * TILE;
        to = sums + (warp * T * tiles + tile_row) * 4 + quarter;
        uint32_t left = (segments.to - segments.from) * (tiles / TILE);
        if (!left)
            for (uint32_t i = lane; i < tiles * T * 4; i += 32) sums[warp * T * tiles * 4 + i] = 0.0f;
        for (; left >= 2; left -= 2) {
            const uint32_t slot = taken.slot * CHUNK;
            taken.wait(of_warp);
            taken.next();
            const uint32_t second = taken.slot * CHUNK;
            taken.wait(of_warp);
            taken.next();
            const uint32_t first_x = at;
            const bool first_ends = next();
            const uint32_t second_x = at;
            float part[2][T];
            times_chunks<W, T, 2>({even + slot, even + second}, {odd + slot, odd + second}, {first_x, second_x}, row_bytes, quarter, part);
            arrive(shared_address(of_warp.free) + slot / (CHUNK / 8));
            arrive(shared_address(of_warp.free) + second / (CHUNK / 8));
            add(part[0], first_ends);
            add(part[1], next());
        }
        if (left) {
            const uint32_t slot = taken.slot * CHUNK;
            taken.wait(of_warp);
            taken.next();
            float part[1][T];
            times_chunks<W, T, 1>({even + slot}, {odd + slot}, {at}, row_bytes, quarter, part);
            arrive(shared_address(of_warp.free) + slot / (CHUNK / 8));
            add(part[0], next());
        }
        if (done == 0)
#pragma unroll
            for (int t = 0; t < T; t++) scale[t] = norm && mine ? norm_scale(squares_here + t * WARPS, inputs, a.eps) : 1.0f;
        together();  // every warp's sums are there

        const uint32_t row = (thread << pairs) - done;  // of the pass, or far behind it
        if (mine && row < tiles) {
            float *out = launch.exchange + op.out + output;
#pragma unroll
            for (int t = 0; t < T; t++) {
                const auto sum_of = [&](uint32_t row) {
                    float whole = 0.0f;
#pragma unroll
                    for (int w = 0; w < WARPS; w++) {
                        const float4 parts = *(const float4 *)(sums + ((w * T + t) * tiles + row) * 4);
                        whole += parts.x + parts.y + (TERMS<W> ? parts.z : parts.z + parts.w);
                    }
                    return __fmul_rn(scale[t], whole);
                };
                const float y = pairs ? gated(a, output, sum_of(row), sum_of(row + 1)) : finished(a, output, sum_of(row), base[t]);
                publish(out + (size_t)t * width, y);
                a.y[(size_t)t * width + output] = y;
            }
        }
    }
    return taken.state();
}

// A head's numbers, four of a lane: normed if there is a norm, then turned by its position.
struct Turn4 {
    float4 norm;
    float2 turns[4];  // sin, cos

    __device__ __forceinline__ void load(const Append &a, const float *weight, uint32_t position) {
        const uint32_t j = threadIdx.x % 32 * 4, half = a.head_dim / 2;
        if (j >= a.head_dim) return;
        norm = weight ? *(const float4 *)(weight + j) : make_float4(1, 1, 1, 1);
        const float4 *from = (const float4 *)((const float2 *)a.turns + (size_t)position * half + (j < half ? j : j - half));
        const float4 low = from[0], high = from[1];
        turns[0] = make_float2(low.x, low.y), turns[1] = make_float2(low.z, low.w);
        turns[2] = make_float2(high.x, high.y), turns[3] = make_float2(high.z, high.w);
    }

    __device__ __forceinline__ float4 of(const Append &a, bool normed, float4 x) const {
        const uint32_t lane = threadIdx.x % 32, half = a.head_dim / 2;
        if (normed) {
            const float squares = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, __fmul_rn(x.x, x.x))));
            const float scale = __frsqrt_rn(warp_sum(squares) * (1.0f / (float)a.head_dim) + a.eps);
            x = make_float4(x.x * scale * norm.x, x.y * scale * norm.y, x.z * scale * norm.z, x.w * scale * norm.w);
        }
        const bool low = lane * 4 < half;
        const uint32_t other = low ? lane + half / 4 : lane - half / 4;  // where the other number of a pair is
        const float numbers[4] = {x.x, x.y, x.z, x.w};
        float turned[4];
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const float theirs = __shfl_sync(ALL, numbers[n], other);
            const float mine = __fmul_rn(numbers[n], turns[n].y), rest = __fmul_rn(theirs, turns[n].x);
            turned[n] = low ? __fsub_rn(mine, rest) : __fadd_rn(mine, rest);
        }
        return make_float4(turned[0], turned[1], turned[2], turned[3]);
    }
};

__device__ __forceinline__ float dot(const float4 &a, const float4 &b) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, __fmul_rn(a.x, b.x))));
}

// Where the keys and values of a position lie, from the block's column on: all of its heads.
template <class K>
struct Columns {
    const uint64_t *pages;
    const char *keys;       // of the run, or what is to be added to a page
    uint32_t row_bytes;     // from position to position
    uint64_t values;        // from a key to its value
    __device__ __forceinline__ Columns(const Store &store, uint32_t width, uint32_t column)
        : pages(store.pages), keys(pages ? (const char *)store.keys_at : (const char *)store.keys), row_bytes(width * K::BYTES),
          values(pages ? store.values_at - store.keys_at : (uint64_t)store.values - (uint64_t)store.keys) {
        keys += column * K::BYTES;
    }
    __device__ __forceinline__ char *key(uint32_t position) const {
        const char *from = pages ? keys + pages[position / PAGE_POSITIONS] : keys;
        return (char *)from + (pages ? position % PAGE_POSITIONS : position) * row_bytes;
    }
};

// What a query at `position` sees of the block's span. A span is every sixteenth of its positions, but no fewer than the least.
struct Part {
    uint32_t start, count;
};
__device__ __forceinline__ uint32_t span_length(uint32_t count) {
    return max((uint32_t)PROGRAM_SPAN_MIN, (count + PROGRAM_SPANS - 1) / PROGRAM_SPANS);
}
__device__ __forceinline__ Part part_of(uint32_t spans, uint32_t span, uint32_t position) {
    const uint32_t count = position + 1;
    if (spans == 1) return {0, count};
    const uint32_t length = span_length(count), start = span * length;
    return {start, start < count ? min(length, count - start) : 0};
}

// A block has G neighbouring heads of one key and value head over a span, all rows; a warp every eighth position. New keys and
// values are made by the warp that sees them, which also appends them: it is the only one that reads them later in this launch.
template <class K, int G>
__device__ __noinline__ bool attend(uint32_t index) {
    constexpr int TOGETHER = 2;  // positions whose keys and values are on their way at once
    const Op &op = ops[index % OPS];
    const Append &put = op.as.attend.append;
    const Attention &a = op.as.attend.attention;
    const uint32_t thread = threadIdx.x, lane = thread % 32, warp = thread / 32, dim = a.head_dim, j = lane * 4;
    const bool mine = j < dim;
    const uint32_t newest = *a.position, heads = a.heads, kv_heads = a.kv_heads, width = (heads + 2 * kv_heads) * dim;
    const uint32_t groups = heads / G, spans = a.spans, rows = put.rows, step = G * (dim + 2);
    const float scale = __frsqrt_rn((float)dim);
    const float *q_norm = put.q_norm, *k_norm = put.k_norm;
    float *merge = shared_merge();  // [WARPS][G][dim + 2]
    float *out = launch.exchange + op.out;
    bool well = true;
    for (uint32_t group = launch.group, span = launch.span; span < spans;) {
        const uint32_t head = group * G, kv_head = kv_heads == groups ? group : head * kv_heads / heads;
        const Columns<K> columns(a.store, kv_heads * dim, kv_head * dim + j);
        for (uint32_t row = 0; row < rows; row++) {
            const Part part = part_of(spans, span, newest + row);
            if (part.count == 0) continue;
            // Positions from `newest` on are made here, by the warp whose turn they are: this warp's, if it has one.
            uint32_t fresh = rows;
            for (uint32_t f = 0; f <= row; f++)
                if (newest + f - part.start < part.count && (newest + f - part.start) % WARPS == warp) fresh = f;
            const bool has_fresh = fresh < rows;
            float4 keys[TOGETHER], values[TOGETHER];
            const auto load = [&](uint32_t from) {
#pragma unroll
                for (int i = 0; i < TOGETHER; i++) {
                    const uint32_t p = from + i * WARPS;
                    keys[i] = values[i] = make_float4(0, 0, 0, 0);
                    if (mine && p < part.count && part.start + p < newest) {
                        const char *key = columns.key(part.start + p);
                        keys[i] = K::four(key, 0);
                        values[i] = K::four(key + columns.values, 0);
                    }
                }
            };
            load(warp);  // none of them is made in this operation: they need not wait
            Turn4 q_turn, k_turn;
            q_turn.load(put, q_norm, newest + row);
            if (has_fresh) k_turn.load(put, k_norm, newest + fresh);
            float4 pieces[G + 2];
            const float *q_from = launch.exchange + op.in + row * width + head * dim + j;
            const float *k_from = launch.exchange + op.in + fresh * width + (heads + kv_head) * dim + j;
            well &= await(
                pieces, [&](int n) { return mine && (n < G || has_fresh); },
                [&](int n) { return n < G ? q_from + n * dim : n == G ? k_from : k_from + kv_heads * dim; });
            float4 q[G];
#pragma unroll
            for (int g = 0; g < G; g++) q[g] = q_turn.of(put, q_norm, pieces[g]);
            float4 new_key, new_value;
            if (has_fresh) {
                new_key = K::kept(k_turn.of(put, k_norm, pieces[G]));
                new_value = K::kept(pieces[G + 1]);
                if (mine && fresh == row) {
                    char *key = columns.key(newest + fresh);
                    K::put_four(key, 0, new_key);
                    K::put_four(key + columns.values, 0, new_value);
                }
            }
            float best[G], total[G] = {};
            float4 sums[G];
#pragma unroll
            for (int g = 0; g < G; g++) best[g] = -INFINITY, sums[g] = make_float4(0, 0, 0, 0);
            for (uint32_t from = warp; from < part.count; from += TOGETHER * WARPS) {
                if (from != warp) load(from);
                float scores[G][TOGETHER];
#pragma unroll
                for (int i = 0; i < TOGETHER; i++) {
                    if (has_fresh && part.start + from + i * WARPS == newest + fresh) keys[i] = new_key, values[i] = new_value;
#pragma unroll
                    for (int g = 0; g < G; g++) scores[g][i] = mine ? dot(q[g], keys[i]) : 0.0f;
                }
#pragma unroll
                for (int far = 16; far > 0; far /= 2)
#pragma unroll
                    for (int i = 0; i < TOGETHER; i++)
#pragma unroll
                        for (int g = 0; g < G; g++) scores[g][i] += __shfl_xor_sync(ALL, scores[g][i], far);
#pragma unroll
                for (int g = 0; g < G; g++) {
                    float now = best[g];
#pragma unroll
                    for (int i = 0; i < TOGETHER; i++) {
                        scores[g][i] = from + i * WARPS < part.count ? scores[g][i] * scale : -INFINITY;
                        now = fmaxf(now, scores[g][i]);
                    }
                    if (from != warp) {
                        const float less = expf(best[g] - now);
                        total[g] *= less;
                        sums[g] = make_float4(sums[g].x * less, sums[g].y * less, sums[g].z * less, sums[g].w * less);
                    }
                    best[g] = now;
#pragma unroll
                    for (int i = 0; i < TOGETHER; i++) {
                        const float weight = expf(scores[g][i] - now);
                        total[g] += weight;
                        sums[g].x = fmaf(weight, values[i].x, sums[g].x), sums[g].y = fmaf(weight, values[i].y, sums[g].y);
                        sums[g].z = fmaf(weight, values[i].z, sums[g].z), sums[g].w = fmaf(weight, values[i].w, sums[g].w);
                    }
                }
            }
#pragma unroll
            for (int g = 0; g < G; g++) {
                float *of = merge + warp * step + g * (dim + 2);
                if (mine) {
                    *(float2 *)(of + j) = make_float2(sums[g].x, sums[g].y);
                    *(float2 *)(of + j + 2) = make_float2(sums[g].z, sums[g].w);
                }
                if (lane == 0) *(float2 *)(of + dim) = make_float2(best[g], total[g]);
            }
            if (together_or(!well)) return false;  // every warp's numbers are there
            if (thread < G * dim) {
                const uint32_t g = G > 1 && thread >= dim, number = thread - g * dim;
                const float *of = merge + g * (dim + 2);
                float2 edges[WARPS];
                float greatest = -INFINITY, sum = 0.0f, whole = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    edges[w] = *(const float2 *)(of + w * step + dim);
                    greatest = fmaxf(greatest, edges[w].x);
                }
#pragma unroll
                for (int w = 0; w < WARPS; w++) {
                    const float weight = expf(edges[w].x - greatest);
                    sum = fmaf(weight, of[w * step + number], sum);
                    whole = fmaf(weight, edges[w].y, whole);
                }
                if (spans == 1) {
                    publish(out + (row * heads + head + g) * dim + number, sum / whole);
                } else {
                    // [heads][spans][dim], then [heads][spans][2].
                    const uint32_t part = (head + g) * spans + span;
                    publish(out + part * dim + number, sum);
                    if (number < 2) publish(out + heads * spans * dim + 2 * part + number, number == 0 ? greatest : whole);
                }
            }
            if (row + 1 < rows) together();  // the merge is read
        }
        // Where there are more of them than blocks.
        for (group += gridDim.x; group >= groups; group -= groups) span++;
        if (span < spans) together();  // the merge is read
    }
    return !together_or(!well);  // the next operation is there
}

// The parts of an attention with spans, in order of position. As many lanes as it may have spans share a number.
__device__ __noinline__ bool join(uint32_t index) {
    const Op &op = ops[index % OPS];
    const Attention &a = op.as.join;
    const Own own = own_of(op.each, op.more);
    const uint32_t count = *a.position + 1, length = span_length(count), spans = (count + length - 1) / length;
    const uint32_t span = threadIdx.x % PROGRAM_SPANS;
    bool well = true;
    for (uint32_t base = 0; base < own.count; base += PROGRAM_THREADS / PROGRAM_SPANS) {
        const uint32_t unit = base + threadIdx.x / PROGRAM_SPANS, number = own.first + min(unit, own.count - 1);
        const uint32_t head = number / a.head_dim, part = head * a.spans + span;
        const float *in = launch.exchange + op.in, *edges = in + a.heads * a.spans * a.head_dim + 2 * part;
        const float *mine = in + part * a.head_dim + number - head * a.head_dim;
        float of[3];
        well &= await(of, [&](int) { return span < spans; }, [&](int n) { return n == 0 ? mine : edges + n - 1; });
        float best = span < spans ? of[1] : -INFINITY;
#pragma unroll
        for (int far = PROGRAM_SPANS / 2; far > 0; far /= 2) best = fmaxf(best, __shfl_xor_sync(ALL, best, far));
        const float weight = span < spans ? expf(of[1] - best) : 0.0f;
        float sum = __fmul_rn(weight, of[0]), whole = __fmul_rn(weight, of[2]);
#pragma unroll
        for (int far = PROGRAM_SPANS / 2; far > 0; far /= 2) {
            sum += __shfl_xor_sync(ALL, sum, far);
            whole += __shfl_xor_sync(ALL, whole, far);
        }
        if (span == 0 && unit < own.count) publish(launch.exchange + op.out + number, sum / whole);
    }
    return !together_or(!well);  // the next operation is there
}

// Where a block has them, four numbers of a row that all blocks have.
__device__ __forceinline__ void put_own(const Own &own, float *y, uint32_t first, const float4 &x) {
    const float numbers[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int n = 0; n < 4; n++)
        if (first + n - own.first < own.count) y[first + n] = numbers[n];
}

// As embed.cu; every block has the whole row.
__device__ __noinline__ bool embed(uint32_t index, uint32_t fed) {
    const Op &op = ops[index % OPS];
    const Embed &a = op.as.embed;
    const Own own = own_of(op.each, op.more);
    float *row = shared_merge() + op.row * a.width;
    bool well = true;
    for (uint32_t column = 4 * threadIdx.x; column < a.width; column += 4 * PROGRAM_THREADS) {
        float4 vector[1] = {make_float4(0, 0, 0, 0)};
        bool any = false;
        float4 sum = vector[0];
        constexpr int TOGETHER = 8;  // rows that are on their way at once
#pragma unroll 1
        for (uint32_t first = 0; first < a.groups; first += TOGETHER) {
            uint32_t codes[TOGETHER];
            uint4 rows[TOGETHER];  // as they are stored: nothing waits for one before all are asked for
#pragma unroll
            for (int g = 0; g < TOGETHER; g++)
                codes[g] = first + g >= a.groups ? NO_CODE : a.codes ? a.codes[first + g] : fed;
#pragma unroll
            for (int g = 0; g < TOGETHER; g++)
                if (codes[g] != NO_CODE)
                    rows[g] = stored_four(a.tables[first + g], a.stored[first + g], (size_t)codes[g] * a.width + column);
#pragma unroll
            for (int g = 0; g < TOGETHER; g++) {
                if (codes[g] == NO_CODE) continue;
                const uint32_t stored = a.stored[first + g];
                const float4 of = make_float4(widen_stored(rows[g].x, stored), widen_stored(rows[g].y, stored),
                                              widen_stored(rows[g].z, stored), widen_stored(rows[g].w, stored));
                sum = any ? make_float4(sum.x + of.x, sum.y + of.y, sum.z + of.z, sum.w + of.w) : of;
                any = true;
            }
        }
        if (a.vector) {
            if (op.from == FROM_OTHERS)
                well &= await(vector, [](int) { return true; }, [&](int) { return launch.exchange + op.in + column; });
            else vector[0] = __ldcg((const float4 *)(a.vector + column));
            sum = any ? make_float4(sum.x + vector[0].x, sum.y + vector[0].y, sum.z + vector[0].z, sum.w + vector[0].w) : vector[0];
        }
        *(float4 *)(row + column) = sum;
        put_own(own, a.y, column, sum);
    }
    return !together_or(!well);  // the row is there, and the next operation
}

// As norm.cu, of one row; every block has it all.
__device__ __noinline__ bool norm(uint32_t index) {
    const Op &op = ops[index % OPS];
    float *squares_here = squares[index % 2];
    const RmsNorm &a = op.as.norm;
    const Own own = own_of(op.each, op.more);
    const auto keep = [&](int, uint32_t first, const float4 &x) {
        *(float4 *)(shared_merge() + first) = times(x, *(const float4 *)(a.weight + first));
    };
    if (!take_rows<1>(op, a.x, a.width, true, squares_here, keep)) return false;
    const float scale = norm_scale(squares_here, a.width, a.eps);
    for (uint32_t first = 4 * threadIdx.x; first < a.width; first += 4 * PROGRAM_THREADS) {
        float4 &x = *(float4 *)(shared_merge() + first);
        x = make_float4(x.x * scale, x.y * scale, x.z * scale, x.w * scale);
        put_own(own, a.y, first, x);
    }
    return true;  // each thread takes up its own
}

// Every block chooses, and all choose the same; the first notes it. That a code was seen is noted behind the first group's
// choices: other blocks may still be at theirs. What later groups see, or STUCK.
__device__ __noinline__ uint32_t choose(uint32_t index) {
    const Op &op = ops[index % OPS];
    const Sample &a = op.as.sample;
    Speaker &speaker = *a.speaker;
    const uint32_t count = a.count, forced = speaker.forced[a.group];
    bool well = true;
    const uint32_t code = sample(a, (uint64_t *)dynamic, [&](uint32_t first, uint32_t each, auto &given) {
        if (op.from != FROM_OTHERS) return load_scores(a, first, each, given);
        constexpr int EACH = sizeof(given) / sizeof(float);
        const float *from = launch.exchange + op.in + first;
        if (each % 4 == 0) {
            float4 pieces[EACH / 4];
            well = await(pieces, [&](int n) { return 4 * n < each && first + 4 * n < count; }, [&](int n) { return from + 4 * n; });
#pragma unroll
            for (int n = 0; n < EACH / 4; n++)
                given[4 * n] = pieces[n].x, given[4 * n + 1] = pieces[n].y, given[4 * n + 2] = pieces[n].z,
                              given[4 * n + 3] = pieces[n].w;
        } else {
            well = await(given, [&](int n) { return n < each && first + n < count; }, [&](int n) { return from + n; });
        }
    });
    // What never came is no number. Behind the choice the next operation is there.
    if (code == NO_CODE && together_or(!well)) return STUCK;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        choose(speaker, a.group, code);
        if (a.group == 1) speaker.seen[speaker.codes[0]] = 1;
    }
    return forced != NO_CODE ? forced : code == NO_CODE ? 0 : code;
}

template <class W, class K, int SLOTS>
__device__ __forceinline__ void run(const Program &program) {
    static_assert(SLOTS <= SLOTS_MAX, "its barriers fit");
    const uint32_t thread = threadIdx.x, words = sizeof(Op) / 16;
    const uint4 *list = (const uint4 *)program.ops;
    if (thread < WARPS * SLOTS) {
        init_phases(&chunks[thread / SLOTS].full[thread % SLOTS], 32);
        init_phases(&chunks[thread / SLOTS].free[thread % SLOTS], 32);
    }
    if (thread == 0) {  // one for all: another block may get stuck meanwhile
        const Turn turn = *program.turn;
        launch = {program.exchange + turn.launches % 2 * program.exchange_len, program.patience, turn.stuck,
                  blockIdx.x % program.groups, blockIdx.x / program.groups};
    }
    if (thread < words) ((uint4 *)&ops[0])[thread] = list[thread];
    __syncthreads();  // the barriers are there, and the first operation
    if (*(volatile uint32_t *)&launch.over) {
        if (thread == 0) program.speaker->fault = FAULT_STUCK;
        return;
    }
    if (thread >= PROGRAM_THREADS) return load<W, SLOTS>(program);
    uint4 *other = (uint4 *)(program.exchange + (launch.exchange == program.exchange ? program.exchange_len : 0));
    for (uint32_t i = blockIdx.x * PROGRAM_THREADS + thread; i < program.exchange_len / 4; i += gridDim.x * PROGRAM_THREADS)
        other[i] = make_uint4(EMPTY, EMPTY, EMPTY, EMPTY);
    uint4 next = make_uint4(0, 0, 0, 0);
    if (thread < words && program.op_count > 1) next = list[words + thread];
    uint32_t fed = 0, taken = 0;  // the newest choice, as later groups see it; as Taken says
    bool well = true;
    for (uint32_t i = 0; well && i < program.op_count; i++) {
        const Op &op = ops[i % OPS];
        // Each operation has a barrier, behind which the next is there.
        if (thread < words) {
            ((uint4 *)&ops[(i + 1) % OPS])[thread] = next;
            if (i + 2 < program.op_count) next = list[(size_t)(i + 2) * words + thread];
        }
        switch (op.kind) {
            case OP_LINEAR:
                taken = op.as.linear.rows == 1 ? multiply<W, 1, SLOTS>(i, taken) : multiply<W, PROGRAM_ROWS, SLOTS>(i, taken);
                well = taken != STUCK;
                break;
            case OP_ATTEND:
                well = program.groups == op.as.attend.attention.heads ? attend<K, 1>(i) : attend<K, 2>(i);
                break;
            case OP_JOIN: well = join(i); break;
            case OP_EMBED: well = embed(i, fed); break;
            case OP_NORM: well = norm(i); break;
            case OP_SAMPLE:
                fed = choose(i);
                well = fed != STUCK;
                break;
        }
    }
    if (thread != 0) return;
    if (!well) {
        *(volatile uint32_t *)&launch.over = 1;
        program.speaker->fault = FAULT_STUCK;
        program.turn->stuck = 1;
    } else if (atomicInc(&program.turn->left, gridDim.x - 1) == gridDim.x - 1) {
        program.turn->launches++;  // the last to leave: all have read it
    }
}

// ---- entry points ----

// A name says how weights, and how keys and values are stored, and how many chunks a warp has under way.
// The bound leaves registers for a block of the codec beside.
constexpr int BOUND = 512;
static_assert(BOUND >= PROGRAM_THREADS + PROGRAM_LOADERS, "it is one");
#define PROGRAM(name, W, K, SLOTS) \
    extern "C" __global__ void __launch_bounds__(BOUND, 1) name(const __grid_constant__ Program a) { run<W, K, SLOTS>(a); }
#define PROGRAMS(SLOTS)                                   \
    PROGRAM(program_bf16_f32_##SLOTS, Bf16, F32, SLOTS)   \
    PROGRAM(program_bf16_bf16_##SLOTS, Bf16, Bf16, SLOTS) \
    PROGRAM(program_f16_f32_##SLOTS, F16, F32, SLOTS)     \
    PROGRAM(program_f16_bf16_##SLOTS, F16, Bf16, SLOTS)   \
    PROGRAM(program_f32_f32_##SLOTS, F32, F32, SLOTS)     \
    PROGRAM(program_f32_bf16_##SLOTS, F32, Bf16, SLOTS)

PROGRAMS(2)
PROGRAMS(6)

// A list of operations in one launch: all of a frame's talker, or all of its predictor. Every block walks the same list; where an
// operation needs what other blocks made, all wait for all.
//
// What bounds it is the weights' way from memory, so that never stops: every warp knows which rows of which weight it will
// multiply, operations ahead, and keeps as many of them under way as its shared memory holds, whatever the blocks wait for.
// A lane copies just what it will itself read, so nothing has to be waited for but its own copies.
//
// An operation gives the same bits as the launch of its name: sums have the same order (linear.cu, attention.cuh, norm.cu).
// What another block wrote is read past the first-level cache, which other multiprocessors' writes do not reach.
#include "attention.cuh"
#include "linear.cuh"
#include "sample.cuh"

// ---- kernels ----

constexpr int WARPS = PROGRAM_THREADS / 32;
constexpr int CHUNK = 2048;  // bytes of a weight's row that a warp loads at a time: four pieces of 16 bytes for each lane
constexpr int PIECES = 4;
static_assert(PROGRAM_THREADS == ATTENTION_THREADS && PROGRAM_THREADS == SAMPLE_THREADS, "every block does everything");
static_assert(sizeof(Op) % 16 == 0 && sizeof(Op) / 16 <= PROGRAM_THREADS, "a thread loads 16 bytes of the next operation");
static_assert(PROGRAM_WORK * 4 >= SAMPLE_SCORES_MAX * 8, "top-p's order fits");

// Of a weight's outputs a block has every gridDim.x-th (of pairs, where they belong together), and of their rows, cut into
// chunks, each of its warps every WARPS-th chunk.
struct Share {
    uint32_t rows, chunks;            // the block's rows, and chunks of each
    uint32_t row, chunk;              // where the warp is
    uint32_t rows_step, chunks_step;  // to its next
    bool in_pairs;

    template <class W>
    __device__ __forceinline__ void begin(uint32_t inputs, uint32_t each, uint32_t more, bool pairs) {
        in_pairs = pairs;
        rows = (each + (blockIdx.x < more)) << pairs;
        chunks = (inputs + CHAIN<W> - 1) / CHAIN<W>;
        const uint32_t warp = threadIdx.x / 32;
        if (chunks == 1) {  // as most are; a division takes a hundred cycles
            row = warp, chunk = 0, rows_step = WARPS, chunks_step = 0;
        } else {
            row = warp / chunks, chunk = warp - row * chunks;
            rows_step = WARPS / chunks, chunks_step = WARPS - rows_step * chunks;
        }
    }
    __device__ __forceinline__ bool any() const { return row < rows; }
    __device__ __forceinline__ void step() {
        row += rows_step;
        chunk += chunks_step;
        if (chunk >= chunks) {
            chunk -= chunks;
            row++;
        }
    }
    // Of the weight, the output that a row of the block is.
    __device__ __forceinline__ uint32_t output(uint32_t row) const {
        return in_pairs ? 2 * (blockIdx.x + (row >> 1) * gridDim.x) + (row & 1) : blockIdx.x + row * gridDim.x;
    }
};

// What a warp loads ahead: its chunks of every weight, in the order in which it multiplies them.
template <class W, int SLOTS>
struct Loads {
    char *slots;  // [SLOTS][CHUNK], the warp's own
    const Ahead *next;
    uint32_t left;        // weights that are not begun
    Ahead now, upcoming;  // the second is on its way while the first is loaded
    Share share;
    bool any;
    uint32_t in, out;  // slots

    __device__ __forceinline__ void fetch() {
        upcoming.weight = nullptr;
        if (left == 0) return;
        upcoming = *next++;
        left--;
    }

    // Weights of which this warp has nothing are passed over.
    __device__ __forceinline__ void begin_weight() {
        do {
            any = upcoming.weight;
            if (!any) return;
            now = upcoming;
            fetch();
            share.template begin<W>(now.inputs, now.each, now.more, now.in_pairs);
        } while (!share.any());
    }

    __device__ __forceinline__ void open(char *of_warp, const Program &program) {
        slots = of_warp;
        next = program.ahead;
        left = program.ahead_count;
        in = out = 0;
        fetch();
        begin_weight();
#pragma unroll 1
        for (int i = 0; i < SLOTS; i++) begin();
    }

    // Begins the next chunk; after the last one, nothing, so that the count of what is under way stays right.
    __device__ __forceinline__ void begin() {
        if (any) {
            const uint32_t lane = threadIdx.x % 32, first = share.chunk * CHAIN<W>;
            const char *from = (const char *)now.weight +
                               ((size_t)share.output(share.row) * now.inputs + first + lane * 8) * W::BYTES;
            const unsigned to = (unsigned)__cvta_generic_to_shared(slots + in * CHUNK + lane * 16);
            const uint32_t rest = now.inputs - first - min(now.inputs - first, lane * 8);  // inputs from the lane's first on
#pragma unroll
            for (int piece = 0; piece < PIECES; piece++) {
                // Eight numbers are one piece of bf16 or f16, or two of f32.
                const uint32_t at = W::BYTES == 2 ? piece * 256 : piece / 2 * 256 + piece % 2 * 4;
                if (at < rest)
                    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(to + piece * 512),
                                 "l"(from + at * W::BYTES)
                                 : "memory");
            }
            in = in + 1 == SLOTS ? 0 : in + 1;
            share.step();
            if (!share.any()) begin_weight();
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    }

    // Waits until no more than these are under way.
    template <int UNDER_WAY>
    __device__ __forceinline__ void wait() {
        asm volatile("cp.async.wait_group %0;" ::"n"(UNDER_WAY) : "memory");
    }
    // The oldest chunk's numbers.
    __device__ __forceinline__ void take(uint4 (&pieces)[PIECES]) {
        const uint4 *from = (const uint4 *)(slots + out * CHUNK) + threadIdx.x % 32;
#pragma unroll
        for (int piece = 0; piece < PIECES; piece++) pieces[piece] = from[piece * 32];
        out = out + 1 == SLOTS ? 0 : out + 1;
    }
};

template <class W>
__device__ __forceinline__ void widen_round(const uint4 (&pieces)[PIECES], int round, float (&wide)[8]) {
    typename W::Eight eight;
    if constexpr (W::BYTES == 2) {
        eight = pieces[round];
    } else {
        eight = {pieces[2 * round], pieces[2 * round + 1]};
    }
    W::widen(eight, wide);
}

// A block's shared memory, but for what functions have of their own.
struct Room {
    float *work;  // [PROGRAM_WORK]
    float *scale;  // [PROGRAM_ROWS], of a norm
    uint32_t *fed;  // the newest choice, as later groups see it
};

// Everybody has arrived, or a wait was too long. All threads call it; what they wrote before is seen by all after, where it is
// read past the first-level cache: that is not emptied here, because what nobody writes is wanted in it.
__device__ __forceinline__ bool meet(const Program &program, uint32_t until) {
    bool in_time = true;
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(&program.meeting->arrived) : "memory");
        uint32_t looks = 0, arrived;
        while (true) {
            asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(arrived) : "l"(&program.meeting->arrived) : "memory");
            if ((int32_t)(arrived - until) >= 0) break;
            if (++looks > program.patience) {
                in_time = false;
                break;
            }
        }
    }
    return __syncthreads_and(in_time);
}

// The rows of x, in shared memory: with a norm both as they are, [rows][inputs], and times the norm's weight behind them.
template <int T>
__device__ __forceinline__ const float *stage(const Linked &op, const Room &room) {
    const Linear &a = op.linear;
    const uint32_t count = T * a.inputs;
    float *raw = room.work, *normed = room.work + count;
    const auto put = [&](uint32_t i, float x) {
        raw[i] = x;
        if (a.norm) normed[i] = __fmul_rn(x, a.norm[T == 1 || i < a.inputs ? i : i - a.inputs]);
    };
    if (T == 1 && op.from == FROM_PARTS) {
        // A warp has a head at a time; a lane a span's best and total, and every 32nd number.
        const Attention &at = op.parts;
        const uint32_t lane = threadIdx.x % 32, stride = at.head_dim + 2;
        for (uint32_t head = threadIdx.x / 32; head < at.heads; head += WARPS) {
            const Seen here = seen(at, *at.position + at.behind);
            const uint32_t spans = (here.count + here.span - 1) / here.span;
            const float *parts = at.parts + (size_t)head * at.spans * stride;
            const float best = lane < spans ? __ldcg(parts + lane * stride + at.head_dim) : -INFINITY;
            const float of_lane = lane < spans ? __ldcg(parts + lane * stride + at.head_dim + 1) : 0.0f;
            float sums[HEAD_EACH] = {}, total = 0.0f;
            constexpr int TOGETHER = 2;  // spans whose numbers are on their way at once
            float weight = 0.0f;
            for (uint32_t first = 0; first < spans; first += TOGETHER) {
                float numbers[TOGETHER][HEAD_EACH];
#pragma unroll
                for (int s = 0; s < TOGETHER; s++)
#pragma unroll
                    for (int i = 0; i < HEAD_EACH; i++) {
                        const uint32_t j = lane + 32 * i;
                        numbers[s][i] = 0.0f;
                        if (first + s < spans && j < at.head_dim) numbers[s][i] = __ldcg(parts + (first + s) * stride + j);
                    }
                if (first == 0) weight = expf(best - warp_max(best));  // once its numbers are under way, too
#pragma unroll
                for (int s = 0; s < TOGETHER; s++) {
                    if (first + s >= spans) break;
                    const float of_span = __shfl_sync(ALL, weight, first + s);
                    total = fmaf(of_span, __shfl_sync(ALL, of_lane, first + s), total);
#pragma unroll
                    for (int i = 0; i < HEAD_EACH; i++) sums[i] = fmaf(of_span, numbers[s][i], sums[i]);
                }
            }
#pragma unroll
            for (int i = 0; i < HEAD_EACH; i++)
                if (lane + 32 * i < at.head_dim) put(head * at.head_dim + lane + 32 * i, sums[i] / total);
        }
    } else if (op.from == FROM_STAGED) {
        if (a.norm)
            for (uint32_t i = threadIdx.x; i < count; i += PROGRAM_THREADS) put(i, raw[i]);
    } else if (a.inputs % 4 == 0) {
#pragma unroll 4
        for (uint32_t i = 4 * threadIdx.x; i < count; i += 4 * PROGRAM_THREADS) {
            const float4 x = __ldcg((const float4 *)(a.x + i));
            if (a.norm) {
                const float4 norm = *(const float4 *)(a.norm + (T == 1 || i < a.inputs ? i : i - a.inputs));
                *(float4 *)(normed + i) = make_float4(__fmul_rn(x.x, norm.x), __fmul_rn(x.y, norm.y), __fmul_rn(x.z, norm.z),
                                                      __fmul_rn(x.w, norm.w));
            }
            *(float4 *)(raw + i) = x;
        }
    } else {
        for (uint32_t i = threadIdx.x; i < count; i += PROGRAM_THREADS) put(i, __ldcg(a.x + i));
    }
    __syncthreads();  // x is there
    return a.norm ? normed : raw;
}

// A chunk's share of a lane, one chain: x at the chunk's first input.
template <class W>
__device__ __forceinline__ float chain(const uint4 (&pieces)[PIECES], const float *x, uint32_t inputs) {
    const uint32_t lane = threadIdx.x % 32;
    float sum = 0.0f;
#pragma unroll
    for (int round = 0; round < CHAIN<W> / 256; round++) {
        const uint32_t i = round * 256 + lane * 8;
        if (i < inputs) {
            float wide[8];
            widen_round<W>(pieces, round, wide);
            const float4 low = *(const float4 *)(x + i), high = *(const float4 *)(x + i + 4);
            const float in[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
            for (int n = 0; n < 8; n++) sum = fmaf(wide[n], in[n], sum);
        }
    }
    return sum;
}

// T rows of x. First every warp's chunks, a sum for each lane; then rows, their sums' lanes added; then a lane finishes each.
template <class W, int T, int SLOTS>
__device__ __forceinline__ void multiply(const Linked &op, const Room &room, Loads<W, SLOTS> &loads) {
    const Linear &a = op.linear;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Share share = {};
    share.begin<W>(a.inputs, op.each, op.more, a.finish == FINISH_GATE);
    const bool ahead = a.inputs % 8 == 0;
    const uint32_t chunks = ahead ? share.chunks : 1;
    // What a lane finishes: a row of the block, of `each` neighbouring ones that its warp has, an even number.
    const uint32_t each = ((share.rows + WARPS - 1) / WARPS + 1) / 2 * 2, row = warp * each + lane;
    const bool mine = lane < each && row < share.rows;
    const uint32_t output = share.output(row);
    float base[T] = {};
    if (a.finish == FINISH_ADD && mine)
#pragma unroll
        for (int t = 0; t < T; t++) base[t] = __ldcg(a.base + (size_t)t * a.outputs + output);

    const float *x = stage<T>(op, room);
    float *sums = room.work + T * a.inputs * (a.norm ? 2 : 1);  // [T][rows][chunks][32]
    // The last warps have the fewest chunks: one for each row of x sums its squares, as each warp of `linear` does.
    if (a.norm && warp >= WARPS - T) {
        const int t = WARPS - 1 - warp;
        const float *from = room.work + t * a.inputs;
        float squares = 0.0f;
        if (ahead) {
#pragma unroll 4
            for (uint32_t i = lane * 8; i < a.inputs; i += 256) {
                const float4 low = *(const float4 *)(from + i), high = *(const float4 *)(from + i + 4);
                const float eight[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
                for (int n = 0; n < 8; n++) squares = fmaf(eight[n], eight[n], squares);
            }
        } else {
            for (uint32_t i = lane; i < a.inputs; i += 32) squares = fmaf(from[i], from[i], squares);
        }
        const float scale = 1.0f / sqrtf(warp_sum(squares) / (float)a.inputs + a.eps);
        if (lane == 0) room.scale[t] = scale;
    }
    if (ahead) {
        const auto put = [&](const Share &at, const uint4 (&pieces)[PIECES]) {
            const uint32_t first = at.chunk * CHAIN<W>;
#pragma unroll
            for (int t = 0; t < T; t++)
                sums[((t * share.rows + at.row) * chunks + at.chunk) * 32 + lane] =
                    chain<W>(pieces, x + t * a.inputs + first, a.inputs - first);
        };
        while (share.any()) {
            // Two at a time, so that neither waits for itself.
            uint4 pieces[2][PIECES];
            const Share first = share;
            share.step();
            const bool two = share.any();
            if (two) {
                loads.template wait<SLOTS - 2>();
                loads.take(pieces[0]);
                loads.take(pieces[1]);
                put(first, pieces[0]);
                put(share, pieces[1]);
                share.step();
            } else {
                loads.template wait<SLOTS - 1>();
                loads.take(pieces[0]);
                put(first, pieces[0]);
            }
#pragma unroll 1
            for (int n = 0; n <= two; n++) loads.begin();
        }
    } else {
        // Rows that do not begin at 16 bytes: small models alone have them, and nothing is loaded ahead.
        for (uint32_t of = warp; of < share.rows; of += WARPS)
            for (int t = 0; t < T; t++) {
                float sum = 0.0f;
                for (uint32_t i = lane; i < a.inputs; i += 32)
                    sum = fmaf(W::one(a.weight, (size_t)share.output(of) * a.inputs + i), x[t * a.inputs + i], sum);
                sums[(t * share.rows + of) * 32 + lane] = sum;
            }
    }
    __syncthreads();  // every chunk's sums are there, and the scale

    float sum[T] = {};
#pragma unroll 2
    for (uint32_t i = 0; i < each; i++) {
        if (warp * each + i >= share.rows) break;
#pragma unroll
        for (int t = 0; t < T; t++) {
            const float *of = sums + (t * share.rows + warp * each + i) * chunks * 32 + lane;
            float whole = 0.0f;
            for (uint32_t c = 0; c < chunks; c++) whole = __fadd_rn(whole, of[c * 32]);
            whole = warp_sum(whole);
            if (lane == i) sum[t] = whole;
        }
    }
#pragma unroll
    for (int t = 0; t < T; t++) {
        const float scaled = __fmul_rn(a.norm ? room.scale[t] : 1.0f, sum[t]);
        const float up = __shfl_down_sync(ALL, scaled, 1);
        if (!mine) continue;
        if (!share.in_pairs) finish(a, t, output, scaled, base[t]);
        else if (lane % 2 == 0) finish_gate(a, t, output / 2, scaled, up);
    }
}

// A block has (query head, row, span) at a time. It norms and turns its query, and appends what is new of the keys and values
// that it sees; so do others of the same, with the same bits.
template <class K>
__device__ __forceinline__ void attend(const Attend &op, const Room &room) {
    float *scores = room.work, *partial = scores + ATTENTION_SPAN_MAX, *q = partial + 4 * ATTENTION_THREADS;
    const Append &put = op.append;
    const Attention &a = op.attention;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, rows = put.rows;
    const uint32_t newest = *a.position, each = a.heads + 2 * a.kv_heads;
    const size_t width = (size_t)a.kv_heads * a.head_dim;
    for (uint32_t item = blockIdx.x; item < a.heads * rows * a.spans; item += gridDim.x) {
        const uint32_t head = item % a.heads, row = item / a.heads % rows, z = item / a.heads / rows;
        const Seen here = seen(a, newest + row);
        if (z * here.span >= here.count) continue;
        const uint32_t end = here.first + min(here.count, (z + 1) * here.span);
        const uint32_t kv_head = head / (a.heads / a.kv_heads), column = kv_head * a.head_dim;
        __syncthreads();  // q and the scores are read no longer
        if (warp == 0) {
            const float *from = put.qkv + (size_t)(row * each + head) * a.head_dim;
            norm_and_turn(put, from, put.q_norm, newest + row, [&](uint32_t j, float x) { q[j] = x; });
        }
        for (uint32_t task = warp; task < 1 + 2 * (row + 1); task += WARPS) {
            if (task == 0) continue;
            const uint32_t of = (task - 1) / 2, position = newest + of;
            if (position >= end || position < here.first + z * here.span) continue;
            const float *from = put.qkv + (size_t)(of * each + a.heads + kv_head) * a.head_dim;
            if (task % 2 == 1) {
                void *keys = row_of<K>(put.store, put.store.keys, put.store.keys_at, position, width);
                norm_and_turn(put, from, put.k_norm, position, [&](uint32_t j, float x) { K::put(keys, column + j, x); });
            } else {
                void *values = row_of<K>(put.store, put.store.values, put.store.values_at, position, width);
                from += (size_t)a.kv_heads * a.head_dim;
                for (uint32_t j = lane; j < a.head_dim; j += 32) K::put(values, column + j, __ldcg(from + j));
            }
        }
        __syncthreads();  // what is new is there
        attend<K>(a, head, row, z, here, q, scores, partial);
    }
}

// As embed.cu; every block has the whole row, and puts its share of it where others find it later.
__device__ __forceinline__ void embed(const Row &op, const Room &room) {
    const Embed &a = op.embed;
    constexpr int TOGETHER = 16;  // rows that are on their way at once
    for (uint32_t column = threadIdx.x; column < a.width; column += PROGRAM_THREADS) {
        bool any = false;
        float sum = a.vector ? __ldcg(a.vector + column) : 0.0f;
        const float vector = sum;
        for (uint32_t first = 0; first < a.groups; first += TOGETHER) {
            uint32_t codes[TOGETHER];
            uint32_t rows[TOGETHER];  // as they are stored: nothing waits for one before all are asked for
#pragma unroll
            for (int g = 0; g < TOGETHER; g++)
                codes[g] = first + g >= a.groups ? NO_CODE : a.codes ? a.codes[first + g] : *room.fed;
#pragma unroll
            for (int g = 0; g < TOGETHER; g++)
                if (codes[g] != NO_CODE)
                    rows[g] = stored_bits(a.tables[first + g], a.stored[first + g], (size_t)codes[g] * a.width + column);
#pragma unroll
            for (int g = 0; g < TOGETHER; g++) {
                if (codes[g] == NO_CODE) continue;
                const float row = widen_stored(rows[g], a.stored[first + g]);
                sum = any ? sum + row : row;
                any = true;
            }
        }
        if (any && a.vector) sum += vector;
        room.work[op.row * a.width + column] = sum;
        if (column % gridDim.x == blockIdx.x) a.y[column] = sum;
    }
}

// As norm.cu, of one row.
__device__ __forceinline__ void norm(const RmsNorm &a, const Room &room) {
    __shared__ float shared[32];
    float squares = 0.0f;
    for (uint32_t i = threadIdx.x; i < a.width; i += PROGRAM_THREADS) {
        const float x = __ldcg(a.x + i);
        room.work[i] = x;
        squares = fmaf(x, x, squares);
    }
    const float scale = 1.0f / sqrtf(block_sum(squares, shared) / (float)a.width + a.eps);
    for (uint32_t i = threadIdx.x; i < a.width; i += PROGRAM_THREADS) {
        const float y = room.work[i] * scale * a.weight[i];
        room.work[i] = y;
        if (i % gridDim.x == blockIdx.x) a.y[i] = y;
    }
}

// Every block chooses, and all choose the same; the first notes it. That a code was seen is noted behind the first group's
// choices: other blocks may still be at theirs.
__device__ __forceinline__ void choose(const Sample &a, const Room &room) {
    const uint32_t code = sample(a, (uint64_t *)room.work);
    if (threadIdx.x != 0) return;
    Speaker &speaker = *a.speaker;
    const uint32_t forced = speaker.forced[a.group];
    *room.fed = forced != NO_CODE ? forced : code == NO_CODE ? 0 : code;
    if (blockIdx.x != 0) return;
    choose(speaker, a.group, code);
    if (a.group == 1) speaker.seen[speaker.codes[0]] = 1;
}

template <class W, class K, int SLOTS>
__device__ __forceinline__ void run(const Program &program) {
    extern __shared__ uint4 dynamic[];
    __shared__ uint4 ops[2][sizeof(Op) / 16];
    __shared__ float scale[PROGRAM_ROWS];
    __shared__ uint32_t fed;
    const uint32_t thread = threadIdx.x;
    const uint4 *list = (const uint4 *)program.ops;
    const Room room = {(float *)(dynamic + SLOTS * WARPS * CHUNK / 16), scale, &fed};
    if (program.meeting->stuck) {
        if (thread == 0) program.speaker->fault = FAULT_STUCK;
        return;
    }
    uint32_t until = program.meeting->begun;
    Loads<W, SLOTS> loads;
    loads.open((char *)dynamic + thread / 32 * SLOTS * CHUNK, program);
    if (thread < sizeof(Op) / 16) ops[0][thread] = list[thread];
    __syncthreads();  // the first operation is there
    for (uint32_t i = 0; i < program.op_count; i++) {
        const Op &op = *(const Op *)ops[i % 2];
        uint4 next;
        const bool more = i + 1 < program.op_count && thread < sizeof(Op) / 16;
        if (more) next = list[(size_t)(i + 1) * (sizeof(Op) / 16) + thread];
        if (op.waits) {
            until += gridDim.x;
            if (!meet(program, until)) {
                if (thread == 0) {
                    program.speaker->fault = FAULT_STUCK;
                    program.meeting->stuck = 1;
                }
                return;
            }
        }
        switch (op.kind) {
            case OP_LINEAR:
                if (op.as.linear.linear.rows == 1) multiply<W, 1>(op.as.linear, room, loads);
                else multiply<W, PROGRAM_ROWS>(op.as.linear, room, loads);
                break;
            case OP_ATTEND: attend<K>(op.as.attend, room); break;
            case OP_EMBED: embed(op.as.embed, room); break;
            case OP_NORM: norm(op.as.norm, room); break;
            case OP_SAMPLE: choose(op.as.sample, room); break;
        }
        if (more) ops[(i + 1) % 2][thread] = next;
        __syncthreads();  // the next operation is there, and what this one left in shared memory
    }
    if (blockIdx.x == 0 && thread == 0) program.meeting->begun = until;
}

// ---- entry points ----

// A name says how weights, and how keys and values are stored, and how many chunks a warp has under way.
#define PROGRAM(name, W, K, SLOTS) \
    extern "C" __global__ void __launch_bounds__(PROGRAM_THREADS, 2) name(const __grid_constant__ Program a) { run<W, K, SLOTS>(a); }
#define PROGRAMS(SLOTS)                              \
    PROGRAM(program_bf16_f32_##SLOTS, Bf16, F32, SLOTS)   \
    PROGRAM(program_bf16_bf16_##SLOTS, Bf16, Bf16, SLOTS) \
    PROGRAM(program_f16_f32_##SLOTS, F16, F32, SLOTS)     \
    PROGRAM(program_f16_bf16_##SLOTS, F16, Bf16, SLOTS)   \
    PROGRAM(program_f32_f32_##SLOTS, F32, F32, SLOTS)     \
    PROGRAM(program_f32_bf16_##SLOTS, F32, Bf16, SLOTS)

PROGRAMS(3)
PROGRAMS(6)

// From scores to a code, by one block: penalty, suppression, temperature, top-k, top-p, draw, or the best. What a launch of its
// own and a frame's program have in common.
//
// Top-k is a score: of which bin of distances to the best, then which of the bin's few. Only top-p needs the scores in order.
// Probabilities are not divided by their sum: the draw is scaled instead, in f64. Choices equal the reference's but for draws
// within rounding of an edge.
#pragma once

#include "common.cuh"

// EACH, below: neighbouring scores that a thread has room for.

// A barrier of those threads of a block that choose, which may not be all that it has.
__device__ __forceinline__ void together() {
    __syncwarp();  // lanes that were apart arrive as one
    asm volatile("barrier.sync 1, %0;" ::"r"((uint32_t)SAMPLE_THREADS) : "memory");
}

__device__ __forceinline__ bool together_or(bool of_thread) {
    uint32_t any;
    __syncwarp();
    asm volatile(
        "{\n.reg .pred p, q;\nsetp.ne.u32 p, %1, 0;\nbarrier.red.or.pred q, 1, %2, p;\nselp.u32 %0, 1, 0, q;\n}"
        : "=r"(any)
        : "r"((uint32_t)of_thread), "r"((uint32_t)SAMPLE_THREADS)
        : "memory");
    return any;
}

__device__ __forceinline__ bool together_and(bool of_thread) { return !together_or(!of_thread); }

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): 53 bits in [0, 1) from seed, frame
// and group alone.
__device__ double philox_uniform(uint64_t seed, uint32_t frame, uint32_t group) {
    uint32_t counter[4] = {frame, 0, group, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * counter[0], b = (uint64_t)0xCD9E8D57u * counter[2];
        counter[0] = (uint32_t)(b >> 32) ^ counter[1] ^ key[0];
        counter[1] = (uint32_t)b;
        counter[2] = (uint32_t)(a >> 32) ^ counter[3] ^ key[1];
        counter[3] = (uint32_t)a;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const uint64_t bits = ((uint64_t)counter[0] << 32 | counter[1]) >> 11;
    return (double)bits / 9007199254740992.0;  // 2^53
}

// A score as a number that sorts as it does.
__device__ __forceinline__ uint32_t sortable(float score) {
    const uint32_t bits = __float_as_uint(score);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float score_of(uint32_t sorted) {
    return __uint_as_float(sorted & 0x80000000u ? sorted & 0x7fffffffu : ~sorted);
}

// A number that the k greatest of the block's reach, ties with the k-th too, and no others; `most` is the greatest. k from 1 to
// how many there are. Two bits at a time from the highest on: how many reach each of three numbers.
template <int EACH>
__device__ __forceinline__ uint32_t reached_by(const uint32_t (&mine)[EACH], uint32_t k, uint32_t most) {
    static_assert(32 * EACH < 1024, "a warp's count fits ten bits");
    constexpr int WARPS_HERE = SAMPLE_THREADS / 32;
    __shared__ alignas(16) uint32_t counts[2][WARPS_HERE];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t known = 0;
    for (int bit = 30, turn = 0; bit >= 0; bit -= 2) {
        const uint32_t step = 1u << bit, one = known + step, two = one + step, three = two + step;
        if (one > most) continue;
        uint32_t reach = 0;
#pragma unroll
        for (int n = 0; n < EACH; n++) reach += (mine[n] >= one) + (mine[n] >= two ? 1u << 10 : 0) + (mine[n] >= three ? 1u << 20 : 0);
        reach = __reduce_add_sync(ALL, reach);
        if (lane == 0) counts[turn][warp] = reach;
        together();  // the counts are there; those of the turn before are read by then, so two sets of them do
        uint32_t low = 0, middle = 0, high = 0;
#pragma unroll
        for (int w = 0; w < WARPS_HERE; w += 4) {
            const uint4 four = *(const uint4 *)&counts[turn][w];
            low += (four.x & 1023) + (four.y & 1023) + (four.z & 1023) + (four.w & 1023);
            middle += (four.x >> 10 & 1023) + (four.y >> 10 & 1023) + (four.z >> 10 & 1023) + (four.w >> 10 & 1023);
            high += (four.x >> 20) + (four.y >> 20) + (four.z >> 20) + (four.w >> 20);
        }
        turn = 1 - turn;
        const uint32_t found = high >= k ? high : middle >= k ? middle : low;
        known = high >= k ? three : middle >= k ? two : low >= k ? one : known;
        if (found == k) break;  // whatever the lower bits, these and no others
    }
    return known;
}

// Distances to the best go into bins, sixteen of every octave from 2^-8 to 2^8; nearer ones into the first, farther ones into
// none. Greater scores never lie in later bins.
constexpr uint32_t BINS = 256;
static_assert(BINS == SAMPLE_THREADS, "a thread empties one");
__device__ __forceinline__ uint32_t bin_of(float distance) {
    constexpr int STEPS = 23 - 4, FIRST = (127 - 8) << 4;
    return max((int)(__float_as_uint(distance) >> STEPS) - FIRST, 0);
}

// As `reached_by`, of scores whose bins' counts are in `counts`; `few` counts none yet. Where the bin in question holds too many,
// or none holds it, digit by digit.
template <int EACH>
__device__ __forceinline__ uint32_t cut_of(const uint32_t (&sorted)[EACH], const uint32_t (&bins)[EACH], const uint32_t *counts,
                                           uint32_t &few, uint32_t k, uint32_t most) {
    constexpr uint32_t FEW = 64;
    __shared__ uint32_t entries[FEW], cut;
    const uint32_t thread = threadIdx.x, lane = thread % 32;
    // Every warp finds for itself the bin that the k-th lies in.
    uint32_t own[BINS / 32], sum = 0;
#pragma unroll
    for (int n = 0; n < BINS / 32; n += 4) {
        const uint4 four = *(const uint4 *)&counts[lane * (BINS / 32) + n];
        own[n] = four.x, own[n + 1] = four.y, own[n + 2] = four.z, own[n + 3] = four.w;
        sum += four.x + four.y + four.z + four.w;
    }
    uint32_t before = sum;
#pragma unroll
    for (int near = 1; near < 32; near *= 2) {
        const uint32_t other = __shfl_up_sync(ALL, before, near);
        if (lane >= near) before += other;
    }
    const uint32_t reached = __ballot_sync(ALL, before >= k);
    if (!reached) return reached_by(sorted, k, most);
    before -= sum;
    uint32_t bin = lane * (BINS / 32), inside = 0;
    bool passed = false;
#pragma unroll
    for (int n = 0; n < BINS / 32; n++) {
        passed |= before + own[n] >= k;
        if (passed) {
            if (!inside) inside = own[n];
        } else {
            before += own[n];
            bin++;
        }
    }
    const uint32_t owner = __ffs(reached) - 1;
    bin = __shfl_sync(ALL, bin, owner);
    inside = __shfl_sync(ALL, inside, owner);
    const uint32_t rank = k - __shfl_sync(ALL, before, owner);  // in the bin, from 1
    if (inside > FEW) return reached_by(sorted, k, most);
#pragma unroll
    for (int n = 0; n < EACH; n++)
        if (bins[n] == bin) entries[atomicAdd(&few, 1)] = sorted[n];
    together();  // the bin's scores are there
    if (thread < inside) {
        const uint32_t mine = entries[thread];
        uint32_t above = 0, ties = 0;
        for (uint32_t i = 0; i < inside; i++) {
            above += entries[i] > mine;
            ties += entries[i] == mine;
        }
        if (above < rank && rank <= above + ties) cut = mine;
    }
    together();  // the cut is there
    return cut;
}

// Bitonic, the greatest first.
__device__ void sort(uint64_t *entries, uint32_t size) {
    for (uint32_t run = 2; run <= size; run *= 2)
        for (uint32_t far = run / 2; far > 0; far /= 2) {
            together();  // the round before is done
            for (uint32_t pair = threadIdx.x; pair < size / 2; pair += SAMPLE_THREADS) {
                const uint32_t low = 2 * far * (pair / far) + pair % far, high = low + far;
                const bool greatest_first = (low & run) == 0;
                const uint64_t x = entries[low], y = entries[high];
                if ((x < y) == greatest_first) {
                    entries[low] = y;
                    entries[high] = x;
                }
            }
        }
    together();  // the order is there
}

// The sum of the lanes up to and with each.
__device__ __forceinline__ double warp_so_far(double sum) {
#pragma unroll
    for (int near = 1; near < 32; near *= 2) {
        const double other = __shfl_up_sync(ALL, sum, near);
        if (threadIdx.x % 32 >= near) sum += other;
    }
    return sum;
}

// The sums of all threads' values up to and with each thread's own, and of all. In f64, and in one order.
__device__ double sum_so_far(double mine, double *shared, double &whole) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const double sum = warp_so_far(mine);
    together();  // `shared` is free
    if (lane == 31) shared[warp] = sum;
    together();  // every warp's sum is there
    double before = 0.0;
    whole = 0.0;
#pragma unroll
    for (int w = 0; w < SAMPLE_THREADS / 32; w++) {
        if (w == warp) before = whole;
        whole += shared[w];
    }
    return before + sum;
}

// Top-p: from the least on, weights become 0 that together have at most 1 - top_p; the best always stays. Seen from the top, one
// stays while it and all behind it have more than that.
template <int EACH>
__device__ void keep_top_p(float (&mine)[EACH], const uint32_t (&sorted)[EACH], uint32_t each, float top_p, double *shared,
                           uint64_t *entries) {
    const uint32_t thread = threadIdx.x;
    float *weights = (float *)entries;
    // In order of score; of equals the last is first, as the reference has it from the top.
#pragma unroll
    for (int n = 0; n < EACH; n++)  // where a thread has fewer, the rest sort behind all
        entries[thread * EACH + n] = (n < each ? (uint64_t)sorted[n] << 32 : 0) | (thread * EACH + n);
    sort(entries, EACH * SAMPLE_THREADS);
    uint32_t index[EACH];
#pragma unroll
    for (int n = 0; n < EACH; n++) index[n] = (uint32_t)entries[thread * EACH + n];
    together();  // the order is known: its place now holds the weights
#pragma unroll
    for (int n = 0; n < EACH; n++) weights[thread * EACH + n] = mine[n];
    together();  // all of them
    float ordered[EACH];
    double sum = 0.0;
#pragma unroll
    for (int n = 0; n < EACH; n++) {
        ordered[n] = weights[index[n]];
        sum += ordered[n];
    }
    double whole;
    const double so_far = sum_so_far(sum, shared, whole);  // behind which every weight has been read
    double before = so_far - sum;
#pragma unroll
    for (int n = 0; n < EACH; n++) {
        const bool stays = thread + n == 0 || (float)((whole - before) / whole) > 1.0f - top_p;
        if (ordered[n] > 0.0f && !stays) weights[index[n]] = 0.0f;
        before += ordered[n];
    }
    together();  // what goes is gone
#pragma unroll
    for (int n = 0; n < EACH; n++) mine[n] = weights[thread * EACH + n];
}

// The draw of this group in this frame. Of a given list, greedy choices take none.
__device__ double uniform(const Speaker &speaker, uint32_t group) {
    if (!speaker.uniforms) return philox_uniform(speaker.seed, speaker.frame, group);
    const uint32_t first = speaker.talker.do_sample, rest = speaker.predictor.do_sample;
    const uint32_t before = speaker.frame * (first + (ROW_GROUPS - 1) * rest);
    // Where there are too few the host refuses the frame.
    const double *uniforms = (const double *)speaker.uniforms;
    return uniforms[min(before + (group == 0 ? 0 : first + group - 1), speaker.draws - 1)];
}

// `sample` for up to EACH scores of a thread. `load` gives those of a thread, 0 where there is none.
template <int EACH, class Load>
__device__ uint32_t sample_of(const Sample &a, uint64_t *entries, Load load) {
    __shared__ double shared[SAMPLE_THREADS / 32];
    __shared__ alignas(16) uint64_t best_entries[SAMPLE_THREADS / 32];
    __shared__ alignas(16) uint32_t counts[BINS];
    __shared__ uint32_t chosen, few;
    const Speaker &speaker = *a.speaker;
    const Choosing choosing = a.group == 0 ? speaker.talker : speaker.predictor;
    const uint32_t thread = threadIdx.x, frame = speaker.frame;
    const bool may_end = speaker.may_end && frame >= 2;
    // A thread has neighbours, in order.
    const uint32_t each = (a.count + SAMPLE_THREADS - 1) / SAMPLE_THREADS, first = thread * each;

    const double drawn = choosing.do_sample ? uniform(speaker, a.group) : 0.0;
    counts[thread] = 0;
    float given[EACH];
    load(first, each, given);
    bool finite = true;
    float score[EACH];
    uint32_t sorted[EACH];
#pragma unroll
    for (int n = 0; n < EACH; n++) {
        const uint32_t i = first + n;
        finite &= isfinite(given[n]);
        score[n] = n < each && (i < min(a.count, a.suppressed_from) || (i == a.eos && may_end)) ? given[n] : -INFINITY;
    }
    if (a.group == 0) {
#pragma unroll
        for (int n = 0; n < EACH; n++)
            if (score[n] > -INFINITY && speaker.seen[first + n])
                score[n] = score[n] < 0.0f ? score[n] * speaker.repetition_penalty : score[n] / speaker.repetition_penalty;
    }
#pragma unroll
    for (int n = 0; n < EACH; n++) {
        if (choosing.do_sample) score[n] /= choosing.temperature;
        score[n] += 0.0f;  // -0 would sort below 0
        sorted[n] = sortable(score[n]);
    }
    // The best, and of equals the first.
    uint32_t most = 0, place = 0;
#pragma unroll
    for (int n = 0; n < EACH; n++)
        if (n < each && sorted[n] > most) {
            most = sorted[n];
            place = first + n;
        }
    const uint32_t of_warp = __reduce_max_sync(ALL, most);
    const uint32_t earliest = __reduce_min_sync(ALL, most == of_warp ? place : 0xffffffffu);
    if (thread % 32 == 0) best_entries[thread / 32] = (uint64_t)of_warp << 32 | (0xffffffffu - earliest);
    if (!together_and(finite)) return NO_CODE;  // and every warp's is in
    if (thread == 0) chosen = few = 0;
    uint64_t best_entry = 0;
#pragma unroll
    for (const uint64_t &entry : best_entries) best_entry = max(best_entry, entry);
    const float best = score_of(best_entry >> 32);
    if (!choosing.do_sample) return 0xffffffffu - (uint32_t)best_entry;

    // Top-k: what ties the k-th stays.
    const bool all = choosing.top_k == 0 || choosing.top_k >= a.count;
    uint32_t cut = 0;
    if (!all) {
        uint32_t bins[EACH];
#pragma unroll
        for (int n = 0; n < EACH; n++) {
            bins[n] = n < each ? bin_of(best - score[n]) : BINS;
            if (bins[n] < BINS) atomicAdd(&counts[bins[n]], 1);
        }
        together();  // all are counted
        cut = cut_of(sorted, bins, counts, few, choosing.top_k, best_entry >> 32);
    }
    float mine[EACH];
#pragma unroll
    for (int n = 0; n < EACH; n++) mine[n] = n < each && sorted[n] >= cut ? expf(score[n] - best) : 0.0f;  // of -inf it is 0
    if (choosing.top_p < 1.0f) keep_top_p(mine, sorted, each, choosing.top_p, shared, entries);

    // The draw: the first index whose sum exceeds u times the total.
    double sum = 0.0;
#pragma unroll
    for (int n = 0; n < EACH; n++) sum += mine[n];
    double whole;
    const double up_to = sum_so_far(sum, shared, whole);
    const double target = drawn * whole;
    double lower = up_to - sum;
    // The last index that begins at or below the target, of those that have a weight. Sums in different threads may differ
    // in the last bit, so two neighbours may both claim it, or none; the greatest claim that begins below is one choice.
#pragma unroll
    for (int n = 0; n < EACH; n++) {
        if (mine[n] > 0.0f && lower <= target) atomicMax(&chosen, first + n);
        lower += mine[n];
    }
    together();  // the choice is made
    return chosen;
}

// What is chosen, alike in every thread; NO_CODE where a score is not finite. Nothing is noted. `load` as above: the first score
// of a thread, how many it has, and where to; `entries` has room for SAMPLE_SCORES_MAX.
template <class Load>
__device__ __forceinline__ uint32_t sample(const Sample &a, uint64_t *entries, Load load) {
    constexpr int MOST = SAMPLE_SCORES_MAX / SAMPLE_THREADS;
    return a.count <= MOST / 2 * SAMPLE_THREADS ? sample_of<MOST / 2>(a, entries, load) : sample_of<MOST>(a, entries, load);
}

// Scores that an earlier launch made.
template <int EACH>
__device__ __forceinline__ void load_scores(const Sample &a, uint32_t first, uint32_t each, float (&given)[EACH]) {
    if (each % 4 == 0 && first + each <= a.count) {
#pragma unroll
        for (int n = 0; n < EACH; n += 4) {
            const float4 four = n < each ? *(const float4 *)(a.scores + first + n) : make_float4(0, 0, 0, 0);
            given[n] = four.x, given[n + 1] = four.y, given[n + 2] = four.z, given[n + 3] = four.w;
        }
    } else {
#pragma unroll
        for (int n = 0; n < EACH; n++) given[n] = n < each && first + n < a.count ? a.scores[first + n] : 0.0f;
    }
}

// Notes a choice. Nothing can be chosen of scores that are not finite: code 0 is one that every table has.
__device__ __forceinline__ uint32_t choose(Speaker &speaker, uint32_t group, uint32_t code) {
    if (code == NO_CODE) {
        if (!speaker.fault) speaker.fault = 1 + group;
        code = 0;
    }
    const uint32_t forced = speaker.forced[group], fed = forced == NO_CODE ? code : forced;
    speaker.chosen[group] = code;
    speaker.codes[group] = fed;
    return fed;
}

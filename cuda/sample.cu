// From scores to a code, in one block: penalty, suppression, temperature, top-k, top-p, draw, or the best.
//
// The scores are sorted whole, so that both cuts are places in one order. Probabilities are not divided by their sum: the
// draw is scaled instead, in f64. Choices equal the reference's but for draws within rounding of an edge.
#include "common.cuh"

// ---- kernels ----

constexpr int EACH = SAMPLE_SCORES_MAX / SAMPLE_THREADS;  // neighbours that a thread sums by itself

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

// A score and its index as one number that sorts as they do: by score, then by index. The index is below 4096.
__device__ __forceinline__ uint64_t sortable(float score, uint32_t index) {
    const uint32_t bits = __float_as_uint(score);
    const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)ordered << 32 | index;
}

__device__ __forceinline__ float score_of(uint64_t entry) {
    const uint32_t ordered = (uint32_t)(entry >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

// Bitonic, the greatest first.
__device__ void sort(uint64_t *entries, uint32_t size) {
    for (uint32_t run = 2; run <= size; run *= 2)
        for (uint32_t far = run / 2; far > 0; far /= 2) {
            __syncthreads();  // the round before is done
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
    __syncthreads();  // the order is there
}

// The sums of all threads' values up to and with each thread's own; the last thread's is the total. In f64, and in one order.
__device__ double sum_so_far(double mine, double *shared) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    double sum = mine;
#pragma unroll
    for (int near = 1; near < 32; near *= 2) {
        const double other = __shfl_up_sync(ALL, sum, near);
        if (lane >= near) sum += other;
    }
    __syncthreads();  // `shared` is free
    if (lane == 31) shared[warp] = sum;
    __syncthreads();  // every warp's sum is there
    double before = 0.0;
    for (uint32_t w = 0; w < warp; w++) before += shared[w];
    return before + sum;
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

__device__ void choose(Speaker &speaker, uint32_t group, uint32_t code) {
    const uint32_t forced = speaker.forced[group], fed = forced == NO_CODE ? code : forced;
    speaker.chosen[group] = code;
    speaker.codes[group] = fed;
    if (group == 0) speaker.seen[fed] = 1;
}

// ---- entry points ----

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS) sample(const __grid_constant__ Sample a) {
    __shared__ uint64_t entries[SAMPLE_SCORES_MAX];
    __shared__ double shared[32], whole;
    __shared__ uint32_t chosen;
    Speaker &speaker = *a.speaker;
    const Choosing choosing = a.group == 0 ? speaker.talker : speaker.predictor;
    const uint32_t thread = threadIdx.x, frame = speaker.frame;
    const bool may_end = speaker.may_end && frame >= 2;
    uint32_t size = 2;
    while (size < a.count) size *= 2;

    bool finite = true;
    for (uint32_t i = thread; i < size; i += SAMPLE_THREADS) {
        float score = -INFINITY;
        if (i < a.count) finite &= isfinite(a.scores[i]);
        if (i < a.count && (i < a.suppressed_from || (i == a.eos && may_end))) {
            score = a.scores[i];
            if (a.group == 0 && speaker.seen[i])
                score = score < 0.0f ? score * speaker.repetition_penalty : score / speaker.repetition_penalty;
            if (choosing.do_sample) score /= choosing.temperature;
            score += 0.0f;  // -0 would sort below 0
        }
        // Of equal scores the best is the first, so a greedy choice sorts indices downwards.
        entries[i] = sortable(score, choosing.do_sample ? i : SAMPLE_SCORES_MAX - 1 - i);
    }
    if (!__syncthreads_and(finite)) {
        // Nothing can be chosen; code 0 is one that every table has.
        if (thread == 0) {
            if (!speaker.fault) speaker.fault = 1 + a.group;
            choose(speaker, a.group, 0);
        }
        return;
    }
    sort(entries, size);
    if (!choosing.do_sample) {
        if (thread == 0) choose(speaker, a.group, SAMPLE_SCORES_MAX - 1 - (uint32_t)entries[0]);
        return;
    }

    // Top-k: what ties the k-th stays.
    const float best = score_of(entries[0]);
    const float cut = choosing.top_k && choosing.top_k < a.count ? score_of(entries[choosing.top_k - 1]) : -INFINITY;
    float mine[EACH];
    uint32_t index[EACH];
    double sum = 0.0;
    for (int n = 0; n < EACH; n++) {
        const uint32_t place = thread * EACH + n;
        const float score = place < size ? score_of(entries[place]) : -INFINITY;
        index[n] = place < size ? (uint32_t)entries[place] : 0;
        mine[n] = score >= cut ? expf(score - best) : 0.0f;  // of -inf it is 0
        sum += mine[n];
    }
    const double so_far = sum_so_far(sum, shared);
    if (thread == SAMPLE_THREADS - 1) whole = so_far;
    __syncthreads();  // the last thread's sum is the total
    const double total = whole;
    // Every entry has been read: their place now holds the weights by index, 0 where cut.
    float *weights = (float *)entries;
    for (uint32_t i = thread; i < size; i += SAMPLE_THREADS) weights[i] = 0.0f;
    __syncthreads();  // all are 0
    // Top-p: from the least on, those go that together have at most 1 - top_p; the best always stays. Seen from the top,
    // a place stays while it and all behind it have more than that.
    double before = so_far - sum;
    for (int n = 0; n < EACH; n++) {
        const uint32_t place = thread * EACH + n;
        const bool stays = place == 0 || choosing.top_p >= 1.0f || (float)((total - before) / total) > 1.0f - choosing.top_p;
        if (mine[n] > 0.0f && stays) weights[index[n]] = mine[n];
        before += mine[n];
    }
    __syncthreads();  // the weights are there

    // The draw: the first index whose sum exceeds u times the total.
    sum = 0.0;
    for (int n = 0; n < EACH; n++) {
        const uint32_t i = thread * EACH + n;
        mine[n] = i < size ? weights[i] : 0.0f;
        sum += mine[n];
    }
    const double up_to = sum_so_far(sum, shared);
    if (thread == SAMPLE_THREADS - 1) whole = up_to;
    if (thread == 0) chosen = 0;
    __syncthreads();  // the last thread's sum is the total
    const double target = uniform(speaker, a.group) * whole;
    double lower = up_to - sum;
    // The last index that begins at or below the target, of those that have a weight. Sums in different threads may differ
    // in the last bit, so two neighbours may both claim it, or none; the greatest claim that begins below is one choice.
    for (int n = 0; n < EACH; n++) {
        const uint32_t i = thread * EACH + n;
        if (mine[n] > 0.0f && lower <= target) atomicMax(&chosen, i);
        lower += mine[n];
    }
    __syncthreads();  // the choice is made
    if (thread == 0) choose(speaker, a.group, chosen);
}

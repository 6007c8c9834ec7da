// A choice as a launch of its own, in one block.
#include "sample.cuh"

// ---- entry points ----

extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS) sample_code(const __grid_constant__ Sample a) {
    __shared__ uint64_t entries[SAMPLE_SCORES_MAX];
    after_the_last();
    const uint32_t code = sample(a, entries, [&](uint32_t first, uint32_t each, auto &given) { load_scores(a, first, each, given); });
    if (threadIdx.x != 0) return;
    const uint32_t fed = choose(*a.speaker, a.group, code);
    if (a.group == 0) a.speaker->seen[fed] = 1;
}

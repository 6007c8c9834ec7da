// Codes to the latent's two halves: group 0's codebook row, and the sum of the other groups'. Projections are linear's.
#include "common.cuh"

// ---- entry points ----

// A block has some columns of a frame. Divides and sums as the reference does, in order of group: the same bits.
extern "C" __global__ void rvq(const __grid_constant__ Rvq a) {
    const uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    after_the_last();
    if (column >= a.width) return;
    float rest = 0.0f;
    for (uint32_t g = 0; g < ROW_GROUPS; g++) {
        const uint32_t code = a.codes[(size_t)frame * ROW_GROUPS + g];
        const float usage = a.usages[g][code];
        // Not fmaxf: NaN must stay NaN, so that it is found.
        const float row = stored_number(a.sums[g], a.stored[g], (size_t)code * a.width + column) / (usage < 1e-5f ? 1e-5f : usage);
        if (g == 0)
            a.y[(size_t)frame * 2 * a.width + column] = row;
        else
            rest += row;
    }
    a.y[((size_t)frame * 2 + 1) * a.width + column] = rest;
}

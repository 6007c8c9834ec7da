// Embeddings of codes: one row of each group's table, summed in order of group. With one group it is a look-up.
#include "common.cuh"

// ---- entry points ----

// A block has some columns of a frame. Sums as the reference does, one rounding after another: the same bits.
extern "C" __global__ void embed(const __grid_constant__ Embed a) {
    const uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    if (column >= a.width) return;
    const uint32_t *codes = a.codes + (size_t)frame * a.groups;
    float sum = stored_number(a.tables[0], a.stored[0], (size_t)codes[0] * a.width + column);
    for (uint32_t g = 1; g < a.groups; g++)
        sum += stored_number(a.tables[g], a.stored[g], (size_t)codes[g] * a.width + column);
    const size_t at = (size_t)frame * a.width + column;
    a.y[at] = a.vector ? sum + a.vector[at] : sum;
}

// Embeddings of codes: one row of each group's table, summed in order of group. With one group it is a look-up.
#include "common.cuh"

// ---- entry points ----

// A block has some columns of a frame. Sums as the reference does, one rounding after another: the same bits.
extern "C" __global__ void embed(const __grid_constant__ Embed a) {
    const uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, frame = blockIdx.y;
    after_the_last();
    if (column >= a.width) return;
    const uint32_t *codes = a.codes + (size_t)frame * a.groups;
    const size_t at = (size_t)frame * a.width + column;
    bool any = false;
    float sum = 0.0f;
    for (uint32_t g = 0; g < a.groups; g++) {
        if (codes[g] == NO_CODE) continue;
        const float row = stored_number(a.tables[g], a.stored[g], (size_t)codes[g] * a.width + column);
        sum = any ? sum + row : row;
        any = true;
    }
    if (a.vector) sum = any ? sum + a.vector[at] : a.vector[at];
    a.y[at] = sum;
}

// What an utterance carries from frame to frame: told by the host before a step, counted and shown to it after.
#include "common.cuh"

// ---- entry points ----

// One block.
extern "C" __global__ void enter(const __grid_constant__ Enter a) {
    Speaker &speaker = *a.speaker;
    const uint32_t thread = threadIdx.x;
    after_the_last();
    if (thread == 0) {
        speaker.may_end = a.may_end;
        speaker.fault = 0;
    }
    if (thread < ROW_GROUPS) {
        speaker.forced[thread] = a.forced[thread];
        if (a.set_codes) speaker.codes[thread] = a.codes[thread];
    }
    // Read from the host's memory, over the bus, once.
    if (a.text_from)
        for (uint32_t i = thread; i < a.width; i += blockDim.x) a.text_to[i] = a.text_from[i];
}

// One warp.
extern "C" __global__ void leave(const __grid_constant__ Leave a) {
    Speaker &speaker = *a.speaker;
    const uint32_t thread = threadIdx.x;
    after_the_last();
    if (a.report && thread < ROW_GROUPS) a.report[thread] = speaker.chosen[thread];
    if (thread != 0) return;
    if (a.report) a.report[ROW_GROUPS] = speaker.fault;
    speaker.position += a.positions;
    speaker.frame += a.frames;
}

// One thread.
extern "C" __global__ void put_page(const __grid_constant__ PutPage a) {
    after_the_last();
    a.speaker->pages[a.index] = a.page;
}

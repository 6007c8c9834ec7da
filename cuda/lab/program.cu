// Times the program kernel on a predictor's and a talker's list, with stamps.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>
#include <algorithm>
#include <string>
__device__ unsigned long long lab_trace[2][4096][8];
__device__ int lab_on;
#define STAMP(k) do { if (threadIdx.x == 0 && lab_on && (blockIdx.x == 0 || blockIdx.x == 100)) lab_trace[blockIdx.x != 0][lab_op][k] = clock64(); } while (0)
#define LAB 1
#include "program.cu"
#include <cuda_runtime.h>
#define CK(x) do { cudaError_t e = (x); if (e) { printf("%s: %s\n", #x, cudaGetErrorString(e)); exit(1); } } while (0)
static char *alloc(size_t n, int fill = 0) { char *p; CK(cudaMalloc(&p, n)); CK(cudaMemset(p, fill, n)); return p; }
static void *weights(size_t numbers) {
    std::vector<unsigned short> w(numbers);
    static unsigned s = 1; for (auto &x : w) { s = s * 1664525 + 1013904223; x = 0x3c00 | (s >> 9 & 0x807f); }
    void *p = alloc(2 * numbers); CK(cudaMemcpy(p, w.data(), 2 * numbers, cudaMemcpyHostToDevice)); return p;
}
struct Builder {
    std::vector<Op> ops; std::vector<Ahead> ahead; bool waits = false; int grid = 132;
    Op &push(int kind) { Op o; memset(&o, 0, sizeof o); o.kind = kind; o.waits = waits; waits = false; ops.push_back(o); return ops.back(); }
    void linear(void *w, int inputs, int outputs, int rows, int finish, float *norm, int from, float *x, float *y, Attention *parts = nullptr) {
        Op &o = push(OP_LINEAR); Linear &l = o.as.linear.linear;
        l.weight = w; l.x = x; l.y = y; l.base = finish == FINISH_ADD ? y : nullptr; l.inputs = inputs; l.outputs = outputs; l.rows = rows; l.finish = finish; l.norm = norm; l.eps = 1e-6; l.channels = inputs;
        o.as.linear.from = from; if (parts) o.as.linear.parts = *parts;
        uint32_t units = finish == FINISH_GATE ? outputs / 2 : outputs; o.as.linear.each = units / grid; o.as.linear.more = units % grid;
        ahead.push_back({w, (uint32_t)inputs, (uint32_t)(finish == FINISH_GATE), units / grid, units % grid, 0});
    }
};
int main(int argc, char **argv) {
    const int H = 1024, QKV = 4096, Q = 2048, I = 3072, L = 5, TL = 28;
    float *norm = (float *)alloc(4 * 4096), *x = (float *)alloc(4 * 2 * H), *qkv = (float *)alloc(4 * 2 * QKV), *att = (float *)alloc(4 * 2 * Q), *gate = (float *)alloc(4 * 2 * I), *scores = (float *)alloc(4 * 4096), *hidden = (float *)alloc(4 * H);
    { std::vector<float> ones(4096, 1.0f); CK(cudaMemcpy(norm, ones.data(), 4 * 4096, cudaMemcpyHostToDevice)); CK(cudaMemcpy(hidden, ones.data(), 4 * H, cudaMemcpyHostToDevice)); }
    float *turns = (float *)alloc(4 * 128 * 4096);
    uint32_t *positions = (uint32_t *)alloc(4 * 64); { uint32_t p[64]; for (int i = 0; i < 64; i++) p[i] = i; p[40] = 250; CK(cudaMemcpy(positions, p, 256, cudaMemcpyHostToDevice)); }
    Speaker *speaker = (Speaker *)alloc(sizeof(Speaker));
    { Speaker s; memset(&s, 0, sizeof s); s.talker = s.predictor = {1, 50, 0.9f, 1.0f}; s.repetition_penalty = 1.05f; for (auto &f : s.forced) f = NO_CODE; s.seed = 5; CK(cudaMemcpy(speaker, &s, sizeof s, cudaMemcpyHostToDevice)); }
    Meeting *meeting = (Meeting *)alloc(sizeof(Meeting));
    void *table = weights((size_t)2048 * H);
    struct Layer { void *qkv, *o, *gu, *down; };
    auto make = [&](int n) { std::vector<Layer> l; for (int i = 0; i < n; i++) l.push_back({weights((size_t)QKV * H), weights((size_t)H * Q), weights((size_t)2 * I * H), weights((size_t)H * I)}); return l; };
    auto layers = make(L), tlayers = make(TL);
    std::vector<void *> heads; for (int i = 0; i < 15; i++) heads.push_back(weights((size_t)2048 * H));
    void *thead = weights((size_t)3072 * H);
    float *kv = (float *)alloc((size_t)L * 2 * 16 * 1024 * 4);
    float *parts = (float *)alloc((size_t)16 * 16 * 130 * 4 * 2);
    std::vector<uint64_t> pages; for (int i = 0; i < 512; i++) pages.push_back(0);
    for (int i = 0; i < 5; i++) pages[i] = (uint64_t)alloc((size_t)TL * 2 * 64 * 1024 * 2);
    CK(cudaMemcpy(speaker->pages, pages.data(), 8 * 512, cudaMemcpyHostToDevice));
    auto stack = [&](Builder &b, std::vector<Layer> &ls, int rows, float *x, bool talker, uint32_t *position) {
        int from = FROM_STAGED; int i = 0;
        for (auto &l : ls) {
            b.linear(l.qkv, H, QKV, rows, FINISH_STORE, norm, from, x, qkv); b.waits = true;
            Op &o = b.push(OP_ATTEND); Attend &a = o.as.attend; Store s; memset(&s, 0, sizeof s);
            if (talker) { s.pages = speaker->pages; s.keys_at = (uint64_t)2 * i * 64 * 2048; s.values_at = s.keys_at + 64 * 2048; s.capacity = 64; }
            else { s.keys = kv + (size_t)i * 2 * 16 * 1024; s.values = kv + (size_t)(i * 2 + 1) * 16 * 1024; s.capacity = 16; }
            a.append = {qkv, norm, norm, turns, position, s, 1e-6f, (uint32_t)rows, 16, 8, 128};
            a.attention = {qkv, position, s, att, talker ? parts : nullptr, 16, 8, 128, 0, talker ? 16u : 1u, 0}; Attention at = a.attention; b.waits = true;
            b.linear(l.o, Q, H, rows, FINISH_ADD, nullptr, talker ? FROM_PARTS : FROM_ROWS, att, x, talker ? &at : nullptr); b.waits = true;
            b.linear(l.gu, H, 2 * I, rows, FINISH_GATE, norm, FROM_ROWS, x, gate); b.waits = true;
            b.linear(l.down, I, H, rows, FINISH_ADD, nullptr, FROM_ROWS, gate, x); b.waits = true;
            from = FROM_ROWS; i++;
        }
    };
    auto embed = [&](Builder &b, int groups, void *t, float *vector, float *y, int row, uint32_t *codes = nullptr) {
        Op &o = b.push(OP_EMBED); Embed &e = o.as.embed.embed; for (int g = 0; g < groups; g++) e.tables[g] = t; e.vector = vector; e.y = y; e.groups = groups; e.width = H; e.codes = codes; o.as.embed.row = row;
    };
    Builder p;
    { Op &o = p.push(OP_SAMPLE); o.as.sample = {scores, speaker, 3072, 0, 2048, 2150}; }
    embed(p, 0, nullptr, hidden, x, 0);
    for (int g = 1; g < 16; g++) {
        embed(p, 1, table, nullptr, g == 1 ? x + H : x, g == 1);
        stack(p, layers, g == 1 ? 2 : 1, x, false, positions + (g == 1 ? 0 : g));
        p.linear(heads[g - 1], H, 2048, 1, FINISH_STORE, norm, FROM_ROWS, g == 1 ? x + H : x, scores); p.waits = true;
        Op &o = p.push(OP_SAMPLE); o.as.sample = {scores, speaker, 2048, (uint32_t)g, 2048, 0};
    }
    Builder t;
    embed(t, 16, table, hidden, x, 0, positions + 48);
    stack(t, tlayers, 1, x, true, positions + 40);
    { Op &o = t.push(OP_NORM); o.as.norm = {x, norm, hidden, 1e-6f, (uint32_t)H}; }
    t.linear(thead, H, 3072, 1, FINISH_STORE, nullptr, FROM_STAGED, hidden, scores);
    cudaDeviceProp prop; CK(cudaGetDeviceProperties(&prop, 0));
    const int slots = LAB_SLOTS; int bytes = slots * WARPS * CHUNK + 4 * PROGRAM_WORK;
    auto kp = LAB_P; auto kt = LAB_T;
    CK(cudaFuncSetAttribute(kp, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)); CK(cudaFuncSetAttribute(kt, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    for (int which = 0; which < 2; which++) {
        Builder &b = which ? t : p;
        Op *ops = (Op *)alloc(b.ops.size() * sizeof(Op)); CK(cudaMemcpy(ops, b.ops.data(), b.ops.size() * sizeof(Op), cudaMemcpyHostToDevice));
        Ahead *ahead = (Ahead *)alloc(b.ahead.size() * sizeof(Ahead)); CK(cudaMemcpy(ahead, b.ahead.data(), b.ahead.size() * sizeof(Ahead), cudaMemcpyHostToDevice));
        Program prog = {ops, ahead, meeting, speaker, (uint32_t)b.ops.size(), (uint32_t)b.ahead.size(), 2000000};
        void *args[] = {&prog};
        cudaEvent_t e0, e1; cudaEventCreate(&e0); cudaEventCreate(&e1);
        std::vector<float> ms;
        auto launch = [&] { CK(cudaLaunchCooperativeKernel(which ? (void *)kt : (void *)kp, prop.multiProcessorCount, PROGRAM_THREADS, args, bytes, 0)); };
        int on = 0; CK(cudaMemcpyToSymbol(lab_on, &on, 4));
        for (int i = 0; i < 60; i++) { cudaEventRecord(e0); launch(); cudaEventRecord(e1); CK(cudaDeviceSynchronize()); float m; cudaEventElapsedTime(&m, e0, e1); ms.push_back(m); }
        std::sort(ms.begin(), ms.end());
        Meeting m; CK(cudaMemcpy(&m, meeting, sizeof m, cudaMemcpyDeviceToHost)); Speaker s; CK(cudaMemcpy(&s, speaker, sizeof s, cudaMemcpyDeviceToHost));
        printf("%s: %d ops, %.3f ms median, least %.3f; stuck %u fault %u codes %u %u\n", which ? "talker" : "predictor", (int)b.ops.size(), ms[30], ms[0], m.stuck, s.fault, s.chosen[1], s.chosen[15]);
        on = 1; CK(cudaMemcpyToSymbol(lab_on, &on, 4)); launch(); CK(cudaDeviceSynchronize());
        static unsigned long long tr[2][4096][8]; CK(cudaMemcpyFromSymbol(tr, lab_trace, sizeof tr));
        struct Sum { double d[6]; int n; }; std::vector<std::pair<std::string, Sum>> sums;
        for (size_t i = 0; i + 1 < b.ops.size(); i++) {
            Op &o = b.ops[i]; std::string name;
            if (o.kind == OP_LINEAR) name = "linear " + std::to_string(o.as.linear.linear.inputs) + "->" + std::to_string(o.as.linear.linear.outputs) + " x" + std::to_string(o.as.linear.linear.rows);
            else name = o.kind == OP_ATTEND ? "attend" : o.kind == OP_EMBED ? "embed" : o.kind == OP_NORM ? "norm" : "sample";
            name += o.waits ? " w" : "";
            auto it = std::find_if(sums.begin(), sums.end(), [&](auto &s) { return s.first == name; });
            if (it == sums.end()) { sums.push_back({name, Sum{}}); it = sums.end() - 1; }
            for (int blk = 0; blk < 2; blk++) {
                auto *q = tr[blk][i]; // 0 top, 1 met, 2 staged, 3 products, 4 finished, 5 end
                it->second.d[0] += q[1] - q[0];
                if (o.kind == OP_LINEAR) { it->second.d[1] += q[2] - q[1]; it->second.d[2] += (double)(long long)(q[3] - q[2]); it->second.d[3] += q[4] - q[3]; it->second.d[4] += q[5] - q[4]; }
                else it->second.d[4] += q[5] - q[1];
                it->second.d[5] += tr[blk][i + 1][0] - q[0];
                it->second.n++;
            }
        }
        printf("%-28s %5s %8s %8s %8s %8s %8s %8s  (cycles)\n", "op", "n", "meet", "stage", "product", "finish", "end", "all");
        for (auto &[name, s] : sums) { printf("%-28s %5d", name.c_str(), s.n / 2); for (double d : s.d) printf(" %8.0f", d / s.n); printf("\n"); }
    }
}

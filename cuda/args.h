/* What each kernel is given, as plain structs in C: nvcc reads this header, and bindgen makes src/cuda/args.rs of it, so that
 * host and device cannot disagree. Pointers are addresses of the device. A kernel takes one struct, by value. What changes
 * from step to step (positions, counters, codes) lies behind a pointer, so that a recorded graph never needs patching. */
#ifndef QWENTTS_ARGS_H
#define QWENTTS_ARGS_H

#include <stdint.h>

/* ---- shared constants ---- */

enum {
    ROW_GROUPS = 16,          /* codes of a frame */
    LINEAR_WARPS = 4,         /* of a block: each has its own outputs */
    LINEAR_ROWS = 8,          /* rows of x that one pass over the weight serves */
    ATTENTION_THREADS = 256,  /* of a block */
    ATTENTION_SPAN_MAX = 2048, /* positions whose scores a block holds */
    ATTENTION_SPAN_MIN = 64,   /* fewer are not shared out */
    HEAD_DIM_MAX = 256,
    SAMPLE_THREADS = 256,     /* of a block */
    SAMPLE_SCORES_MAX = 4096, /* a power of two: it is sorted */
    NO_CODE = 0x7fffffff,
    FAULT_STUCK = 0x7fffffff, /* a speaker's fault: blocks of a program waited for others too long */
    PROGRAM_THREADS = 256,    /* of a block, that compute, */
    PROGRAM_LOADERS = 64,     /* and that load weights for them */
    PROGRAM_ROWS = 2,         /* of x, at most */
    PROGRAM_X = 9344,         /* floats in shared memory that an operation has for its rows of x, */
    PROGRAM_MERGE = 2112,     /* for whole rows, or what warps tell each other of an attention, */
    PROGRAM_SUMS = 3072,      /* and for its outputs' sums, four of every warp */
    PROGRAM_HEAD_DIM_MAX = 128,
    PROGRAM_SPANS = 16,       /* where there is more than one; a power of two: as many lanes join them */
    PROGRAM_SPAN_MIN = 16,    /* fewer positions are not shared out */
    KV_PAGES_MAX = 512,
    PAGE_POSITIONS = 64, /* of keys and values: 5 s of speech */
    CONV_PAST_MAX = 54, /* rows of a tail: 6 taps before the newest, 9 rows apart */
    CONV_TAPS = 7,
    LAST_CHANNELS_MAX = 128, /* of the last convolution */
    LAST_ROWS = 64,          /* of a block of it */
    LAST_THREADS = 4,        /* that share a row */
    KEEP_TAILS_MAX = 40,
    KEEP_WIDTH = 64, /* channels of a block */
    POOL_CHANNELS = 32, /* of a block, whose 32 warps share the rows */
    NEAREST_THREADS = 512,
    NEAREST_WIDTH_MAX = 256, /* of a codebook's row */
};

/* How a table's numbers are stored. */
enum { STORED_BF16 = 0, STORED_F16 = 1, STORED_F32 = 2 };

/* ---- norm.cu ---- */

/* y = x over the root of its mean square, times weight, a row each; y may be x. */
struct RmsNorm {
    const float *x;      /* [rows][width] */
    const float *weight; /* [width] */
    float *y;            /* [rows][width] */
    float eps;
    uint32_t width;
};

/* y = x to mean 0 and variance 1, times weight, plus bias, a row each; y may be x. */
struct LayerNorm {
    const float *x;      /* [rows][width] */
    const float *weight; /* [width] */
    const float *bias;   /* [width] */
    float *y;            /* [rows][width] */
    float eps;
    uint32_t width;
};

/* x += scale * y, scale by column; without scale, x += y. */
struct Add {
    float *x;           /* [count] */
    const float *scale; /* [width], or null */
    const float *y;     /* [count] */
    uint32_t count;
    uint32_t width;
};

/* ---- linear.cu ---- */

/* What becomes of a row's sums s = weight x (+ bias). */
enum {
    FINISH_STORE = 0, /* y = s */
    FINISH_ADD = 1,   /* y = base + s, or base + scale s */
    FINISH_GATE = 2,  /* outputs in pairs (gate, up): y = silu(gate) up, half as wide */
    FINISH_SILU = 3,  /* y = silu(s) */
    FINISH_GELU = 4,  /* y = GELU(s), exact */
    FINISH_RELU = 5,  /* y = max(s, 0) */
    FINISH_TANH = 6,  /* y = tanh(max(s, 0)) */
};

/* y = x + inv_beta * sin(alpha x)^2, by column. */
struct Snake {
    const float *alpha; /* [width], or null: none */
    const float *inv_beta;
};

/* Weight times each row of x. The kernel's name says how weight is stored. */
struct Linear {
    const void *weight; /* [outputs][inputs], at a multiple of 16 bytes */
    const float *bias;  /* [outputs], or null */
    const float *scale; /* [outputs], or null; FINISH_ADD alone */
    const float *x;     /* [rows][inputs], at a multiple of 16 bytes */
    const float *base;  /* [rows][outputs], FINISH_ADD alone: what is added to, may be y */
    float *y;           /* [rows][outputs], as `finish` says; or null, where `activated` is all that is wanted */
    struct Snake snake;
    float *activated;   /* y through the snake, or without one through ELU; or null */
    uint32_t inputs;
    uint32_t outputs;
    uint32_t rows;
    uint32_t finish;
    /* linear alone */
    const float *norm; /* [inputs]: each row of x first over the root of its mean square, times this; or null */
    float eps;         /* of the norm */
    /* gemm alone. With taps it is a causal convolution: row t takes the rows t + tap * dilation of `tail` and of x behind it,
     * inputs are [taps][channels], and x is [rows][channels]. */
    uint32_t channels;
    uint32_t dilation;
    uint32_t past;     /* (taps - 1) * dilation */
    const float *tail; /* [past][channels] */
};

/* ---- attention.cu ---- */

/* How keys and values are stored is in the kernel's name. */

/* Where the keys and values of one layer lie, [positions][kv_heads * head_dim]: in pages of `capacity` positions, so that they
 * grow with the speech, or in one run of `capacity`, where position p lies at p % capacity. */
struct Store {
    void *keys;            /* null with pages */
    void *values;
    const uint64_t *pages; /* the address of each page, or null */
    uint64_t keys_at;      /* bytes of a page before this layer's keys */
    uint64_t values_at;
    uint32_t capacity;
};

/* Norms and turns each head of q and k, and appends k and v to the positions so far. */
struct Append {
    float *qkv;               /* [rows][(heads + 2 * kv_heads) * head_dim]; q stays, normed and turned */
    const float *q_norm;      /* [head_dim], or null: no norm */
    const float *k_norm;      /* [head_dim], or null */
    const float *turns;       /* [positions][head_dim / 2] of (sin, cos) */
    const uint32_t *position; /* of the first row */
    struct Store store;
    float eps;
    uint32_t rows;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
};

/* Causal attention of the newest rows. What a row sees is shared out between `spans` blocks of each query head, by the row's
 * own position; where there is more than one, each leaves its part, and attention_join adds the parts. */
struct Attention {
    const float *qkv; /* as append leaves it */
    const uint32_t *position; /* of the first row */
    struct Store store;
    float *y;                 /* [rows][heads * head_dim] */
    float *parts;             /* [rows][heads][spans][head_dim + 2], or null: one span */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t window; /* positions that a query sees, itself included; 0: all */
    uint32_t spans;
    uint32_t behind; /* positions of this prompt before the first row */
};

/* ---- embed.cu ---- */

/* The sum, in order, of one row of each table, then of a vector. */
struct Embed {
    const void *tables[ROW_GROUPS]; /* [...][width] each */
    uint32_t stored[ROW_GROUPS];
    const uint32_t *codes; /* [frames][groups]: the row of each table, or NO_CODE */
    const float *vector;   /* [frames][width], or null */
    float *y;              /* [frames][width] */
    uint32_t groups;
    uint32_t width;
};

/* ---- speaker.cu ---- */

/* How a code is chosen. */
struct Choosing {
    uint32_t do_sample; /* 0: the best score, the first of equals */
    uint32_t top_k;     /* 0: no limit */
    float temperature;
    float top_p;
};

/* What one utterance carries from frame to frame: each slot has one, and the frame under way works on a copy of it. */
struct Speaker {
    uint64_t pages[KV_PAGES_MAX]; /* of its keys and values, as many as its positions need */
    uint64_t seed;
    uint64_t uniforms;      /* the address of given draws, in their order, or 0: drawn by Philox from seed, frame and group */
    uint32_t position;      /* of the talker's next input */
    uint32_t frame;         /* frames chosen so far */
    uint32_t may_end;       /* eos may be chosen */
    uint32_t fault;         /* 1 + the first group whose scores were not finite */
    uint32_t draws;         /* how many are given */
    uint32_t chosen[ROW_GROUPS]; /* of the newest frame */
    uint32_t codes[ROW_GROUPS];  /* what later groups and the next frame see: the chosen, or the forced */
    uint32_t forced[ROW_GROUPS]; /* or NO_CODE */
    struct Choosing talker;
    struct Choosing predictor;
    float repetition_penalty;
    uint8_t seen[SAMPLE_SCORES_MAX]; /* not 0: a code of group 0 that was chosen before */
};

/* Before a step or a choice: what the host says of it. */
struct Enter {
    struct Speaker *speaker;
    const float *text_from; /* of the host, or null: there is none */
    float *text_to;         /* [width] */
    uint32_t width;
    uint32_t may_end;
    uint32_t set_codes;          /* not 0: these take the place of the last frame's */
    uint32_t codes[ROW_GROUPS];
    uint32_t forced[ROW_GROUPS]; /* or NO_CODE */
};

/* After a prompt's rows or a frame: counts, and what the host reads. */
struct Leave {
    struct Speaker *speaker;
    uint32_t *report; /* of the host: chosen, then the fault; or null */
    uint32_t positions;
    uint32_t frames;
};

/* A new page at the end of a speaker's list. */
struct PutPage {
    struct Speaker *speaker;
    uint64_t page;
    uint32_t index;
};

/* ---- sample.cu ---- */

/* From scores to a code: penalty, suppression, temperature, top-k, top-p, draw. */
struct Sample {
    const float *scores; /* [count] */
    struct Speaker *speaker;
    uint32_t count;
    uint32_t group;
    uint32_t suppressed_from; /* scores from here on are out, but for eos; count: none */
    uint32_t eos;             /* out as well in the first two frames, and where it may not end */
};

/* ---- program.cu ---- */

/* What one operation of a program does: as the launch of the same name. */
enum {
    OP_LINEAR = 0,
    OP_ATTEND = 1, /* append, then attention */
    OP_JOIN = 2,   /* the parts of an attention with spans */
    OP_EMBED = 3,
    OP_NORM = 4,
    OP_SAMPLE = 5,
};

/* Where an operation has its numbers from. */
enum {
    FROM_MEMORY = 0, /* as the launch has them: an earlier launch made them */
    FROM_OTHERS = 1, /* of the exchange, as soon as they are there */
    FROM_STAGED = 2, /* the rows that the operation before it left in every block */
};

struct Attend {
    struct Append append; /* its qkv stays as it is */
    struct Attention attention;
};

/* What it makes goes to the exchange and, but for an attention's, also to where the launch puts it. Of its outputs (of pairs of
 * them, of numbers of a row) every block has `each`, the first `more` blocks one more, block by block. */
struct Op {
    uint32_t kind;
    uint32_t from;
    uint32_t in;  /* of the exchange: the first number that it needs, */
    uint32_t out; /* and the first that it makes */
    uint32_t each;
    uint32_t more;
    uint32_t row; /* OP_EMBED: the staged row that it makes */
    uint32_t unused;
    union {
        struct Linear linear;
        struct Attend attend;
        struct Attention join;
        struct Embed embed;   /* `from` says where the vector is; without codes it is the newest choice's row */
        struct RmsNorm norm;  /* of one row, which stays in every block, too */
        struct Sample sample; /* of a group but the first, noted when all have it */
    } as;
};

/* A weight that a program reads, in order: what every warp loads ahead. */
struct Ahead {
    const void *weight;
    uint32_t inputs;
    uint32_t in_pairs; /* not 0: neighbouring outputs belong together */
    uint32_t each;     /* as Op has them */
    uint32_t more;
};

/* What a program's launches know of each other. */
struct Turn {
    uint32_t launches; /* so far: even ones have the exchange's first half */
    uint32_t left;     /* blocks that have left the newest; none where all have */
    uint32_t stuck;    /* not 0: a wait was too long; nothing runs until the host has cleared all of it */
};

struct Program {
    const struct Op *ops;
    const struct Ahead *ahead;
    struct Turn *turn;
    float *exchange; /* [2][exchange_len]: a launch has one half and empties the other for the next */
    struct Speaker *speaker;
    uint32_t op_count;
    uint32_t ahead_count;
    uint32_t groups;       /* of heads that a block has together, in every attention: heads, or pairs of one key and value head */
    uint32_t exchange_len; /* a multiple of 4 */
    uint32_t patience;     /* looks at a number before a block gives up */
};

/* ---- rvq.cu ---- */

/* A frame's codebook rows, each its sum over its usage: the first group's, and the sum of the rest's. */
struct Rvq {
    const void *sums[ROW_GROUPS];    /* [codes][width] each */
    const float *usages[ROW_GROUPS]; /* [codes] each */
    uint32_t stored[ROW_GROUPS];     /* of the sums */
    const uint32_t *codes;           /* [frames][16] */
    float *y;                        /* [frames][2][width]: the first, then the rest */
    uint32_t width;
};

/* ---- conv.cu ---- */

/* Each channel with its own taps behind its tail, then all channels of a row to mean 0 and variance 1, times norm, plus its
 * bias. */
struct Depthwise {
    const float *weight; /* [CONV_TAPS][channels] */
    const float *bias;   /* [channels] */
    const float *norm;
    const float *norm_bias;
    const float *tail;   /* [CONV_TAPS - 1][channels] */
    const float *x;      /* [rows][channels] */
    float *y;            /* [rows][channels] */
    float eps;
    uint32_t channels;
};

/* The last convolution: all channels to one sample a row, in -1 .. 1. */
struct Last {
    const float *weight; /* [CONV_TAPS][channels] */
    const float *bias;   /* [1] */
    const float *tail;   /* [CONV_TAPS - 1][channels] */
    const float *x;      /* [rows][channels] */
    float *y;            /* [rows] */
    uint32_t rows;
    uint32_t channels;
};

/* A convolution's tail for the next call: the newest rows of what was kept and what is new. */
struct Tail {
    float *tail;    /* [past][channels] */
    const float *x; /* [rows][channels] */
    uint32_t past;
    uint32_t rows;
    uint32_t channels;
};

/* All tails of a codec, and its count of frames. */
struct Keep {
    struct Tail tails[KEEP_TAILS_MAX];
    uint32_t *position;
    uint32_t frames;
};

/* ---- encoder.cu ---- */

/* Some columns of rows, with rows in front and behind that mirror them without repeating the first and the last. */
struct Mirror {
    const float *x;   /* [rows][x_stride], of which `width` columns count */
    const float *add; /* [rows][width], added to them; or null */
    float *y;         /* [edge + rows + edge][y_stride], of which `width` columns are written */
    uint32_t rows;
    uint32_t edge; /* under rows */
    uint32_t width;
    uint32_t x_stride;
    uint32_t y_stride;
};

/* Of each channel over all rows: the mean and the root of the mean square of what is left, 1e-12 at least, weighted by the
 * softmax of its scores over the rows where there are some. */
struct Pool {
    const float *x;      /* [rows][channels] */
    const float *scores; /* [rows][channels], or null: all rows alike */
    float *y;            /* [2][channels]: means, deviations */
    uint32_t rows;
    uint32_t channels;
};

/* y = base + x / (1 + exp(-gate)), gate by column; y may be base or x. */
struct Gate {
    const float *x;    /* [count] */
    const float *gate; /* [width] */
    const float *base; /* [count] */
    float *y;          /* [count] */
    uint32_t count;
    uint32_t width;
};

/* For each frame the nearest rows: of group 0's table to x's first vector; of the other groups' tables, one behind another,
 * to what the rows before have left of its second. */
struct Nearest {
    const float *x;      /* [frames][2][width] */
    const float *tables; /* [ROW_GROUPS][rows][width] */
    uint32_t *codes;     /* [frames][ROW_GROUPS]; NO_CODE where what it is chosen from is not finite */
    uint32_t rows;
    uint32_t width;
};

#endif

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
    ATTENTION_SPAN_MAX = 1024, /* positions whose scores a block holds */
    HEAD_DIM_MAX = 256,
    SAMPLE_THREADS = 1024,
    SAMPLE_SCORES_MAX = 4096, /* a power of two: it is sorted */
    CONV_TAPS_MAX = 7,
    CONV_PAST_MAX = 54,    /* 6 taps before the newest, 9 columns apart */
    CONV_CHAIN = 1024,     /* multiply-adds of a chain, about */
    CONV_WIDE_COLUMNS = 64, /* of a block, and its outputs */
    CONV_WIDE_OUTPUTS = 32,
    CONV_NARROW_COLUMNS = 8,
    CONV_NARROW_OUTPUTS = 64,
    KEEP_COLUMNS_MAX = 128,
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

/* x to mean 0 and variance 1, times weight, plus bias, a row each, in place. */
struct LayerNorm {
    float *x;            /* [rows][width] */
    const float *weight; /* [width] */
    const float *bias;   /* [width] */
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

/* y[t] = weight x[t] (+ bias). The kernel's name says how weight is stored. */
struct Linear {
    const void *weight; /* [outputs][inputs], at a multiple of 16 bytes */
    const float *bias;  /* [outputs], or null */
    const float *x;     /* [rows][inputs], at a multiple of 16 bytes */
    float *y;           /* [rows][outputs] */
    uint32_t inputs;
    uint32_t outputs;
    uint32_t rows;
};

/* x = f(x), or f(x) * y. */
struct Activate {
    float *x;       /* [count] */
    const float *y; /* [count]; silu_mul alone */
    uint32_t count;
};

/* ---- attention.cu ---- */

/* Norms and turns each head of q and k, and appends k and v to the positions so far. */
struct Append {
    float *q;                 /* [rows][heads * head_dim], in place */
    const float *k;           /* [rows][kv_heads * head_dim] */
    const float *v;           /* [rows][kv_heads * head_dim] */
    const float *q_norm;      /* [head_dim], or null: no norm */
    const float *k_norm;      /* [head_dim], or null */
    const float *turns;       /* [positions][head_dim / 2] of (sin, cos) */
    const uint32_t *position; /* of the first row */
    float *keys;              /* [capacity][kv_heads * head_dim]; position p at p % capacity */
    float *values;
    float eps;
    uint32_t rows;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t capacity;
};

/* Causal attention of the newest rows. A block sees `span` positions of one query head; where one block does not see all,
 * it leaves its part, and attention_join adds the parts. */
struct Attention {
    const float *q; /* [rows][heads * head_dim] */
    const float *keys;
    const float *values;
    const uint32_t *position; /* of the first row */
    float *y;                 /* [rows][heads * head_dim] */
    float *parts;             /* [rows][heads][spans][head_dim + 2], or null: one span */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t window;   /* positions that a query sees, itself included; 0: all */
    uint32_t capacity; /* of keys and values, in positions */
    uint32_t span;
    uint32_t spans;
};

/* ---- embed.cu ---- */

/* The sum, in order, of one row of each table, then of a vector. */
struct Embed {
    const void *tables[ROW_GROUPS]; /* [...][width] each */
    uint32_t stored[ROW_GROUPS];
    const uint32_t *codes; /* [frames][groups]: the row of each table */
    const float *vector;   /* [frames][width], or null */
    float *y;              /* [frames][width] */
    uint32_t groups;
    uint32_t width;
};

/* ---- sample.cu ---- */

/* From scores to a code: penalty, suppression, temperature, top-k, top-p, draw. */
struct Sample {
    const float *scores;   /* [count] */
    uint8_t *seen;         /* [count]: not 0 where chosen before, and set by the choice; null: no penalty */
    const uint32_t *frame; /* the number of this frame: codes chosen so far in group 0 */
    const double *uniform; /* the draw in [0, 1); null: by Philox from seed, frame and group */
    uint32_t *chosen;
    uint64_t seed;
    float repetition_penalty;
    float temperature;
    float top_p;
    uint32_t top_k;           /* 0: no limit */
    uint32_t do_sample;       /* 0: the best score, the first of equals */
    uint32_t count;
    uint32_t group;
    uint32_t suppressed_from; /* scores from here on are out, but for eos; count: none */
    uint32_t eos;             /* out as well in the first two frames */
};

/* ---- rvq.cu ---- */

/* A frame's codebook rows, each its sum over its usage: group 0's, and the sum of the others'. */
struct Rvq {
    const void *sums[ROW_GROUPS];    /* [codes][width] each */
    const float *usages[ROW_GROUPS]; /* [codes] each */
    uint32_t stored[ROW_GROUPS];     /* of the sums */
    const uint32_t *codes;           /* [frames][16] */
    float *first;                    /* [frames][width] */
    float *rest;                     /* [frames][width] */
    uint32_t width;
};

/* ---- conv.cu ---- */

/* A causal convolution of x behind its tail. With `rate` r a channel has r neighbouring outputs, which are its r samples for
 * one column: so a transposed convolution of stride r is written, its weight repacked. */
struct Conv {
    const float *weight; /* [outputs][inputs][taps]; depthwise [outputs][taps] */
    const float *bias;   /* [outputs / rate] */
    const float *tail;   /* [inputs][past] */
    const float *x;      /* [inputs][len] */
    float *y;            /* [outputs / rate][len * rate] */
    float *parts;        /* [chains] of y, or null: one chain */
    uint32_t inputs;
    uint32_t outputs;
    uint32_t taps;
    uint32_t dilation;
    uint32_t rate;
    uint32_t past; /* (taps - 1) * dilation */
    uint32_t len;
    uint32_t chain; /* input channels of a chain */
    uint32_t chains;
};

/* The tail for the next call. */
struct Keep {
    float *tail;    /* [channels][past] */
    const float *x; /* [channels][len] */
    uint32_t past;
    uint32_t len;
};

struct Transpose {
    const float *x; /* [rows][columns] */
    float *y;       /* [columns][rows] */
    uint32_t rows;
    uint32_t columns;
};

/* ---- snake.cu ---- */

/* y = x + inv_beta * sin(alpha x)^2; y may be x. */
struct Snake {
    const float *x;        /* [channels][len] */
    const float *alpha;    /* [channels] */
    const float *inv_beta; /* [channels] */
    float *y;
    uint32_t count; /* channels * len */
    uint32_t len;
};

#endif

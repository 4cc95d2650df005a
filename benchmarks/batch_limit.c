/* What the products of a step of 16 replies can reach, with nothing around them: see batch_limit.py.

   batch_limit ROUNDS: lines of a name, the multiply-adds of a thread's round (of `read`, bytes), and its seconds. */

#define _GNU_SOURCE
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    ROWS = 4, VECTORS = 4,             /* of a register tile: tokens, and vectors of 16 channels */
    TILES = 4,                         /* of 16 tokens */
    K = 2048, GROUP = 64, GROUPS = K / GROUP,
    STRIDE = K + 64,                   /* rows of activations are apart in the cache's sets */
    STEP = 4 * 16 * VECTORS,           /* bytes of weights for four inputs */
    BLOCK = K / 4 * STEP,              /* bytes of weights of a tile's channels: they fit into the second-level cache */
    BLOCKS = 1024, HUGE = 1 << 21,
};

static int8_t activations[TILES * ROWS * STRIDE] __attribute__((aligned(64)));
static float scales[TILES * ROWS * GROUPS] __attribute__((aligned(64)));
static int32_t corrections[TILES * ROWS * GROUPS] __attribute__((aligned(64)));

/* How a loop is written: steps of four inputs one after another, and the cache that what comes next is asked into. */
struct loop {
    int steps, hint;
};
static const struct loop MANY_LOADS = {8, _MM_HINT_T1}, MANY_LOADS_L1 = {8, _MM_HINT_T0};
static const struct loop FEW_LOADS = {2, _MM_HINT_T1}, FEW_LOADS_L1 = {2, _MM_HINT_T0};

/* A tile of products, as `kernels/linear_groups.py` makes them; it asks for its share of the next weights. */
static inline __attribute__((always_inline)) void tile(const uint8_t *weights, int index, const uint8_t *next, float *y,
                                                       struct loop loop)
{
    const int8_t *x = activations + index * ROWS * STRIDE;
    const float *scale = scales + index * ROWS * GROUPS;
    const int32_t *correction = corrections + index * ROWS * GROUPS;
    __m512 total[ROWS * VECTORS];
    __m512i acc[ROWS * VECTORS];
#pragma GCC unroll 16
    for (int t = 0; t < ROWS * VECTORS; t++)
        total[t] = _mm512_setzero_ps();
    for (int group = 0; group < GROUPS; group++) {
#pragma GCC unroll 16
        for (int t = 0; t < ROWS * VECTORS; t++)
            acc[t] = _mm512_set1_epi32(correction[t / VECTORS * GROUPS + group]);
#pragma GCC unroll 1
        for (int turn = 0; turn < GROUP / 4 / loop.steps; turn++)
#pragma GCC unroll 8
            for (int step = 0; step < loop.steps; step++) {
                long at = group * (GROUP / 4) + turn * loop.steps + step;
                if (next) {
                    const uint8_t *line = next + index * (BLOCK / TILES) + at * (STEP / TILES);
                    if (loop.hint == _MM_HINT_T0)
                        _mm_prefetch((const char *)line, _MM_HINT_T0);
                    else
                        _mm_prefetch((const char *)line, _MM_HINT_T1);
                }
                __m512i w[VECTORS];
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; j++)
                    w[j] = _mm512_load_si512(weights + at * STEP + j * 64);
#pragma GCC unroll 4
                for (int i = 0; i < ROWS; i++) {
                    __m512i four = _mm512_set1_epi32(*(const int32_t *)(x + i * STRIDE + at * 4));
                    __asm__("" : "+v"(four)); /* one broadcast for all vectors */
#pragma GCC unroll 4
                    for (int j = 0; j < VECTORS; j++)
                        acc[i * VECTORS + j] = _mm512_dpbusd_epi32(acc[i * VECTORS + j], w[j], four);
                }
            }
#pragma GCC unroll 16
        for (int t = 0; t < ROWS * VECTORS; t++)
            total[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[t]),
                                       _mm512_set1_ps(scale[t / VECTORS * GROUPS + group]), total[t]);
    }
#pragma GCC unroll 16
    for (int t = 0; t < ROWS * VECTORS; t++)
        _mm512_store_ps(y + (index * ROWS * VECTORS + t) * 16, total[t]);
}

static void peak(const uint8_t *weights, float *y)
{
    __m512i acc[12], w = _mm512_load_si512(weights), x = _mm512_load_si512(activations);
    for (int t = 0; t < 12; t++)
        acc[t] = _mm512_set1_epi32(t); /* equal ones would be computed once */
    for (long turn = 0; turn < (long)BLOCKS * BLOCK / 64 * TILES * ROWS / 12; turn++) {
        __asm__("" : "+v"(w), "+v"(x));
#pragma GCC unroll 12
        for (int t = 0; t < 12; t++)
            acc[t] = _mm512_dpbusd_epi32(acc[t], w, x);
    }
#pragma GCC unroll 12
    for (int t = 0; t < 12; t++)
        _mm512_store_si512(y + t * 16, acc[t]);
}

static inline __attribute__((always_inline)) void step_of_16(const uint8_t *weights, float *y, bool from_memory,
                                                             bool asking, struct loop loop)
{
    for (int block = 0; block < BLOCKS; block++) {
        const uint8_t *now = weights + (from_memory ? block : block % 2) * (long)BLOCK;
        for (int index = 0; index < TILES; index++)
            tile(now, index, asking ? now + BLOCK : NULL, y, loop);
    }
}

static void cached(const uint8_t *weights, float *y) { step_of_16(weights, y, false, false, MANY_LOADS); }
static void streamed(const uint8_t *weights, float *y) { step_of_16(weights, y, true, true, MANY_LOADS); }
static void unasked(const uint8_t *weights, float *y) { step_of_16(weights, y, true, false, MANY_LOADS); }
static void cached_few(const uint8_t *weights, float *y) { step_of_16(weights, y, false, false, FEW_LOADS); }
static void streamed_few(const uint8_t *weights, float *y) { step_of_16(weights, y, true, true, FEW_LOADS); }
static void streamed_l1(const uint8_t *weights, float *y) { step_of_16(weights, y, true, true, MANY_LOADS_L1); }
static void streamed_few_l1(const uint8_t *weights, float *y) { step_of_16(weights, y, true, true, FEW_LOADS_L1); }

static void read_all(const uint8_t *weights, float *y)
{
    __m512i sum[4] = {0};
    for (long at = 0; at < (long)BLOCKS * BLOCK; at += 256)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            sum[j] = _mm512_xor_si512(sum[j], _mm512_load_si512(weights + at + j * 64));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
        _mm512_store_si512(y + j * 16, sum[j]);
}

static const struct {
    const char *name;
    void (*run)(const uint8_t *, float *);
    bool huge;
    int rows;
} VARIANTS[] = {
    {"peak", peak, true, TILES * ROWS},
    {"cached", cached, true, TILES * ROWS},
    {"streamed", streamed, true, TILES * ROWS},
    {"streamed, 4 KiB pages", streamed, false, TILES * ROWS},
    {"streamed, not asked for", unasked, true, TILES * ROWS},
    {"cached, few loads", cached_few, true, TILES * ROWS},
    {"streamed, few loads", streamed_few, true, TILES * ROWS},
    {"streamed, first level", streamed_l1, true, TILES * ROWS},
    {"both", streamed_few_l1, true, TILES * ROWS},
    {"read", read_all, true, 1},
};

static uint8_t *pages(bool huge)
{
    size_t size = (BLOCKS + 1L) * BLOCK;
    uint8_t *memory = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    memory = (uint8_t *)(((uintptr_t)memory + HUGE - 1) & -(uintptr_t)HUGE);
    madvise(memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(memory, 1, size);
    return memory;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 10;
    memset(activations, 1, sizeof activations);
#pragma omp parallel
    {
        uint8_t *memory[2] = {pages(false), pages(true)};
        float *y = aligned_alloc(64, TILES * ROWS * VECTORS * 16 * sizeof(float));
        for (int round = 0; round < rounds; round++)
            for (size_t v = 0; v < sizeof VARIANTS / sizeof *VARIANTS; v++) {
#pragma omp barrier
                double start = now();
                VARIANTS[v].run(memory[VARIANTS[v].huge], y);
#pragma omp barrier
#pragma omp master
                printf("%s\t%ld\t%.9f\n", VARIANTS[v].name, (long)BLOCKS * BLOCK * VARIANTS[v].rows, now() - start);
            }
    }
    return 0;
}

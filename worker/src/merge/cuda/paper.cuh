/* JRadiEvo's merge, four elements at a time: the steps, numbers and order of operations of `paper.rs`. */

/* As `job.rs` has them: sizes and order must agree. Addresses are where the kernel runs. */
typedef struct {
    u64 model;      /* the source's elements, from the job's first on */
    u64 own;        /* those of its own base, or 0 */
    u64 absent;     /* a byte for every row of the tensor, not 0 where the source has none; or 0 */
    u64 counts;     /* bins of the histogram, u64 each, or 0 */
    u32 model_type;
    u32 own_type;
    u32 drop;       /* elements whose word's upper 24 bits are below it become +0 */
    u32 threshold;  /* magnitude bits below which elements are trimmed */
    float weight;
    float keep;     /* 1 - p */
    u32 key0;
    u32 key1;
    u32 from;       /* magnitude bits at which the histogram begins */
    u32 shift;      /* bits that one of its bins spans */
    u32 bins;
    u32 unused;
} Term;

#define MOST_TERMS 24

typedef struct {
    u64 base;
    u64 out;        /* where the merge goes, or the sum of elected signs */
    u64 first;      /* number of the job's first element within its tensor, a multiple of 4 */
    u64 count;
    u64 columns;    /* elements of a row, at least 1 */
    u32 base_type;
    u32 stored_type; /* the merge is rounded to this type, and the outcome to the next */
    u32 out_type;
    u32 half;       /* not 0: float16 arithmetic */
    u32 terms;
    float scale;
    float tie;
    u32 unused;
    Term term[MOST_TERMS];
} Job;

/* The number of terms is known when the program is compiled, so that all of them stay in registers. */
#ifndef TERMS
#define TERMS 1
#endif

DEVICE float settled(float x, u32 half) { return half ? nearest_half(x) : x; }

/* Numbers drawn last: sources that share a mask share them. */
typedef struct {
    int drawn;
    u32 key0;
    u32 key1;
    Four four;
} Drawn;

/* Steps 1 and 2, in float16 also step 4, of four elements from the job's element `at` on. */
DEVICE void deltas(const Job *job, const Term *term, u64 at, int count, const float base[4], Drawn *drawn, float tau[4]) {
    u32 half = job->half;
    float own[4];
    load_four(term->model, term->model_type, at, count, tau);
    if (term->own) {
        load_four(term->own, term->own_type, at, count, own);
        UNROLL for (int i = 0; i < 4; i++) own[i] = settled(own[i], half);
    } else {
        UNROLL for (int i = 0; i < 4; i++) own[i] = base[i];
    }
    UNROLL for (int i = 0; i < 4; i++) tau[i] = settled(settled(tau[i], half) - own[i], half);
    if (term->drop) {
        if (!drawn->drawn || drawn->key0 != term->key0 || drawn->key1 != term->key1) {
            drawn->four = words_of(job->first + at, term->key0, term->key1);
            drawn->key0 = term->key0;
            drawn->key1 = term->key1;
            drawn->drawn = 1;
        }
        UNROLL for (int i = 0; i < 4; i++) {
            float scaled = half ? nearest_half(tau[i] / term->keep) : tau[i];
            tau[i] = drawn->four.word[i] >> 8 < term->drop ? 0.0f : scaled;
        }
    }
    if (term->absent) {
        const unsigned char *absent = (const unsigned char *)term->absent;
        UNROLL for (int i = 0; i < 4; i++) {
            if (i < count && absent[(job->first + at + i) / job->columns]) tau[i] = 0.0f;
        }
    }
}

/* All terms' τ of four elements; `base` is filled too. */
DEVICE void all_deltas(const Job *job, u64 at, int count, float base[4], float tau[TERMS][4]) {
    Drawn drawn = {0, 0, 0, {{0, 0, 0, 0}}};
    load_four(job->base, job->base_type, at, count, base);
    UNROLL for (int i = 0; i < 4; i++) base[i] = settled(base[i], job->half);
    UNROLL for (int t = 0; t < TERMS; t++) deltas(job, &job->term[t], at, count, base, &drawn, tau[t]);
}

/* Steps 3 and 4 (in float16 step 3 alone) of one element's terms, and the sum of step 5. */
DEVICE float survivors(const Job *job, float tau[TERMS][4], int i) {
    float sum = 0.0f;
    UNROLL for (int t = 0; t < TERMS; t++) {
        const Term *term = &job->term[t];
        float kept = (bits_of(tau[t][i]) & MAGNITUDE) < term->threshold ? 0.0f : tau[t][i];
        tau[t][i] = job->half ? kept : kept / term->keep;
        sum = settled(sum + tau[t][i], job->half);
    }
    return sum;
}

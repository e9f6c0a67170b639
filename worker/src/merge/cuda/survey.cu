/* What has to be known of the whole model before any tensor is merged. */

/* For every term that asks for it, a histogram of the magnitudes that a trim ranks (after steps 1 and 2, in float16 also
 * 4): bin `(bits - from) >> shift` where that is below `bins`. Called once for the upper 16 of the 31 bits, and again for
 * the 15 lower ones of the bin that holds the rank sought. */
KERNEL void histogram(PARAMETER Job job) {
    u64 groups = (job.count + 3) / 4, stride = (u64)gridDim.x * blockDim.x;
    int zeros[TERMS];
    UNROLL for (int t = 0; t < TERMS; t++) zeros[t] = 0;
    for (u64 group = (u64)blockIdx.x * blockDim.x + threadIdx.x; group < groups; group += stride) {
        u64 at = 4 * group;
        int count = job.count - at < 4 ? (int)(job.count - at) : 4;
        float base[4], tau[TERMS][4];
        all_deltas(&job, at, count, base, tau);
        UNROLL for (int t = 0; t < TERMS; t++) {
            const Term *term = &job.term[t];
            UNROLL for (int i = 0; i < 4; i++) {
                u32 bin = ((bits_of(tau[t][i]) & MAGNITUDE) - term->from) >> term->shift;
                if (i >= count || !term->counts || bin >= term->bins) continue;
                /* A mask makes most elements zero: those are counted apart, or all threads would wait for one bin. */
                if (bin == 0) zeros[t]++;
                else atomicAdd((u64 *)term->counts + bin, 1ull);
            }
        }
    }
    UNROLL for (int t = 0; t < TERMS; t++) {
        int sum = warp_sum(zeros[t]);
        if (leads_warp() && sum && job.term[t].counts) atomicAdd((u64 *)job.term[t].counts, (u64)sum);
    }
}

/* Adds the elected signs (step 5, ties counting nothing) to the number at `out`. */
KERNEL void signs(PARAMETER Job job) {
    u64 groups = (job.count + 3) / 4, stride = (u64)gridDim.x * blockDim.x;
    int total = 0;
    for (u64 group = (u64)blockIdx.x * blockDim.x + threadIdx.x; group < groups; group += stride) {
        u64 at = 4 * group;
        int count = job.count - at < 4 ? (int)(job.count - at) : 4;
        float base[4], tau[TERMS][4];
        all_deltas(&job, at, count, base, tau);
        UNROLL for (int i = 0; i < 4; i++) {
            float sum = survivors(&job, tau, i);
            if (i < count) total += (sum > 0.0f) - (sum < 0.0f);
        }
    }
    total = warp_sum(total);
    /* Two's complement: adding a negative number's bits subtracts. */
    if (leads_warp() && total) atomicAdd((u64 *)job.out, (u64)(long long)total);
}

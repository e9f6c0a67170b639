/* Steps 1 to 6 in one pass: base and sources are read once, the merge is written once, rounded. */
KERNEL void merge(PARAMETER Job job) {
    u64 groups = (job.count + 3) / 4, stride = (u64)gridDim.x * blockDim.x;
    for (u64 group = (u64)blockIdx.x * blockDim.x + threadIdx.x; group < groups; group += stride) {
        u64 at = 4 * group;
        int count = job.count - at < 4 ? (int)(job.count - at) : 4;
        float base[4], tau[TERMS][4];
        all_deltas(&job, at, count, base, tau);
        UNROLL for (int i = 0; i < 4; i++) {
            float sum = survivors(&job, tau, i);
            float sign = sum > 0.0f ? 1.0f : sum < 0.0f ? -1.0f : job.tie;
            float total = 0.0f, agreeing = 0.0f;
            UNROLL for (int t = 0; t < TERMS; t++) {
                int agrees = tau[t][i] * sign > 0.0f;
                float share = agrees ? settled(job.term[t].weight * tau[t][i], job.half) : 0.0f;
                total = settled(total + share, job.half);
                agreeing += agrees ? 1.0f : 0.0f;
            }
            float mean = settled(total / agreeing, job.half);
            float moved = settled(base[i] + settled(job.scale * mean, job.half), job.half);
            float chosen = agreeing > 0.0f ? moved : base[i];
            float merged = sum != sum ? sum : chosen;
            if (i < count) store(job.out, job.out_type, at + i, rounded_to(merged, job.stored_type));
        }
    }
}

/* The random field of DARE: Philox4x32-10, the generator and the counters of `field.rs`. */

typedef struct { u32 word[4]; } Four;

DEVICE Four philox(Four counter, u32 key0, u32 key1) {
    UNROLL for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)counter.word[0] * 0xD2511F53u, p1 = (u64)counter.word[2] * 0xCD9E8D57u;
        Four next = {{(u32)(p1 >> 32) ^ counter.word[1] ^ key0, (u32)p1,
                      (u32)(p0 >> 32) ^ counter.word[3] ^ key1, (u32)p0}};
        counter = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* The words of four elements from `first` on, a multiple of 4. */
DEVICE Four words_of(u64 first, u32 key0, u32 key1) {
    u64 number = first / 4;
    Four counter = {{(u32)number, (u32)(number >> 32), 0, 0}};
    return philox(counter, key0, key1);
}

/* Copying runs of elements into rows of a panel; the contract is in kernels.h.
 *
 * Runs are short, so each is copied in whole chunks: what a chunk carries beyond its run is overwritten by the next
 * run. One body per chunk size and number of chunks, so that no run costs a loop or a branch of its own. */

enum { LOOP = 0 }; /* as a number of chunks: as many as the run needs */

static ALWAYS_INLINE void copy_chunk(const int bytes, char *to, const char *from) {
    typedef char chunk16 __attribute__((vector_size(16), aligned(1), may_alias));
    UNROLL for (int i = 0; i < bytes; i += 16) * (chunk16 *)(to + i) = *(const chunk16 *)(from + i);
}

static ALWAYS_INLINE void gather_chunks(const int bytes, const int chunks, ptrdiff_t rows, const ptrdiff_t *row,
                                        ptrdiff_t runs, const ptrdiff_t *run, const ptrdiff_t *length, const REAL *from,
                                        REAL *to, ptrdiff_t ldt) {
    for (ptrdiff_t i = 0; i < rows; i++, to += ldt) {
        const REAL *source = from + row[i];
        REAL *target = to;
        for (ptrdiff_t j = 0; j < runs; j++) {
            const char *in = (const char *)(source + run[j]);
            char *out = (char *)target;
            if (chunks != LOOP) {
                UNROLL for (int k = 0; k < chunks; k++) {
                    if (bytes == VECTOR_BYTES)
                        store((REAL *)out + k * VL, load((const REAL *)in + k * VL));
                    else
                        copy_chunk(bytes, out + k * bytes, in + k * bytes);
                }
            } else {
                for (ptrdiff_t e = 0; e < length[j]; e += VL) store(target + e, load(source + run[j] + e));
            }
            target += length[j];
        }
    }
}

static void gather(ptrdiff_t rows, const ptrdiff_t *row, ptrdiff_t runs, const ptrdiff_t *run, const ptrdiff_t *length,
                   const void *from, void *to, ptrdiff_t ldt) {
    ptrdiff_t longest = 0;
    for (ptrdiff_t j = 0; j < runs; j++) longest = length[j] > longest ? length[j] : longest;
    const ptrdiff_t bytes = longest * (ptrdiff_t)sizeof(REAL);
#define GATHER(BYTES, CHUNKS) gather_chunks(BYTES, CHUNKS, rows, row, runs, run, length, from, to, ldt)
    if (bytes <= 16)
        GATHER(16, 1);
    else if (bytes <= 32)
        GATHER(32, 1);
    else if (bytes <= VECTOR_BYTES)
        GATHER(VECTOR_BYTES, 1);
    else if (bytes <= 2 * VECTOR_BYTES)
        GATHER(VECTOR_BYTES, 2);
    else if (bytes <= 3 * VECTOR_BYTES)
        GATHER(VECTOR_BYTES, 3);
    else
        GATHER(VECTOR_BYTES, LOOP);
#undef GATHER
}

/* A block of a vision tower in bfloat16, on AMX: x + scale_1 * attention(norm(x)), then x + scale_2 * mlp(norm(x)). */
#include "panels.h"
#include "tiles.h"

void attention_bf16(const bf16 *qkv, const float *cosine, const float *sine, bf16 *out, int64_t batch, int64_t tokens,
                    int64_t heads, int64_t size, int threads);

/* Mirrored in inference/tower_kernels.py. The factors of the projections back to the width are LayerScale, or NULL. */
typedef struct {
    matrix in_proj, out_proj, c_fc, c_proj;
    column_terms in_terms, out_terms, fc_terms, proj_terms;
    row_norm ln_1, ln_2;
    int64_t heads;
} tower_block;

/* x and y (batch, tokens, width); angles (tokens, size of a head / 2) or NULL. */
void tower_block_bf16(const tower_block *b, const bf16 *x, const float *cosine, const float *sine, bf16 *y,
                      int64_t batch, int64_t tokens, int threads) {
    const int64_t rows = batch * tokens, width = b->in_proj.columns, wide = b->c_fc.rows;
    const int64_t narrow_bytes = packed_bytes(rows, width), wide_bytes = packed_bytes(rows, wide);
    const int64_t qkv_bytes = round_up(3 * rows * width * sizeof(bf16), 64);
    char *memory = aligned_alloc(64, narrow_bytes + (wide_bytes > qkv_bytes ? wide_bytes : qkv_bytes));
    uint32_t *narrow = (uint32_t *)memory, *hidden = (uint32_t *)(memory + narrow_bytes);
    bf16 *qkv = (bf16 *)hidden; /* done with before `hidden` begins */
#pragma omp parallel num_threads(threads)
    {
        const tile_config before = use_full_tiles();
        void *scratch = aligned_alloc(64, panel_scratch_bytes(rows));
        const packed_rows in = pack_rows(&b->in_proj, x, &b->ln_1, rows, narrow);
        start_product(&b->in_proj, b->in_terms, &in, NULL, qkv, 3 * width, scratch);
        free(scratch);
        restore_tiles(&before);
    }
    attention_bf16(qkv, cosine, sine, y, batch, tokens, b->heads, width / b->heads, threads);
#pragma omp parallel num_threads(threads)
    {
        const tile_config before = use_full_tiles();
        void *scratch = aligned_alloc(64, panel_scratch_bytes(rows));
        packed_rows in = pack_rows(&b->out_proj, y, NULL, rows, narrow);
        start_product(&b->out_proj, b->out_terms, &in, x, y, width, scratch);
#pragma omp barrier
        in = pack_rows(&b->c_fc, y, &b->ln_2, rows, narrow);
        in = gelu_product(&b->c_fc, b->fc_terms, &b->c_proj, &in, hidden, scratch);
        start_product(&b->c_proj, b->proj_terms, &in, y, y, width, scratch);
        free(scratch);
        restore_tiles(&before);
    }
    free(memory);
}

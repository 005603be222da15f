/* AMX tile registers: all eight at their full shape of 16 rows of 64 bytes. */
#ifndef PERCEPTIC_TILES_H
#define PERCEPTIC_TILES_H

#include <immintrin.h>
#include <stdint.h>

enum { TILE_WORDS = 256 }; /* 16 x 16 words of two bfloat16 or one float32 each */

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

static inline tile_config use_full_tiles(void) {
    tile_config before, full = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        full.row_bytes[t] = 64;
        full.rows[t] = 16;
    }
    _tile_storeconfig(&before);
    _tile_loadconfig(&full);
    return before;
}

/* Other libraries in this thread remember their own tile shapes: leave as found. */
static inline void restore_tiles(const tile_config *before) {
    if (before->palette)
        _tile_loadconfig(before);
    else
        _tile_release();
}

#endif

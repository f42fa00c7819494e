/* embbert_unpack as a micro-kernel's pair calls it: `count` weights of `bits` bits in blocks of `block`, or in none if it
 * is 0. */
#include "embbert_low_bits.h"

static inline void unpack_as(int8_t *out, const uint8_t *codes, const uint8_t *multipliers, int32_t bits, int32_t block,
                             int32_t count)
{
    const uint8_t *high = codes + 1024;
    uint8_t small[16]; // with 6 bits a multiplier is at most 4
    for (int32_t i = 0; i < 16; i++) {
        small[i] = multipliers[i] & 0x33;
    }
    switch (bits) {
    case 6:
        embbert_unpack(out, codes, high, small, 1, count, block, 4, 2, -32, 1, 4);
        break;
    case 4:
        embbert_unpack(out, codes, codes, multipliers, 1, count, block, 4, 0, -8, 1, 16);
        break;
    case 3:
        embbert_unpack(out, codes, high, multipliers, 1, count, block, 2, 1, -4, 1, 16);
        break;
    case 2:
        embbert_unpack(out, codes, codes, multipliers, 1, count, block, 2, 0, -2, 1, 16);
        break;
    default:
        embbert_unpack(out, codes, codes, multipliers, 1, count, block, 1, 0, -1, 2, 16);
    }
}

/* The weights of every count that there is room for, with blocks and without, into `out`. */
static inline void unpack_all(int8_t *out, const uint8_t *codes, const uint8_t *multipliers, int32_t bits, int32_t block)
{
    if (block == 16 && bits != 4 && bits != 2) {
        return; // no whole words of a plane
    }
    for (int32_t count = block == 16 ? 16 : 64; count <= 256; count += count) {
        unpack_as(out, codes, multipliers, bits, block, count);
        unpack_as(out + 256, codes + 64, multipliers, bits, 0, count);
        out += 512;
    }
}

/* The stream, version 1, written from docs/stream-v1.md: the draws, the names and the rounding to narrow dtypes.
 *
 *     gcc -std=c17 -O2 -ffp-contract=off program.c -lm
 *
 * A compiler must not contract a product and a sum (-ffp-contract=off) nor use -ffast-math. The numbers of a truncated
 * normal need 410 digits (section 7): law.js and the page beside this file print them as a C struct.
 *
 * This file includes itself: once for float32, once for float64.
 */
#ifndef LAW_DRAWS

#ifndef LAW_H
#define LAW_H
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Words (section 3) */

static void law_philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
    for (int turn = 0; turn < 10; turn++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c[0], p1 = (uint64_t)0xCD9E8D57 * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
}

static void law_words(uint64_t block, uint64_t seed, uint64_t stream, uint32_t words[4]) {
    words[0] = (uint32_t)block;
    words[1] = (uint32_t)(block >> 32);
    words[2] = (uint32_t)stream;
    words[3] = (uint32_t)(stream >> 32);
    law_philox(words, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* What an element draws: 32 bits for float32 and narrower, 64 bits for float64 */
static uint32_t f32_drawn(uint64_t e, uint64_t seed, uint64_t stream) {
    uint32_t words[4];
    law_words(e >> 2, seed, stream, words);
    return words[e & 3];
}

static uint64_t f64_drawn(uint64_t e, uint64_t seed, uint64_t stream) {
    uint32_t words[4];
    law_words(e >> 1, seed, stream, words);
    return words[2 * (e & 1)] | (uint64_t)words[2 * (e & 1) + 1] << 32;
}

/* BLAKE2b (RFC 7693) of 8 bytes, personalized with "bigin-v1", of n bytes, a zero byte, and m bytes */
static uint64_t law_hash(const char *name, size_t n, const char *purpose, size_t m) {
    static const uint64_t IV[8] = {
        0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
        0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
    static const uint8_t SIGMA[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    static const uint8_t MIX[8][4] = {{0, 4, 8, 12}, {1, 5, 9, 13},  {2, 6, 10, 14}, {3, 7, 11, 15},
                                      {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13},  {3, 4, 9, 14}};
    static const int TURNS[4] = {32, 24, 16, 63};
    size_t length = n + 1 + m, at = 0;
    uint64_t h[8];
    memcpy(h, IV, sizeof h);
    h[0] ^= 0x01010008;
    h[6] ^= 0x31762d6e69676962;
    do {
        uint64_t m[16] = {0}, v[16];
        size_t end = length - at > 128 ? at + 128 : length;
        for (size_t i = at; i < end; i++) {
            uint8_t byte = (uint8_t)(i < n ? name[i] : i == n ? 0 : purpose[i - n - 1]);
            m[(i - at) / 8] |= (uint64_t)byte << 8 * ((i - at) % 8);
        }
        at = end;
        memcpy(v, h, sizeof h);
        memcpy(v + 8, IV, sizeof IV);
        v[12] ^= at;
        if (at == length) v[14] = ~v[14];
        for (int turn = 0; turn < 12; turn++)
            for (int i = 0; i < 8; i++)
                for (int half = 0; half < 2; half++) {
                    uint64_t *a = v + MIX[i][0], *b = v + MIX[i][1], *c = v + MIX[i][2], *d = v + MIX[i][3];
                    int right = TURNS[2 * half];
                    *a += *b + m[SIGMA[turn % 10][2 * i + half]];
                    *d = (*d ^ *a) >> right | (*d ^ *a) << (64 - right);
                    *c += *d;
                    right = TURNS[2 * half + 1];
                    *b = (*b ^ *c) >> right | (*b ^ *c) << (64 - right);
                }
        for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    } while (at < length);
    return h[0];
}

/* The stream id of a name and a purpose; 0 for an unnamed tensor */
static uint64_t law_stream_id(const char *name, const char *purpose) {
    return *name || *purpose ? law_hash(name, strlen(name), purpose, strlen(purpose)) : 0;
}

/* Rows by key: a row of a keyed table is the start of the stream whose id is its key, with the table's key in the place
 * of the seed: f32_normal(column, law_table_key(seed, "users"), key, mean, std). A text's key is a hash. */
static uint64_t law_table_key(uint64_t seed, const char *name) { return f64_drawn(0, seed, law_stream_id(name, "keys")); }
static uint64_t law_text_key(const char *text) { return law_hash(text, strlen(text), "", 1); }

/* Rounding to a narrower dtype (section 6), to nearest, ties to even: float16 (11, -24), bfloat16 (8, -133),
 * float8_e4m3fn (4, -9), float8_e5m2 (3, -16) */
static float law_round(float x, int digits, int lowest) {
    int exponent;
    if (x == 0 || isinf(x)) return x;
    frexpf(x, &exponent);
    exponent = exponent - digits > lowest ? exponent - digits : lowest;
    return (float)ldexp(nearbyint(ldexp(x, -exponent)), exponent);
}

/* Coefficients (section 12), the highest power first */

static const float LOG_32[] = {
    -0x1.382e7ap-4f, 0x1.0847e6p-3f, -0x1.0f377ep-3f, 0x1.2271aep-3f, -0x1.54276cp-3f, 0x1.99a3f2p-3f,
    -0x1.000426p-2f, 0x1.555550p-2f, -0x1.fffff8p-2f,
};
static const double LOG_64[] = {
    -0x1.8cfa7d6373591p-6, 0x1.d2da4396ea9cap-5, -0x1.016e637a7b1f6p-4, 0x1.bbf6b0353986ep-5, -0x1.b42259b843c18p-5,
    0x1.dc75ee4d3c594p-5, -0x1.00d2d92056d7fp-4, 0x1.116cfd033eda1p-4, -0x1.2489392bc49d4p-4, 0x1.3b0d306d742ddp-4,
    -0x1.55557365039fdp-4, 0x1.745d5cd84efdfp-4, -0x1.99999af379bf0p-4, 0x1.c71c700bbca1cp-4, -0x1.fffffff061315p-4,
    0x1.24924927b1f80p-3, -0x1.5555555573518p-3, 0x1.9999999994057p-3, -0x1.ffffffffffd4ap-3, 0x1.5555555555571p-2,
    -0x1.0000000000000p-1,
};
static const float SIN_32[] = {
    0x1.4bc256p-13f, -0x1.32ca86p-8f, 0x1.466bbap-4f, -0x1.4abbcep-1f, 0x1.921fb6p+0f,
};
static const double SIN_64[] = {
    -0x1.6c58cc7c2a742p-31, 0x1.e8eec79f6a4cfp-25, -0x1.e3074b42cb847p-19, 0x1.50783485c2de6p-13,
    -0x1.32d2cce62abbep-8, 0x1.466bc6775aad9p-4, -0x1.4abbce625be53p-1, 0x1.921fb54442d18p+0,
};
static const float COS_32[] = {
    0x1.d99f54p-11f, -0x1.55c4eap-6f, 0x1.03c1dap-2f, -0x1.3bd3ccp+0f, 0x1.000000p+0f,
};
static const double COS_64[] = {
    0x1.1e240e92b3f33p-34, -0x1.b6dd53767413bp-28, 0x1.f9d3851e732bcp-22, -0x1.a6d1f29ef91e7p-16,
    0x1.e1f5068919874p-11, -0x1.55d3c7e3cbfecp-6, 0x1.03c1f081b5ac4p-2, -0x1.3bd3cc9be45dep+0, 0x1.0000000000000p+0,
};
static const float CENTRE_32[] = {
    0x1.e65510p-30f, -0x1.09f834p-26f, -0x1.bd7dd6p-25f, 0x1.5476b2p-20f, -0x1.5112f0p-18f, -0x1.2d8960p-15f,
    0x1.215b54p-11f, -0x1.35ffeep-9f, -0x1.09e9d0p-6f, 0x1.5deb10p-1f, 0x1.25e47ap+2f,
};
static const double CENTRE_64[] = {
    -0x1.6f50d99f54adep-71, 0x1.c6eebf49e0bd3p-67, 0x1.36e28ce20092ap-68, -0x1.43822ca7bc806p-60,
    0x1.7025396e13e88p-58, 0x1.4d76b9cf0d1a9p-55, -0x1.02dba7d2b6935p-51, 0x1.c0c50a403e8ddp-51,
    0x1.4150e3e7cb35ap-46, -0x1.512c2c981619ep-43, 0x1.45029c5c67f98p-46, 0x1.0c98aa143ead8p-37,
    -0x1.af22ef9c84c63p-35, -0x1.86ec066fa7d04p-34, 0x1.afcec6e2666f3p-29, -0x1.09a94385e42e7p-26,
    -0x1.1fc54e82c0776p-24, 0x1.55a6c80ebf573p-20, -0x1.4bcaee86137c9p-18, -0x1.2db790569419bp-15,
    0x1.21422adf5dd24p-11, -0x1.35fee3cbde2c8p-9, -0x1.09e91f88fdebcp-6, 0x1.5deb0f5218a74p-1, 0x1.25e47a9d5da59p+2,
};
static const float MIDDLE_32[] = {
    0x1.60f15ep+13f, -0x1.3b60f2p+8f, -0x1.be7b20p+9f, -0x1.354e66p+5f, 0x1.2b7f66p+5f, 0x1.615306p+2f,
    0x1.dfcd10p+0f, 0x1.d35b86p-2f, -0x1.0eb848p-1f, 0x1.584252p+1f,
};
static const double MIDDLE_64[] = {
    0x1.417e296947136p+53, -0x1.4dd429390a931p+50, -0x1.110813f6e693dp+50, 0x1.87df73b3b4686p+47,
    0x1.5a9130346703bp+45, -0x1.983365a10b43ap+43, -0x1.ad2bc77ee6277p+37, 0x1.cd9496337afeap+38,
    -0x1.d6aecbb916bd4p+35, -0x1.a17f74ae978ffp+32, 0x1.9793d38155da7p+31, -0x1.e9dbfd404a761p+27,
    -0x1.6e75f9fb30ca1p+26, 0x1.4a81bee4cb5b8p+24, 0x1.4edd6240c7e8bp+20, -0x1.c478a0dcfe8ffp+19,
    0x1.38a763072e4ecp+13, 0x1.0160c2acf301bp+15, -0x1.bf2084ed3fc38p+9, -0x1.201d2f106f4fcp+10,
    -0x1.0082cad2ea762p+5, 0x1.37a26a7c34255p+5, 0x1.5f71577ed035bp+2, 0x1.ded575f3ff864p+0, 0x1.d367602f2967fp-2,
    -0x1.0eb7eef46b483p-1, 0x1.5842525d0f90bp+1,
};
static const float FAR_32[] = {
    0x1.9ca1ecp+10f, -0x1.3f1b0ap+8f, 0x1.5c1bb6p+5f, -0x1.6718a0p+3f, 0x1.23c7b0p+2f, -0x1.efb4f0p-1f,
    -0x1.ecdbf6p-2f, 0x1.65fb7cp+1f,
};
static const double FAR_64[] = {
    -0x1.d2761f5acd1bbp+62, 0x1.9c5122836d787p+60, 0x1.03f58ded4084ep+49, -0x1.5080dcca269b5p+54,
    0x1.21031e09aa7f8p+48, 0x1.b590386203c1fp+47, -0x1.68dc4c1d05e58p+43, -0x1.6bb84117741b9p+38,
    -0x1.63b2afbfdf6e0p+34, 0x1.509e5d52af850p+33, -0x1.2300a7fcef817p+30, 0x1.fd5c079376b1cp+26,
    -0x1.13d5a8e4fdf24p+24, 0x1.30c24fc6d7304p+21, -0x1.53ef68a86cd04p+18, 0x1.8a35085c424b9p+15,
    -0x1.e0c3b9a09d4c5p+12, 0x1.38b2abff975a6p+10, -0x1.ba2e10bc01b12p+7, 0x1.5f9868ed1970fp+5, -0x1.71301909a1a47p+3,
    0x1.23d3f5b908779p+2, -0x1.ef8bbf2a7938bp-1, -0x1.ecdc20b35bdaap-2, 0x1.65fb7accc6bbap+1,
};

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))
#define LAW_DRAWS

#define F float
#define WORD uint32_t
#define SIGNED int32_t
#define BITS 32
#define UNIT 0x1p-32f
#define STEP_BITS 32
#define STEP_BITS_U 24
#define UNIT_U 0x1p-24f
#define NAME(function) f32_##function
#define TRUNCATED f32_truncated
#define FMA fmaf
#define SQRT sqrtf
#define FREXP frexpf
#define LN2 0x1.62e430p-1f
#define ROOT_HALF 0x1.6a09e6p-1f
#define SHORT(table, x) NAME(horner)(table##_32, COUNT(table##_32), 1, x)
#define LONG(table, x) SHORT(table, x)
#include "law.h"

#define F double
#define WORD uint64_t
#define SIGNED int64_t
#define BITS 64
#define UNIT 0x1p-64
#define STEP_BITS 53
#define STEP_BITS_U 53
#define UNIT_U 0x1p-53
#define NAME(function) f64_##function
#define TRUNCATED f64_truncated
#define FMA fma
#define SQRT sqrt
#define FREXP frexp
#define LN2 0x1.62e42fefa39efp-1
#define ROOT_HALF 0x1.6a09e667f3bcdp-1
#define SHORT(table, x) NAME(horner)(table##_64, COUNT(table##_64), 1, x)
#define LONG(table, x) f64_halves(table##_64, COUNT(table##_64), x)

/* The long polynomials of float64 by halves: even and odd powers */
static double f64_horner(const double *c, int count, int step, double x);
static double f64_halves(const double *c, int count, double x) {
    double s = x * x;
    int odd = count % 2, even = 1 - odd; /* where the powers 1, 3, 5 ... and 0, 2, 4 ... start */
    return fma(x, f64_horner(c + odd, count - odd, 2, s), f64_horner(c + even, count - even, 2, s));
}
#include "law.h"

#undef COUNT
#undef LAW_DRAWS
#endif

#else /* LAW_DRAWS */
typedef struct {
    F mean, std, first, last, p_start, p_step, q_start, q_step, w_unit, d_start, d_step;
    uint64_t anchor;
} TRUNCATED;

static F NAME(horner)(const F *c, int count, int step, F x) { /* every step-th coefficient */
    F v = c[0];
    for (int i = step; i < count; i += step) v = FMA(v, x, c[i]);
    return v;
}

static F NAME(parts)(int power, F f) { /* ln(2^power (1 + f)) */
    F g = f * f, h = FMA(g, LONG(LOG, f), f);
    return FMA((F)power, LN2, h);
}

static F NAME(split)(F x, int *power) {
    F rest = FREXP(x, power);
    if (rest >= ROOT_HALF) return rest;
    *power -= 1;
    return 2 * rest;
}

static F NAME(log)(F x) {
    int power;
    F rest = NAME(split)(x, &power);
    return NAME(parts)(power, rest - 1);
}

static F NAME(log_word)(WORD x) { /* ln((x + 1/2) 2^-BITS) */
    int power;
    F rest = NAME(split)((F)x + (F)0.5, &power);
    power -= BITS;
    return NAME(parts)(power, power == 0 ? ((F)(WORD)~x + (F)0.5) * -UNIT : rest - 1);
}

static void NAME(sincos_word)(WORD x, F *sine, F *cosine) { /* of 2 pi x 2^-BITS */
    int quadrant = (int)((WORD)(x + ((WORD)1 << (BITS - 3))) >> (BITS - 2));
    F y = (F)(SIGNED)(WORD)(x - ((WORD)quadrant << (BITS - 2))) * (4 * UNIT), z = y * y;
    F s = y * SHORT(SIN, z), c = SHORT(COS, z);
    *sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

static F NAME(quantile)(F d, F w) {
    F t = 1 / SQRT(w > 6 ? w : 6);
    F slope = w < 6 ? LONG(CENTRE, w - 3) : w < 32 ? LONG(MIDDLE, t - (F)0.296875) / t : LONG(FAR, t - (F)0.1015625) / t;
    return d * slope;
}

static F NAME(clamp)(F x, F first, F last) { return x < first ? first : x > last ? last : x; }

/* A value before it is rounded to a narrower dtype. The numbers are those of section 5; first and last are of the dtype. */
static F NAME(uniform)(uint64_t e, uint64_t seed, uint64_t stream, F low, F width, F first, F last) {
    F u = (F)(NAME(drawn)(e, seed, stream) >> (BITS - STEP_BITS_U)) * UNIT_U;
    return NAME(clamp)(FMA(u, width, low), first, last);
}

static F NAME(normal)(uint64_t e, uint64_t seed, uint64_t stream, F mean, F std) {
    uint64_t even = e & ~(uint64_t)1;
    F sine, cosine, radius = SQRT(-2 * NAME(log_word)(NAME(drawn)(even, seed, stream)));
    NAME(sincos_word)(NAME(drawn)(even + 1, seed, stream), &sine, &cosine);
    return FMA(radius * (e & 1 ? sine : cosine), std, mean);
}

static F NAME(trunc_normal)(uint64_t e, uint64_t seed, uint64_t stream, const TRUNCATED *n) {
    uint64_t draw = NAME(drawn)(e, seed, stream) >> (BITS - STEP_BITS), last = ((uint64_t)1 << STEP_BITS) - 1;
    F p = FMA((F)draw + (F)0.5, n->p_step, n->p_start);
    F q = FMA((F)(last - draw) + (F)0.5, n->q_step, n->q_start);
    F w = n->w_unit - NAME(log)(p * q);
    F d = FMA((F)(int64_t)(draw - n->anchor), n->d_step, n->d_start);
    return NAME(clamp)(FMA(NAME(quantile)(d, w), n->std, n->mean), n->first, n->last);
}

#undef F
#undef WORD
#undef SIGNED
#undef BITS
#undef UNIT
#undef STEP_BITS
#undef STEP_BITS_U
#undef UNIT_U
#undef NAME
#undef TRUNCATED
#undef FMA
#undef SQRT
#undef FREXP
#undef LN2
#undef ROOT_HALF
#undef SHORT
#undef LONG
#endif

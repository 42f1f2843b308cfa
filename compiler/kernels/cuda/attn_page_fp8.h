/* Part of attn_decode.c, for FP8: a page of e4m3. A row of D bytes is 8 units of UB bytes: a lane holds units t and t+4 of its rows of K, and unit
 * perm(g) of its rows of V, so that all is whole loads again, and elements that rotate together are in one lane. K and V become f16, which is exact,
 * and so do q, up to a power of two, and P, which keeps three bits more than in bf16. */
#define UB (ccc_D / 8)
#define UW (UB / 4)
typedef struct { u32 k[2][8], v[4][4]; } kv_t;
#define MMA mma_f16

INLINE i32 q_at(i32 i) { return UB == 16 ? (i / 2 * 4 + (lane() & 3)) * 16 + i % 2 * 8 : (4 * i + (lane() & 3)) * 8; }
INLINE void unit_load(u32 *to, const char SHARED *p)
{
    if (UB == 16) {
        vu4 x = *(const vu4 SHARED *)p;
        UNROLL for (i32 i = 0; i < UW; i++) to[i] = x[i];
    } else {
        vu2 x = *(const vu2 SHARED *)p;
        UNROLL for (i32 i = 0; i < UW; i++) to[i] = x[i];
    }
}
/* bytes from the start of row r to unit u: pieces are swizzled where a row is 128 bytes */
INLINE i32 unit_at(i32 r, i32 u) { return UB == 16 ? kv_piece_ccc(r, u) : u * UB; }
INLINE void kv_load(kv_t *T, const char SHARED *p)
{
    i32 g = lane() >> 2, t = lane() & 3;
    UNROLL for (i32 j = 0; j < 2; j++) UNROLL for (i32 i = 0; i < 2; i++)
        unit_load(T->k[j] + i * UW, p + (perm(g) + 8 * j) * KV_ROW_B + unit_at(perm(g), 4 * i + t));
    UNROLL for (i32 k = 0; k < 4; k++) unit_load(T->v[k], p + PAGE * KV_ROW_B + (t + 4 * k) * KV_ROW_B + unit_at(t + 4 * k, perm(g)));
}
INLINE void v_zero(kv_t *T, i32 k) { UNROLL for (i32 i = 0; i < UW; i++) T->v[k][i] = 0; }

/* q as f16. A power of two, whose inverse is returned, brings the largest element of the group's heads below 2^15: then f16 holds what is not 2^31
 * times smaller, in all bits of bf16 */
INLINE float q_ready(q_t *Q)
{
    u32 two = 1 << 7;
    UNROLL for (i32 h = 0; h < NQ; h++) UNROLL for (i32 i = 0; i < NK; i++) UNROLL for (i32 k = 0; k < 4; k++) two = max_u16x2(two, Q->r[h][i][k] & 0x7fff7fff);
    i32 up = imin(141 - (redux_max(imax((i32)(two & 0xffff), (i32)(two >> 16))) >> 7), 126); /* the largest has 141 - up, less 127, as its exponent */
    float by = flt((u32)(127 + up) << 23);
    UNROLL for (i32 h = 0; h < NQ; h++) UNROLL for (i32 i = 0; i < NK; i++) UNROLL for (i32 k = 0; k < 4; k++)
        Q->r[h][i][k] = f16_pack(bf16_lo(Q->r[h][i][k]) * by, bf16_hi(Q->r[h][i][k]) * by);
    return flt((u32)(127 - up) << 23);
}
INLINE u32 widen(u32 w, i32 up) { return e4m3_f16((u16)(up ? w >> 16 : w)); } /* the lower or upper two of four */
INLINE void score(float s[2][4], const q_t *Q, const kv_t *T)
{
    float e[2][2][4];
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 c = 0; c < 2; c++) UNROLL for (i32 k = 0; k < 4; k++) e[q][c][k] = 0;
    UNROLL for (i32 w = 0; w < 2 * UW; w++) {
        u32 x[4] = {widen(T->k[0][w], 0), widen(T->k[1][w], 0), widen(T->k[0][w], 1), widen(T->k[1][w], 1)};
        UNROLL for (i32 q = 0; q < NQ; q++) MMA(e[q][w % 2], x, Q->r[q][w / 2][w % 2 * 2], Q->r[q][w / 2][w % 2 * 2 + 1]);
    }
    UNROLL for (i32 q = 0; q < NQ; q++) UNROLL for (i32 k = 0; k < 4; k++) s[q][k] = e[q][0][k] + e[q][1][k];
}
INLINE u32 p_pack(float x, float y) { return f16_pack(x, y); }
/* element e of the V rows of tokens x and y, as a pair */
INLINE u32 v_pair(const kv_t *T, i32 x, i32 y, i32 e)
{
    u32 two = prmt(T->v[x][e / 4], T->v[y][e / 4], e & 2 ? 0x7362 : 0x5140); /* elements e & ~1, then e | 1, of both */
    return e4m3_f16((u16)(e & 1 ? two >> 16 : two));
}
INLINE i32 dim_of(i32 b) { return perm(lane() >> 2) * NE + 8 * b; }

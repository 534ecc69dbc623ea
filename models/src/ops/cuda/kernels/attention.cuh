// Softmax attention that keeps no matrix of probabilities: only the logarithm of each row's sum.
//
// A block takes TILE queries (or, for the gradients of keys and values, TILE keys) of one head of one group of tokens,
// and goes through the tokens of the other side TILE at a time; each of its warps has 16 rows. The forward pass goes
// through the keys twice, first for the sums of the rows: so nothing has to be rescaled. Gradients are added up inside of
// a block, in a fixed order, but for that of the bias.
#pragma once
#include "tile.cuh"

// Single precision takes twice the shared memory.
#if STORED == 0
#define TILE 32
#else
#define TILE 64
#endif
// Rows lie a little further apart than they are long, so that those of a tile are in different banks of memory.
#define LDS (TILE + 8)
// Channels of a head, at most, in tiles.
#define MOST_TILES 8
#define APART (-100.f)

struct Attention {
  // Numbers from one token to the next, of queries and their result, and of keys and values.
  i64 q_stride, kv_stride, out_stride;
  // Tokens of a sample, of a group, and groups of a sample.
  i64 q_tokens, kv_tokens, n, m, groups;
  // Channels of a head, and the number of the first head.
  i64 d, first_head;
  float scale;
};

struct Shared {
  int ld;
  // Four pieces of TILE rows of channels, two matrices of TILE x TILE as stored, two of floats.
  T *rows[4];
  T *p, *ds;
  float *s, *dp;
};
__device__ __forceinline__ Shared shared_of(unsigned char *memory, i64 d) {
  Shared at;
  at.ld = (d + 15) / 16 * 16 + 8;
  T *next = (T *)memory;
  for (int i = 0; i < 4; ++i, next += TILE * at.ld) at.rows[i] = next;
  at.p = next;
  at.ds = at.p + TILE * LDS;
  at.s = (float *)(at.ds + TILE * LDS);
  at.dp = at.s + TILE * LDS;
  return at;
}

// Where token i of the group of this block lies.
__device__ __forceinline__ i64 row_of(i64 tokens, i64 n, i64 groups, const u32 *index, i64 i) {
  i64 sample = blockIdx.z / groups, group = blockIdx.z % groups;
  return sample * tokens + (index ? index[group * n + i] : i);
}

// Takes rows from `first` on; zeros beyond the last and beyond the channels.
__device__ void take(T *to, int ld, const T *from, i64 stride, i64 tokens, i64 n, i64 groups, const u32 *index, i64 first,
                     i64 d, i64 head) {
  int width = ld - 8;
  for (int at = threadIdx.x; at < TILE * width; at += blockDim.x) {
    int i = at / width, j = at % width;
    bool inside = first + i < n && j < d;
    to[i * ld + j] = inside ? from[row_of(tokens, n, groups, index, first + i) * stride + head * d + j] : store<T>(0.f);
  }
}

// 16 rows of `a b^T`, of this warp.
__device__ __forceinline__ void rows_product(float *out, const T *a, const T *b, int ld) {
  int warp = threadIdx.x / 32;
  for (int column = 0; column < TILE; column += 16) {
    Tile c;
    clear(c);
    for (int k = 0; k < ld - 8; k += 16) multiply<false, true>(c, a + warp * 16 * ld + k, ld, b + column * ld + k, ld);
    put(out + warp * 16 * LDS + column, LDS, c);
  }
  __syncwarp();
}

// What the softmax is of.
__device__ __forceinline__ float score(float product, const Attention &g, const u8 *regions, const float *bias, i64 i, i64 j) {
  if (i >= g.n || j >= g.m) return -INFINITY;
  float s = product * g.scale;
  if (bias) s += bias[((g.first_head + blockIdx.y) * g.n + i) * g.m + j];
  if (regions) {
    const u8 *of = regions + blockIdx.z % g.groups * g.n;
    if (of[i] != of[j]) s += APART;
  }
  return s;
}

// Every row is of two lanes, half of it each.
#define ROW (threadIdx.x / 2)
#define FIRST (threadIdx.x % 2 * (TILE / 2))
#define STATISTIC(i) (((i64)blockIdx.z * gridDim.y + blockIdx.y) * g.n + (i))

// Writes a warp's 16 rows of results; `room` is the warp's own.
__device__ void give(T *to, i64 stride, Tile *tiles, float *room, int ld, const Attention &g, i64 tokens, i64 n,
                     const u32 *index, i64 first, float by) {
  i64 head = g.first_head + blockIdx.y;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float *own = room + warp * 16 * LDS;
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) {
    if (t * 16 >= ld - 8) break;
    put(own, LDS, tiles[t]);
    __syncwarp();
    for (int at = lane; at < 256; at += 32) {
      i64 i = first + warp * 16 + at / 16, j = t * 16 + at % 16;
      if (i < n && j < g.d)
        to[row_of(tokens, n, g.groups, index, i) * stride + head * g.d + j] = store<T>(own[at / 16 * LDS + at % 16] * by);
    }
    __syncwarp();
  }
}

KERNEL(attention_forward, (T *out, float *log_sums, const T *q, const T *k, const T *v, const u32 *index,
                           const u8 *regions, const float *bias, Attention g)) {
  SHARED_BYTES(memory);
  Shared at = shared_of(memory, g.d);
  i64 first = (i64)blockIdx.x * TILE, head = g.first_head + blockIdx.y, i = first + ROW;
  int warp = threadIdx.x / 32, ld = at.ld;
  take(at.rows[0], ld, q, g.q_stride, g.q_tokens, g.n, g.groups, index, first, g.d, head);
  float best = -INFINITY, sum = 0;
  for (i64 key = 0; key < g.m; key += TILE) {
    __syncthreads();
    take(at.rows[1], ld, k, g.kv_stride, g.kv_tokens, g.m, g.groups, index, key, g.d, head);
    __syncthreads();
    rows_product(at.s, at.rows[0], at.rows[1], ld);
    for (int j = FIRST; j < FIRST + TILE / 2; ++j) {
      float s = score(at.s[ROW * LDS + j], g, regions, bias, i, key + j);
      if (s == -INFINITY) continue;
      float higher = fmaxf(best, s);
      sum = sum * expf(best - higher) + expf(s - higher);
      best = higher;
    }
  }
  float other_best = __shfl_xor_sync(0xffffffffu, best, 1), other_sum = __shfl_xor_sync(0xffffffffu, sum, 1);
  float higher = fmaxf(best, other_best);
  float all = (sum > 0 ? sum * expf(best - higher) : 0.f) + (other_sum > 0 ? other_sum * expf(other_best - higher) : 0.f);
  float log_sum = higher + logf(all);
  if (threadIdx.x % 2 == 0 && i < g.n) log_sums[STATISTIC(i)] = log_sum;
  Tile result[MOST_TILES];
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) clear(result[t]);
  for (i64 key = 0; key < g.m; key += TILE) {
    __syncthreads();
    take(at.rows[1], ld, k, g.kv_stride, g.kv_tokens, g.m, g.groups, index, key, g.d, head);
    take(at.rows[2], ld, v, g.kv_stride, g.kv_tokens, g.m, g.groups, index, key, g.d, head);
    __syncthreads();
    rows_product(at.s, at.rows[0], at.rows[1], ld);
    for (int j = FIRST; j < FIRST + TILE / 2; ++j) {
      float s = score(at.s[ROW * LDS + j], g, regions, bias, i, key + j);
      at.p[ROW * LDS + j] = store<T>(s == -INFINITY ? 0.f : expf(s - log_sum));
    }
    __syncwarp();
#pragma unroll
    for (int t = 0; t < MOST_TILES; ++t) {
      if (t * 16 >= ld - 8) break;
      for (int x = 0; x < TILE; x += 16)
        multiply<false, false>(result[t], at.p + warp * 16 * LDS + x, LDS, at.rows[2] + x * ld + t * 16, ld);
    }
    __syncwarp();
  }
  give(out, g.out_stride, result, at.s, ld, g, g.q_tokens, g.n, index, first, 1.f);
}

// For each query the product of its result and the result's gradient: what the slope of the softmax takes away.
KERNEL(attention_dots, (float *dots, const T *out, const T *dout, const u32 *index, Attention g)) {
  i64 head = g.first_head + blockIdx.y;
  for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < g.n; i += (i64)gridDim.x * blockDim.x) {
    i64 at = row_of(g.q_tokens, g.n, g.groups, index, i) * g.out_stride + head * g.d;
    float sum = 0;
    for (i64 j = 0; j < g.d; ++j) sum += load(out[at + j]) * load(dout[at + j]);
    dots[STATISTIC(i)] = sum;
  }
}

// Probabilities, and gradients of the scores, of one row's half; `dbias`, if any, gets the latter.
__device__ void slopes(const Shared &at, const Attention &g, const u8 *regions, const float *bias, float *dbias,
                       const float *log_sums, const float *dots, i64 query, i64 key) {
  i64 i = query + ROW;
  float log_sum = i < g.n ? log_sums[STATISTIC(i)] : 0.f, dot = i < g.n ? dots[STATISTIC(i)] : 0.f;
  for (int j = FIRST; j < FIRST + TILE / 2; ++j) {
    float s = score(at.s[ROW * LDS + j], g, regions, bias, i, key + j);
    float p = s == -INFINITY ? 0.f : expf(s - log_sum), ds = p * (at.dp[ROW * LDS + j] - dot);
    at.p[ROW * LDS + j] = store<T>(p);
    at.ds[ROW * LDS + j] = store<T>(ds);
    if (dbias && i < g.n && key + j < g.m)
      atomicAdd(dbias + ((g.first_head + blockIdx.y) * g.n + i) * g.m + key + j, ds);
  }
}

KERNEL(attention_backward_q, (T *dq, float *dbias, const T *q, const T *k, const T *v, const T *dout,
                              const float *log_sums, const float *dots, const u32 *index, const u8 *regions,
                              const float *bias, Attention g)) {
  SHARED_BYTES(memory);
  Shared at = shared_of(memory, g.d);
  i64 first = (i64)blockIdx.x * TILE, head = g.first_head + blockIdx.y;
  int warp = threadIdx.x / 32, ld = at.ld;
  take(at.rows[0], ld, q, g.q_stride, g.q_tokens, g.n, g.groups, index, first, g.d, head);
  take(at.rows[1], ld, dout, g.out_stride, g.q_tokens, g.n, g.groups, index, first, g.d, head);
  Tile result[MOST_TILES];
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) clear(result[t]);
  for (i64 key = 0; key < g.m; key += TILE) {
    __syncthreads();
    take(at.rows[2], ld, k, g.kv_stride, g.kv_tokens, g.m, g.groups, index, key, g.d, head);
    take(at.rows[3], ld, v, g.kv_stride, g.kv_tokens, g.m, g.groups, index, key, g.d, head);
    __syncthreads();
    rows_product(at.s, at.rows[0], at.rows[2], ld);
    rows_product(at.dp, at.rows[1], at.rows[3], ld);
    slopes(at, g, regions, bias, dbias, log_sums, dots, first, key);
    __syncwarp();
#pragma unroll
    for (int t = 0; t < MOST_TILES; ++t) {
      if (t * 16 >= ld - 8) break;
      for (int x = 0; x < TILE; x += 16)
        multiply<false, false>(result[t], at.ds + warp * 16 * LDS + x, LDS, at.rows[2] + x * ld + t * 16, ld);
    }
    __syncwarp();
  }
  give(dq, g.q_stride, result, at.s, ld, g, g.q_tokens, g.n, index, first, g.scale);
}

KERNEL(attention_backward_kv, (T *dk, T *dv, const T *q, const T *k, const T *v, const T *dout, const float *log_sums,
                               const float *dots, const u32 *index, const u8 *regions, const float *bias, Attention g)) {
  SHARED_BYTES(memory);
  Shared at = shared_of(memory, g.d);
  i64 first = (i64)blockIdx.x * TILE, head = g.first_head + blockIdx.y;
  int warp = threadIdx.x / 32, ld = at.ld;
  take(at.rows[2], ld, k, g.kv_stride, g.kv_tokens, g.m, g.groups, index, first, g.d, head);
  take(at.rows[3], ld, v, g.kv_stride, g.kv_tokens, g.m, g.groups, index, first, g.d, head);
  Tile keys[MOST_TILES], values[MOST_TILES];
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) {
    clear(keys[t]);
    clear(values[t]);
  }
  for (i64 query = 0; query < g.n; query += TILE) {
    __syncthreads();
    take(at.rows[0], ld, q, g.q_stride, g.q_tokens, g.n, g.groups, index, query, g.d, head);
    take(at.rows[1], ld, dout, g.out_stride, g.q_tokens, g.n, g.groups, index, query, g.d, head);
    __syncthreads();
    rows_product(at.s, at.rows[0], at.rows[2], ld);
    rows_product(at.dp, at.rows[1], at.rows[3], ld);
    slopes(at, g, regions, bias, nullptr, log_sums, dots, query, first);
    __syncthreads();
#pragma unroll
    for (int t = 0; t < MOST_TILES; ++t) {
      if (t * 16 >= ld - 8) break;
      for (int x = 0; x < TILE; x += 16) {
        multiply<true, false>(values[t], at.p + x * LDS + warp * 16, LDS, at.rows[1] + x * ld + t * 16, ld);
        multiply<true, false>(keys[t], at.ds + x * LDS + warp * 16, LDS, at.rows[0] + x * ld + t * 16, ld);
      }
    }
  }
  __syncthreads();
  give(dk, g.kv_stride, keys, at.s, ld, g, g.kv_tokens, g.m, index, first, g.scale);
  give(dv, g.kv_stride, values, at.s, ld, g, g.kv_tokens, g.m, index, first, 1.f);
}

// The bias of each pair of tokens from the table of offsets, and the table's gradient from theirs.
KERNEL(expand_bias, (float *bias, const float *table, const u32 *entry, i64 heads, i64 pairs)) {
  for EACH(i, heads * pairs) bias[i] = table[entry[i % pairs] * heads + i / pairs];
}
KERNEL(fold_bias, (float *dtable, const float *dbias, const u32 *entry, i64 heads, i64 pairs)) {
  for EACH(i, heads * pairs) atomicAdd(dtable + entry[i % pairs] * heads + i / pairs, dbias[i]);
}

// Softmax attention in single precision.
//
// A block takes TILE queries (or, for the gradients of keys and values, TILE keys) of one head of
// one group of tokens, and goes through the tokens of the other side TILE at a time; each of its
// warps has 16 rows. The forward pass goes through the keys twice, first for the sums of the rows:
// so nothing has to be rescaled. Gradients are added up inside of a block, in a fixed order, but
// for that of the bias.
#pragma once
#include "attention.cuh"
#include "tile.cuh"

#if STORED == 0

// The row stride is a little larger than a row, so that those of a tile are in different
// banks of memory: of numbers as stored, and of floats.
#define LDS (TILE + 8)
#define LDF (TILE + 4)
// Channels of a head, at most, in tiles.
#define MOST_TILES 8

struct Shared {
  int ld;
  // Pieces of TILE rows of channels, up to two matrices of TILE x TILE as stored, up to two of
  // floats.
  T *rows[4];
  T *p, *ds;
  float *s, *dp;
};
// With `pieces` pieces, and so many matrices of each kind.
__device__ __forceinline__ Shared shared_of(unsigned char *memory, i64 d, int pieces, int matrices) {
  Shared at;
  at.ld = (d + 15) / 16 * 16 + 8;
  T *next = (T *)memory;
  for (int i = 0; i < 4; ++i) {
    at.rows[i] = next;
    if (i < pieces) next += TILE * at.ld;
  }
  at.p = next;
  at.ds = at.p + (matrices - 1) * TILE * LDS;
  at.s = (float *)(at.ds + TILE * LDS);
  at.dp = at.s + (matrices - 1) * TILE * LDF;
  return at;
}

// Takes rows from `first` on; zeros beyond the last and beyond the channels.
__device__ __forceinline__ void take(T *to, int ld, const T *from, const Side &side, i64 first) {
  int width = ld - 8;
  if (side.wide(from)) {
    width /= WIDE;
    for (int at = threadIdx.x; at < TILE * width; at += blockDim.x) {
      int i = at / width, j = at % width * WIDE;
      bool inside = first + i < side.n && j < side.d;
      *(uint4 *)(to + i * ld + j) = inside ? *(const uint4 *)(from + side.row(first + i) + j) : make_uint4(0, 0, 0, 0);
    }
    return;
  }
  for (int at = threadIdx.x; at < TILE * width; at += blockDim.x) {
    int i = at / width, j = at % width;
    bool inside = first + i < side.n && j < side.d;
    to[i * ld + j] = inside ? from[side.row(first + i) + j] : store<T>(0.f);
  }
}

// 16 rows of `a b^T`, of this warp.
__device__ __forceinline__ void rows_product(float *out, const T *a, const T *b, int ld, int columns) {
  int warp = threadIdx.x / 32;
  for (int column = 0; column < columns; column += 16) {
    Tile c;
    clear(c);
    for (int k = 0; k < ld - 8; k += 16) multiply<false, true>(c, a + warp * 16 * ld + k, ld, b + column * ld + k, ld);
    put<true>(out + warp * 16 * LDF + column, LDF, c);
  }
  __syncwarp();
}

// Every row is of two lanes, which take turns with its columns.
#define ROW (threadIdx.x / 2)
#define EACH_COLUMN(j, columns) (int j = threadIdx.x % 2; j < (columns); j += 2)
// Writes a warp's 16 rows of results; `room` is scratch memory of this warp.
__device__ __forceinline__ void give(T *to, const Side &side, Tile *tiles, float *room, int ld, i64 first, float by) {
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = lane % 2 * 8;
  float *own = room + warp * 16 * LDF;
  i64 i = first + warp * 16 + lane / 2;
  bool wide = side.wide(to) && side.d % 8 == 0;
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) {
    if (t * 16 >= ld - 8) break;
    put<false>(own, LDF, tiles[t]);
    __syncwarp();
    i64 j = t * 16 + column;
    if (i < side.n && j < side.d) {
      __align__(16) T values[8];
#pragma unroll
      for (int k = 0; k < 8; ++k) values[k] = store<T>(own[lane / 2 * LDF + column + k] * by);
      T *at = to + side.row(i) + j;
      if (wide) {
#pragma unroll
        for (int k = 0; k < 8; k += WIDE) *(uint4 *)(at + k) = *(uint4 *)(values + k);
      } else {
#pragma unroll
        for (int k = 0; k < 8; ++k)
          if (j + k < side.d) at[k] = values[k];
      }
    }
    __syncwarp();
  }
}

KERNEL(attention_forward, (T *out, float *log_sums, const T *q, const T *k, const T *v, const u32 *index,
                           const u8 *regions, const float *bias, Attention g)) {
  SHARED_BYTES(memory);
  Shared at = shared_of(memory, g.d, 3, 1);
  Place place = place_of(g.n, TILE);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side keys = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  i64 i = place.first + ROW;
  int warp = threadIdx.x / 32, ld = at.ld;
  Scores scores = scores_of(g, place, regions, bias, i, 1.f);
  const float *row = at.s + ROW * LDF;
  // A warp without queries only helps to load.
  bool busy = place.first + warp * 16 < g.n;
  take(at.rows[0], ld, q, queries, place.first);
  float best = -INFINITY, sum = 0;
  for (i64 key = 0; key < g.m; key += TILE) {
    __syncthreads();
    take(at.rows[1], ld, k, keys, key);
    __syncthreads();
    if (!busy) continue;
    int columns = columns_of(g.m, key);
    rows_product(at.s, at.rows[0], at.rows[1], ld, columns);
    float higher = best;
    for EACH_COLUMN(j, columns) higher = fmaxf(higher, scores.of(row[j], (int)key + j));
    if (higher > -INFINITY) {
      sum *= expf(best - higher);
      for EACH_COLUMN(j, columns) sum += expf(scores.of(row[j], (int)key + j) - higher);
      best = higher;
    }
  }
  float other_best = __shfl_xor_sync(0xffffffffu, best, 1), other_sum = __shfl_xor_sync(0xffffffffu, sum, 1);
  float higher = fmaxf(best, other_best);
  float all = (best > -INFINITY ? sum * expf(best - higher) : 0.f) +
              (other_best > -INFINITY ? other_sum * expf(other_best - higher) : 0.f);
  float log_sum = higher + logf(all);
  if (threadIdx.x % 2 == 0 && i < g.n) log_sums[STATISTIC(place, i)] = log_sum;
  Tile result[MOST_TILES];
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) clear(result[t]);
  for (i64 key = 0; key < g.m; key += TILE) {
    __syncthreads();
    take(at.rows[1], ld, k, keys, key);
    take(at.rows[2], ld, v, keys, key);
    __syncthreads();
    if (!busy) continue;
    int columns = columns_of(g.m, key);
    rows_product(at.s, at.rows[0], at.rows[1], ld, columns);
    for EACH_COLUMN(j, columns) {
      float s = scores.of(row[j], (int)key + j);
      at.p[ROW * LDS + j] = store<T>(s == -INFINITY ? 0.f : expf(s - log_sum));
    }
    __syncwarp();
#pragma unroll
    for (int t = 0; t < MOST_TILES; ++t) {
      if (t * 16 >= ld - 8) break;
      for (int x = 0; x < columns; x += 16)
        multiply<false, false>(result[t], at.p + warp * 16 * LDS + x, LDS, at.rows[2] + x * ld + t * 16, ld);
    }
    __syncwarp();
  }
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  if (busy) give(out, results, result, at.s, ld, place.first, 1.f);
}

// Probabilities (where `p` is), and gradients of the scores, of one row's half; `dbias`, if any,
// gets the latter.
__device__ __forceinline__ void slopes(const Shared &at, const Attention &g, Place place, const u8 *regions,
                                       const float *bias, float *dbias, const float *log_sums, const float *dots,
                                       i64 query, i64 key, int columns, T *p_rows) {
  i64 i = query + ROW;
  Scores scores = scores_of(g, place, regions, bias, i, 1.f);
  float log_sum = scores.inside ? log_sums[STATISTIC(place, i)] : 0.f, dot = scores.inside ? dots[STATISTIC(place, i)] : 0.f;
  for EACH_COLUMN(j, columns) {
    float s = scores.of(at.s[ROW * LDF + j], (int)key + j);
    float p = s == -INFINITY ? 0.f : expf(s - log_sum), ds = p * (at.dp[ROW * LDF + j] - dot);
    if (p_rows) p_rows[ROW * LDS + j] = store<T>(p);
    at.ds[ROW * LDS + j] = store<T>(ds);
    if (dbias && scores.inside && key + j < g.m)
      atomicAdd(dbias + ((g.first_head + blockIdx.y) * g.n + i) * g.m + key + j, ds);
  }
}

KERNEL(attention_backward_q, (T *dq, float *dbias, const T *q, const T *k, const T *v, const T *dout,
                              const float *log_sums, const float *dots, const u32 *index, const u8 *regions,
                              const float *bias, Attention g)) {
  SHARED_BYTES(memory);
  Shared at = shared_of(memory, g.d, 4, 2);
  Place place = place_of(g.n, TILE);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  Side keys = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32, ld = at.ld;
  bool busy = place.first + warp * 16 < g.n;
  take(at.rows[0], ld, q, queries, place.first);
  take(at.rows[1], ld, dout, results, place.first);
  Tile result[MOST_TILES];
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) clear(result[t]);
  for (i64 key = 0; key < g.m; key += TILE) {
    __syncthreads();
    take(at.rows[2], ld, k, keys, key);
    take(at.rows[3], ld, v, keys, key);
    __syncthreads();
    if (!busy) continue;
    int columns = columns_of(g.m, key);
    rows_product(at.s, at.rows[0], at.rows[2], ld, columns);
    rows_product(at.dp, at.rows[1], at.rows[3], ld, columns);
    slopes(at, g, place, regions, bias, dbias, log_sums, dots, place.first, key, columns, nullptr);
    __syncwarp();
#pragma unroll
    for (int t = 0; t < MOST_TILES; ++t) {
      if (t * 16 >= ld - 8) break;
      for (int x = 0; x < columns; x += 16)
        multiply<false, false>(result[t], at.ds + warp * 16 * LDS + x, LDS, at.rows[2] + x * ld + t * 16, ld);
    }
    __syncwarp();
  }
  if (busy) give(dq, queries, result, at.s, ld, place.first, g.scale);
}

KERNEL(attention_backward_kv, (T *dk, T *dv, const T *q, const T *k, const T *v, const T *dout, const float *log_sums,
                               const float *dots, const u32 *index, const u8 *regions, const float *bias, Attention g)) {
  SHARED_BYTES(memory);
  Shared at = shared_of(memory, g.d, 4, 2);
  Place place = place_of(g.m, TILE);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  Side sources = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32, ld = at.ld, columns = columns_of(g.m, place.first);
  // As a warp of 16 keys; as one of 16 queries, each warp has a part in every round.
  bool busy = place.first + warp * 16 < g.m;
  take(at.rows[2], ld, k, sources, place.first);
  take(at.rows[3], ld, v, sources, place.first);
  Tile keys[MOST_TILES], values[MOST_TILES];
#pragma unroll
  for (int t = 0; t < MOST_TILES; ++t) {
    clear(keys[t]);
    clear(values[t]);
  }
  for (i64 query = 0; query < g.n; query += TILE) {
    __syncthreads();
    take(at.rows[0], ld, q, queries, query);
    take(at.rows[1], ld, dout, results, query);
    __syncthreads();
    int rows = columns_of(g.n, query);
    if (warp * 16 < rows) {
      rows_product(at.s, at.rows[0], at.rows[2], ld, columns);
      rows_product(at.dp, at.rows[1], at.rows[3], ld, columns);
      slopes(at, g, place, regions, bias, nullptr, log_sums, dots, query, place.first, columns, at.p);
    }
    __syncthreads();
    if (!busy) continue;
#pragma unroll
    for (int t = 0; t < MOST_TILES; ++t) {
      if (t * 16 >= ld - 8) break;
      for (int x = 0; x < rows; x += 16) {
        multiply<true, false>(values[t], at.p + x * LDS + warp * 16, LDS, at.rows[1] + x * ld + t * 16, ld);
        multiply<true, false>(keys[t], at.ds + x * LDS + warp * 16, LDS, at.rows[0] + x * ld + t * 16, ld);
      }
    }
  }
  __syncthreads();
  if (!busy) return;
  give(dk, sources, keys, at.s, ld, place.first, g.scale);
  give(dv, sources, values, at.s, ld, place.first, 1.f);
}

#endif

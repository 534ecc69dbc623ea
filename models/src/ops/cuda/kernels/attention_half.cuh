// Softmax attention of activations in half precision, in one pass over the keys: scores and
// probabilities stay in registers.
//
// A block takes TILE queries (or, for the gradients of keys and values, TILE keys) of one head of
// one group of tokens, and goes through the tokens of the other side TILE at a time, while the
// next ones are on their way to shared memory; each of its four warps has 16 rows. Maxima are
// carried along, and sums rescaled where one grows (Dao, FlashAttention-2, 2023). Gradients are
// added up inside of a block, in a fixed order, but for that of the bias.
#pragma once
#include "attention.cuh"
#include "fragment.cuh"

#if STORED != 0

#define ATTENTION_THREADS (2 * TILE)
// The row stride is a little larger than a row, so that rows of a fragment are in different banks.
#define LD (D + 8)
#define LOG2_E 1.44269504f
#define LN_2 0.69314718f

// Begins to take rows from `first` on; zeros beyond the last and beyond the channels.
template <int D> __device__ __forceinline__ void fetch(T *to, const T *from, const Side &side, i64 first) {
  if (side.wide(from)) {
    for (int at = threadIdx.x; at < TILE * (D / 8); at += ATTENTION_THREADS) {
      int i = at / (D / 8), j = at % (D / 8) * 8;
      bool inside = first + i < side.n && j < side.d;
      copy16(to + i * LD + j, inside ? from + side.row(first + i) + j : from, inside);
    }
    return;
  }
  for (int at = threadIdx.x; at < TILE * D; at += ATTENTION_THREADS) {
    int i = at / D, j = at % D;
    bool inside = first + i < side.n && j < side.d;
    to[i * LD + j] = inside ? from[side.row(first + i) + j] : store<T>(0.f);
  }
}

// Writes 16 rows of results, `by[0]` times the first 8 and `by[1]` times the others; `room` is
// memory for them.
template <int D>
__device__ __forceinline__ void give(T *to, const Side &side, const Sums (&sums)[D / 8], T *room, i64 first, const float (&by)[2]) {
  T *low = room + FRAGMENT_ROW * LD + FRAGMENT_COLUMN, *high = low + 8 * LD;
#pragma unroll
  for (int t = 0; t < D / 8; ++t) {
    *(u32 *)(low + t * 8) = two_of(sums[t].x[0] * by[0], sums[t].x[1] * by[0]);
    *(u32 *)(high + t * 8) = two_of(sums[t].x[2] * by[1], sums[t].x[3] * by[1]);
  }
  __syncwarp();
  bool wide = side.wide(to);
  for (int at = threadIdx.x % 32; at < 16 * (D / 8); at += 32) {
    int i = at / (D / 8), j = at % (D / 8) * 8;
    if (first + i >= side.n || j >= side.d) continue;
    T *row = to + side.row(first + i) + j;
    const T *values = room + i * LD + j;
    if (wide) {
      *(uint4 *)row = *(const uint4 *)values;
    } else {
      for (int k = 0; k < 8 && j + k < side.d; ++k) row[k] = values[k];
    }
  }
}

// The left factors of 16 rows.
template <int D> __device__ __forceinline__ void take_rows(Left (&to)[D / 16], const T *rows) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) to[k] = load_left(rows + k * 16, LD);
}

// 16 rows times 16 rows of the other side: their products, in two fragments.
template <int D> __device__ __forceinline__ void products(Sums (&to)[2], const Left (&rows)[D / 16], const T *others) {
  clear(to[0]);
  clear(to[1]);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    Right right = load_right_transposed(others + k * 16, LD);
    multiply(to[0], rows[k], right, 0);
    multiply(to[1], rows[k], right, 1);
  }
}

// `sums += weights rows`, of 16 x 16 weights.
template <int D> __device__ __forceinline__ void accumulate(Sums (&sums)[D / 8], const Left &weights, const T *rows) {
#pragma unroll
  for (int t = 0; t < D / 16; ++t) {
    Right right = load_right(rows + t * 16, LD);
    multiply(sums[2 * t], weights, right, 0);
    multiply(sums[2 * t + 1], weights, right, 1);
  }
}

// Two numbers of each four lanes that have the same rows, as one.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Shared memory of a block: what it keeps, and one or two stages of what it goes through, in pieces
// of TILE rows.
template <int D> struct Pieces {
  T *memory;
  int kept;
  // Two stages if there is more than one round.
  __device__ __forceinline__ T *kept_piece(int i) const { return memory + i * TILE * LD; }
  __device__ __forceinline__ T *piece(int round, int i) const { return kept_piece(kept + round % 2 * 2 + i); }
};

template <int D>
__device__ __forceinline__ void forward_of(T *out, float *log_sums, const T *q, const T *k, const T *v, const u32 *index,
                                           const u8 *regions, const float *bias, const Attention &g, unsigned char *memory) {
  Pieces<D> at = {(T *)memory, 1};
  Place place = place_of(g.n, TILE);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side keys = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32;
  i64 first = place.first + warp * 16, i = first + FRAGMENT_ROW;
  // A warp without queries only helps to load.
  bool busy = first < g.n;
  T *own = at.kept_piece(0) + warp * 16 * LD;
  Scores rows[2] = {scores_of(g, place, regions, bias, i, LOG2_E), scores_of(g, place, regions, bias, i + 8, LOG2_E)};
  fetch<D>(at.kept_piece(0), q, queries, place.first);
  fetch<D>(at.piece(0, 0), k, keys, 0);
  fetch<D>(at.piece(0, 1), v, keys, 0);
  copies_end();
  Left query[D / 16];
  Sums result[D / 8];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) clear(result[t]);
  float best[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  int rounds = (int)((g.m + TILE - 1) / TILE);
  for (int round = 0; round < rounds; ++round) {
    if (round + 1 < rounds) {
      fetch<D>(at.piece(round + 1, 0), k, keys, (i64)(round + 1) * TILE);
      fetch<D>(at.piece(round + 1, 1), v, keys, (i64)(round + 1) * TILE);
      copies_end();
      arrived<1>();
    } else {
      arrived<0>();
    }
    __syncthreads();
    if (busy) {
      if (round == 0) take_rows<D>(query, own);
      i64 key = (i64)round * TILE;
      int columns = columns_of(g.m, key);
      Sums s[TILE / 16][2];
      float higher[2] = {best[0], best[1]};
#pragma unroll
      for (int c = 0; c < TILE / 16; ++c) {
        if (c * 16 >= columns) break;
        products<D>(s[c], query, at.piece(round, 0) + c * 16 * LD);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          float &x = s[c][e / 4].x[e % 4];
          x = rows[e / 2 % 2].of(x, (int)key + c * 16 + e / 4 * 8 + FRAGMENT_COLUMN + e % 2);
          higher[e / 2 % 2] = fmaxf(higher[e / 2 % 2], x);
        }
      }
      float kept[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        higher[r] = row_max(higher[r]);
        kept[r] = power_of_two(best[r] - higher[r]);
        best[r] = higher[r];
        sum[r] *= kept[r];
      }
#pragma unroll
      for (int t = 0; t < D / 8; ++t)
#pragma unroll
        for (int e = 0; e < 4; ++e) result[t].x[e] *= kept[e / 2];
#pragma unroll
      for (int c = 0; c < TILE / 16; ++c) {
        if (c * 16 >= columns) break;
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          float &x = s[c][e / 4].x[e % 4];
          x = power_of_two(x - best[e / 2 % 2]);
          sum[e / 2 % 2] += x;
        }
        accumulate<D>(result, left_of(s[c][0], s[c][1]), at.piece(round, 1) + c * 16 * LD);
      }
    }
    __syncthreads();
  }
  if (!busy) return;
  float by[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float all = row_sum(sum[r]);
    by[r] = 1 / all;
    if (threadIdx.x % 4 == 0 && i + 8 * r < g.n) log_sums[STATISTIC(place, i + 8 * r)] = (best[r] + log2f(all)) * LN_2;
  }
  give<D>(out, side_of(g, place, index, g.q_tokens, g.n, g.out_stride), result, own, first, by);
}

template <int D>
__device__ __forceinline__ void backward_q_of(T *dq, float *dbias, const T *q, const T *k, const T *v, const T *dout,
                                              const float *log_sums, const float *dots, const u32 *index,
                                              const u8 *regions, const float *bias, const Attention &g,
                                              unsigned char *memory) {
  Pieces<D> at = {(T *)memory, 2};
  Place place = place_of(g.n, TILE);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  Side keys = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32;
  i64 first = place.first + warp * 16, i = first + FRAGMENT_ROW;
  bool busy = first < g.n;
  T *own = at.kept_piece(0) + warp * 16 * LD, *own_results = at.kept_piece(1) + warp * 16 * LD;
  Scores rows[2] = {scores_of(g, place, regions, bias, i, LOG2_E), scores_of(g, place, regions, bias, i + 8, LOG2_E)};
  float log_sum[2], dot[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    bool inside = i + 8 * r < g.n;
    log_sum[r] = inside ? log_sums[STATISTIC(place, i + 8 * r)] * LOG2_E : 0.f;
    dot[r] = inside ? dots[STATISTIC(place, i + 8 * r)] : 0.f;
  }
  fetch<D>(at.kept_piece(0), q, queries, place.first);
  fetch<D>(at.kept_piece(1), dout, results, place.first);
  fetch<D>(at.piece(0, 0), k, keys, 0);
  fetch<D>(at.piece(0, 1), v, keys, 0);
  copies_end();
  Left query[D / 16], slope[D / 16];
  Sums result[D / 8];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) clear(result[t]);
  int rounds = (int)((g.m + TILE - 1) / TILE);
  for (int round = 0; round < rounds; ++round) {
    if (round + 1 < rounds) {
      fetch<D>(at.piece(round + 1, 0), k, keys, (i64)(round + 1) * TILE);
      fetch<D>(at.piece(round + 1, 1), v, keys, (i64)(round + 1) * TILE);
      copies_end();
      arrived<1>();
    } else {
      arrived<0>();
    }
    __syncthreads();
    if (busy) {
      if (round == 0) {
        take_rows<D>(query, own);
        take_rows<D>(slope, own_results);
      }
      i64 key = (i64)round * TILE;
      int columns = columns_of(g.m, key);
#pragma unroll 2
      for (int c = 0; c < columns; c += 16) {
        Sums s[2], d[2];
        products<D>(s, query, at.piece(round, 0) + c * LD);
        products<D>(d, slope, at.piece(round, 1) + c * LD);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          int r = e / 2 % 2;
          int j = (int)key + c + e / 4 * 8 + FRAGMENT_COLUMN + e % 2;
          float p = power_of_two(rows[r].of(s[e / 4].x[e % 4], j) - log_sum[r]);
          float ds = p * (d[e / 4].x[e % 4] - dot[r]);
          d[e / 4].x[e % 4] = ds;
          if (dbias && rows[r].inside && j < g.m)
            atomicAdd(dbias + ((g.first_head + blockIdx.y) * g.n + i + 8 * r) * g.m + j, ds);
        }
        accumulate<D>(result, left_of(d[0], d[1]), at.piece(round, 0) + c * LD);
      }
    }
    __syncthreads();
  }
  if (busy) give<D>(dq, queries, result, own, first, {g.scale, g.scale});
}

template <int D>
__device__ __forceinline__ void backward_kv_of(T *dk, T *dv, const T *q, const T *k, const T *v, const T *dout,
                                               const float *log_sums, const float *dots, const u32 *index,
                                               const u8 *regions, const float *bias, const Attention &g,
                                               unsigned char *memory) {
  __shared__ float of_query[2][TILE][2];
  Pieces<D> at = {(T *)memory, 2};
  Place place = place_of(g.m, TILE);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  Side sources = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32;
  i64 first = place.first + warp * 16, j = first + FRAGMENT_ROW;
  bool busy = first < g.m;
  T *own_keys = at.kept_piece(0) + warp * 16 * LD, *own_values = at.kept_piece(1) + warp * 16 * LD;
  fetch<D>(at.kept_piece(0), k, sources, place.first);
  fetch<D>(at.kept_piece(1), v, sources, place.first);
  fetch<D>(at.piece(0, 0), q, queries, 0);
  fetch<D>(at.piece(0, 1), dout, results, 0);
  copies_end();
  Left key[D / 16], value[D / 16];
  Sums keys[D / 8], values[D / 8];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) {
    clear(keys[t]);
    clear(values[t]);
  }
  int rounds = (int)((g.n + TILE - 1) / TILE);
  for (int round = 0; round < rounds; ++round) {
    i64 query = (i64)round * TILE;
    if (round + 1 < rounds) {
      fetch<D>(at.piece(round + 1, 0), q, queries, query + TILE);
      fetch<D>(at.piece(round + 1, 1), dout, results, query + TILE);
      copies_end();
      arrived<1>();
    } else {
      arrived<0>();
    }
    if (threadIdx.x < TILE) {
      i64 i = query + threadIdx.x;
      of_query[round % 2][threadIdx.x][0] = i < g.n ? log_sums[STATISTIC(place, i)] * LOG2_E : 0.f;
      of_query[round % 2][threadIdx.x][1] = i < g.n ? dots[STATISTIC(place, i)] : 0.f;
    }
    __syncthreads();
    if (busy) {
      if (round == 0) {
        take_rows<D>(key, own_keys);
        take_rows<D>(value, own_values);
      }
      int columns = columns_of(g.n, query);
#pragma unroll 2
      for (int c = 0; c < columns; c += 16) {
        // Rows are keys here, and columns are queries.
        Sums s[2], d[2];
        products<D>(s, key, at.piece(round, 0) + c * LD);
        products<D>(d, value, at.piece(round, 1) + c * LD);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            int column = c + half * 8 + FRAGMENT_COLUMN + e;
            const float *known = of_query[round % 2][column];
            Scores scores = scores_of(g, place, regions, bias, query + column, LOG2_E);
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              float &x = s[half].x[2 * r + e], &y = d[half].x[2 * r + e];
              x = power_of_two(scores.of(x, (int)j + 8 * r) - known[0]);
              y = x * (y - known[1]);
            }
          }
        accumulate<D>(values, left_of(s[0], s[1]), at.piece(round, 1) + c * LD);
        accumulate<D>(keys, left_of(d[0], d[1]), at.piece(round, 0) + c * LD);
      }
    }
    __syncthreads();
  }
  if (!busy) return;
  give<D>(dk, sources, keys, own_keys, first, {g.scale, g.scale});
  give<D>(dv, sources, values, own_values, first, {1.f, 1.f});
}

// Kernels for heads of up to D channels.
#define ATTENTION_KERNELS(D)                                                                                           \
  KERNEL(attention_forward_##D, (T *out, float *log_sums, const T *q, const T *k, const T *v, const u32 *index,        \
                                 const u8 *regions, const float *bias, Attention g)) {                                 \
    SHARED_BYTES(memory);                                                                                              \
    forward_of<D>(out, log_sums, q, k, v, index, regions, bias, g, memory);                                            \
  }                                                                                                                    \
  KERNEL(attention_backward_q_##D, (T *dq, float *dbias, const T *q, const T *k, const T *v, const T *dout,            \
                                    const float *log_sums, const float *dots, const u32 *index, const u8 *regions,     \
                                    const float *bias, Attention g)) {                                                 \
    SHARED_BYTES(memory);                                                                                              \
    backward_q_of<D>(dq, dbias, q, k, v, dout, log_sums, dots, index, regions, bias, g, memory);                       \
  }                                                                                                                    \
  KERNEL(attention_backward_kv_##D, (T *dk, T *dv, const T *q, const T *k, const T *v, const T *dout,                  \
                                     const float *log_sums, const float *dots, const u32 *index, const u8 *regions,    \
                                     const float *bias, Attention g)) {                                                \
    SHARED_BYTES(memory);                                                                                              \
    backward_kv_of<D>(dk, dv, q, k, v, dout, log_sums, dots, index, regions, bias, g, memory);                         \
  }
ATTENTION_KERNELS(32)
ATTENTION_KERNELS(64)
ATTENTION_KERNELS(128)

#endif

// Softmax attention of activations in half precision, in one pass over the keys: scores and
// probabilities stay in registers.
//
// A block takes some queries (or, for the gradients of keys and values, keys) of one head of one
// group of tokens, 16 for each of its warps, and goes through the tokens of the other side TILE at a
// time, while the next ones are on their way to shared memory. Maxima are
// carried along, and sums rescaled where one grows (Dao, FlashAttention-2, 2023). Gradients are
// added up inside of a block, in a fixed order, but for that of the bias.
#pragma once
#include "attention.cuh"
#include "fragment.cuh"

#if STORED != 0

// The row stride is a little larger than a row, so that rows of a fragment are in different banks.
#define LD (D + 8)
#define LOG2_E 1.44269504f
#define LN_2 0.69314718f

// Begins to take `count` rows from `first` on; zeros beyond the last and beyond the channels.
template <int D> __device__ __forceinline__ void fetch(T *to, const T *from, const Side &side, i64 first, int count) {
  const int threads = (int)blockDim.x, left = side.n - first < count ? (int)(side.n - first) : count, d = (int)side.d;
  if (side.wide(from)) {
    for (int at = threadIdx.x; at < count * (D / 8); at += threads) {
      int i = at / (D / 8), j = at % (D / 8) * 8;
      bool inside = i < left && j < d;
      copy16(to + i * LD + j, inside ? from + side.row(first + i) + j : from, inside);
    }
    return;
  }
  for (int at = threadIdx.x; at < count * D; at += threads) {
    int i = at / D, j = at % D;
    bool inside = i < left && j < d;
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

// The rows of this block, and shared memory: pieces of them that it keeps, and one or two stages (two
// if there is more than one round) of TILE rows of the other side that pass.
template <int D> struct Pieces {
  T *memory;
  int kept, rows;
  __device__ __forceinline__ T *kept_piece(int i) const { return memory + i * rows * LD; }
  __device__ __forceinline__ T *piece(int round, int i) const {
    return memory + (kept * rows + (round % 2 * 2 + i) * TILE) * LD;
  }
};

// Exponents of a row's probabilities, in units of a factor two. PLAIN attention has neither bias nor
// regions: then only columns beyond the last are set apart, and the scale is left to `exponents`.
template <bool PLAIN> struct Row {
  Scores scores;
  float by;
  __device__ __forceinline__ Row(const Attention &g, Place at, const u8 *regions, const float *bias, i64 i) {
    if (PLAIN) {
      by = g.scale * LOG2_E;
    } else {
      scores = scores_of(g, at, regions, bias, i, LOG2_E);
      by = 1.f;
    }
  }
  __device__ __forceinline__ float score(float product, int j, int m, bool last) const {
    if (PLAIN) return last && j >= m ? -INFINITY : product;
    return scores.of(product, j);
  }
};

template <int D, bool PLAIN>
__device__ __forceinline__ void forward_of(T *out, float *log_sums, const T *q, const T *k, const T *v, const u32 *index,
                                           const u8 *regions, const float *bias, const Attention &g, unsigned char *memory) {
  const int block_rows = (int)blockDim.x / 2, m = (int)g.m;
  Pieces<D> at = {(T *)memory, 1, block_rows};
  Place place = place_of(g.n, block_rows);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side keys = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32;
  i64 first = place.first + warp * 16, i = first + FRAGMENT_ROW;
  // A warp without queries only helps to load.
  bool busy = first < g.n;
  T *own = at.kept_piece(0) + warp * 16 * LD;
  Row<PLAIN> rows[2] = {{g, place, regions, bias, i}, {g, place, regions, bias, i + 8}};
  const float by = rows[0].by;
  fetch<D>(at.kept_piece(0), q, queries, place.first, block_rows);
  fetch<D>(at.piece(0, 0), k, keys, 0, TILE);
  fetch<D>(at.piece(0, 1), v, keys, 0, TILE);
  copies_end();
  Left query[D / 16];
  Sums result[D / 8];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) clear(result[t]);
  float best[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  const int rounds = (m + TILE - 1) / TILE;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    if (round + 1 < rounds) {
      fetch<D>(at.piece(round + 1, 0), k, keys, (round + 1) * TILE, TILE);
      fetch<D>(at.piece(round + 1, 1), v, keys, (round + 1) * TILE, TILE);
      copies_end();
      arrived<1>();
    } else {
      arrived<0>();
    }
    __syncthreads();
    if (busy) {
      if (round == 0) take_rows<D>(query, own);
      const int key = round * TILE, columns = columns_of(m, key);
      const bool last = key + TILE > m;
      Sums s[TILE / 16][2];
      float higher[2] = {best[0], best[1]};
#pragma unroll
      for (int c = 0; c < TILE / 16; ++c) {
        if (c * 16 >= columns) break;
        products<D>(s[c], query, at.piece(round, 0) + c * 16 * LD);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          float &x = s[c][e / 4].x[e % 4];
          x = rows[e / 2 % 2].score(x, key + c * 16 + e / 4 * 8 + FRAGMENT_COLUMN + e % 2, m, last);
          higher[e / 2 % 2] = fmaxf(higher[e / 2 % 2], x);
        }
      }
      float kept[2], origin[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        higher[r] = row_max(higher[r]);
        kept[r] = power_of_two((best[r] - higher[r]) * by);
        best[r] = higher[r];
        origin[r] = -best[r] * by;
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
          x = power_of_two(x * by + origin[e / 2 % 2]);
          sum[e / 2 % 2] += x;
        }
        accumulate<D>(result, left_of(s[c][0], s[c][1]), at.piece(round, 1) + c * 16 * LD);
      }
    }
    __syncthreads();
  }
  if (!busy) return;
  float to[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float all = row_sum(sum[r]);
    to[r] = 1 / all;
    if (threadIdx.x % 4 == 0 && i + 8 * r < g.n) log_sums[STATISTIC(place, i + 8 * r)] = (best[r] * by + log2f(all)) * LN_2;
  }
  give<D>(out, side_of(g, place, index, g.q_tokens, g.n, g.out_stride), result, own, first, to);
}

template <int D, bool PLAIN>
__device__ __forceinline__ void backward_q_of(T *dq, float *dbias, const T *q, const T *k, const T *v, const T *dout,
                                              const float *log_sums, const float *dots, const u32 *index,
                                              const u8 *regions, const float *bias, const Attention &g,
                                              unsigned char *memory) {
  const int block_rows = (int)blockDim.x / 2, m = (int)g.m;
  Pieces<D> at = {(T *)memory, 2, block_rows};
  Place place = place_of(g.n, block_rows);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  Side keys = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32;
  i64 first = place.first + warp * 16, i = first + FRAGMENT_ROW;
  bool busy = first < g.n;
  T *own = at.kept_piece(0) + warp * 16 * LD, *own_results = at.kept_piece(1) + warp * 16 * LD;
  Row<PLAIN> rows[2] = {{g, place, regions, bias, i}, {g, place, regions, bias, i + 8}};
  const float by = rows[0].by;
  float origin[2], dot[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    bool inside = i + 8 * r < g.n;
    origin[r] = inside ? -log_sums[STATISTIC(place, i + 8 * r)] * LOG2_E : 0.f;
    dot[r] = inside ? dots[STATISTIC(place, i + 8 * r)] : 0.f;
  }
  fetch<D>(at.kept_piece(0), q, queries, place.first, block_rows);
  fetch<D>(at.kept_piece(1), dout, results, place.first, block_rows);
  fetch<D>(at.piece(0, 0), k, keys, 0, TILE);
  fetch<D>(at.piece(0, 1), v, keys, 0, TILE);
  copies_end();
  Left query[D / 16], slope[D / 16];
  Sums result[D / 8];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) clear(result[t]);
  const int rounds = (m + TILE - 1) / TILE;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    if (round + 1 < rounds) {
      fetch<D>(at.piece(round + 1, 0), k, keys, (round + 1) * TILE, TILE);
      fetch<D>(at.piece(round + 1, 1), v, keys, (round + 1) * TILE, TILE);
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
      const int key = round * TILE, columns = columns_of(m, key);
      const bool last = key + TILE > m;
      const T *of_keys = at.piece(round, 0), *of_values = at.piece(round, 1);
#pragma unroll 2
      for (int c = 0; c < columns; c += 16) {
        Sums s[2], d[2];
        products<D>(s, query, of_keys + c * LD);
        products<D>(d, slope, of_values + c * LD);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          int r = e / 2 % 2, j = key + c + e / 4 * 8 + FRAGMENT_COLUMN + e % 2;
          float p = power_of_two(rows[r].score(s[e / 4].x[e % 4], j, m, last) * by + origin[r]);
          float ds = p * (d[e / 4].x[e % 4] - dot[r]);
          d[e / 4].x[e % 4] = ds;
          if (!PLAIN && dbias && rows[r].scores.inside && j < m)
            atomicAdd(dbias + ((g.first_head + blockIdx.y) * g.n + i + 8 * r) * g.m + j, ds);
        }
        accumulate<D>(result, left_of(d[0], d[1]), of_keys + c * LD);
      }
    }
    __syncthreads();
  }
  if (busy) give<D>(dq, queries, result, own, first, {g.scale, g.scale});
}

template <int D, bool PLAIN>
__device__ __forceinline__ void backward_kv_of(T *dk, T *dv, const T *q, const T *k, const T *v, const T *dout,
                                               const float *log_sums, const float *dots, const u32 *index,
                                               const u8 *regions, const float *bias, const Attention &g,
                                               unsigned char *memory) {
  __shared__ float of_query[2][2][TILE];
  const int block_rows = (int)blockDim.x / 2, n = (int)g.n, m = (int)g.m;
  Pieces<D> at = {(T *)memory, 2, block_rows};
  Place place = place_of(g.m, block_rows);
  Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  Side sources = side_of(g, place, index, g.kv_tokens, g.m, g.kv_stride);
  int warp = threadIdx.x / 32;
  i64 first = place.first + warp * 16;
  const int j = (int)first + FRAGMENT_ROW;
  bool busy = first < g.m;
  T *own_keys = at.kept_piece(0) + warp * 16 * LD, *own_values = at.kept_piece(1) + warp * 16 * LD;
  fetch<D>(at.kept_piece(0), k, sources, place.first, block_rows);
  fetch<D>(at.kept_piece(1), v, sources, place.first, block_rows);
  fetch<D>(at.piece(0, 0), q, queries, 0, TILE);
  fetch<D>(at.piece(0, 1), dout, results, 0, TILE);
  copies_end();
  Left key[D / 16], value[D / 16];
  Sums keys[D / 8], values[D / 8];
#pragma unroll
  for (int t = 0; t < D / 8; ++t) {
    clear(keys[t]);
    clear(values[t]);
  }
  const int rounds = (n + TILE - 1) / TILE;
#pragma unroll 1
  for (int round = 0; round < rounds; ++round) {
    const int query = round * TILE;
    if (round + 1 < rounds) {
      fetch<D>(at.piece(round + 1, 0), q, queries, query + TILE, TILE);
      fetch<D>(at.piece(round + 1, 1), dout, results, query + TILE, TILE);
      copies_end();
      arrived<1>();
    } else {
      arrived<0>();
    }
    if (threadIdx.x < TILE) {
      int i = query + threadIdx.x;
      // No probability is left of queries beyond the last.
      of_query[round % 2][0][threadIdx.x] = i < n ? -log_sums[STATISTIC(place, i)] * LOG2_E : -INFINITY;
      of_query[round % 2][1][threadIdx.x] = i < n ? dots[STATISTIC(place, i)] : 0.f;
    }
    __syncthreads();
    if (busy) {
      if (round == 0) {
        take_rows<D>(key, own_keys);
        take_rows<D>(value, own_values);
      }
      const int columns = columns_of(n, query);
      const T *of_queries = at.piece(round, 0), *of_results = at.piece(round, 1);
#pragma unroll 2
      for (int c = 0; c < columns; c += 16) {
        // Rows are keys here, and columns are queries. Rows beyond the last key are not written.
        Sums s[2], d[2];
        products<D>(s, key, of_queries + c * LD);
        products<D>(d, value, of_results + c * LD);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            int column = c + half * 8 + FRAGMENT_COLUMN + e;
            const float origin = of_query[round % 2][0][column], dot = of_query[round % 2][1][column];
            Row<PLAIN> row(g, place, regions, bias, query + column);
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              float &x = s[half].x[2 * r + e], &y = d[half].x[2 * r + e];
              x = power_of_two(row.score(x, j + 8 * r, m, false) * row.by + origin);
              y = x * (y - dot);
            }
          }
        accumulate<D>(values, left_of(s[0], s[1]), of_results + c * LD);
        accumulate<D>(keys, left_of(d[0], d[1]), of_queries + c * LD);
      }
    }
    __syncthreads();
  }
  if (!busy) return;
  give<D>(dk, sources, keys, own_keys, first, {g.scale, g.scale});
  give<D>(dv, sources, values, own_values, first, {1.f, 1.f});
}

// Kernels for heads of up to D channels, in blocks of up to so many threads, of which a
// multiprocessor should hold so many.
#define ATTENTION_KERNELS(name, D, PLAIN, threads, blocks)                                                             \
  BOUNDED_KERNEL(attention_forward_##name, threads, blocks,                                                            \
                 (T *out, float *log_sums, const T *q, const T *k, const T *v, const u32 *index, const u8 *regions,    \
                  const float *bias, Attention g)) {                                                                   \
    SHARED_BYTES(memory);                                                                                              \
    forward_of<D, PLAIN>(out, log_sums, q, k, v, index, regions, bias, g, memory);                                     \
  }                                                                                                                    \
  BOUNDED_KERNEL(attention_backward_q_##name, threads, blocks,                                                         \
                 (T *dq, float *dbias, const T *q, const T *k, const T *v, const T *dout, const float *log_sums,       \
                  const float *dots, const u32 *index, const u8 *regions, const float *bias, Attention g)) {           \
    SHARED_BYTES(memory);                                                                                              \
    backward_q_of<D, PLAIN>(dq, dbias, q, k, v, dout, log_sums, dots, index, regions, bias, g, memory);                \
  }                                                                                                                    \
  BOUNDED_KERNEL(attention_backward_kv_##name, threads, blocks,                                                        \
                 (T *dk, T *dv, const T *q, const T *k, const T *v, const T *dout, const float *log_sums,              \
                  const float *dots, const u32 *index, const u8 *regions, const float *bias, Attention g)) {           \
    SHARED_BYTES(memory);                                                                                              \
    backward_kv_of<D, PLAIN>(dk, dv, q, k, v, dout, log_sums, dots, index, regions, bias, g, memory);                  \
  }
ATTENTION_KERNELS(plain_32, 32, true, 224, 2)
ATTENTION_KERNELS(plain_64, 64, true, 224, 2)
ATTENTION_KERNELS(32, 32, false, 128, 4)
ATTENTION_KERNELS(64, 64, false, 128, 3)
ATTENTION_KERNELS(128, 128, false, 128, 2)

#endif

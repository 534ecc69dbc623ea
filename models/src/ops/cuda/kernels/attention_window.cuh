// Softmax attention inside small groups of tokens, of up to N (16, 32, 48 or 64), in half precision:
// windows, and feature maps of a few pixels.
//
// A block takes one head of several groups, one after another, while the tokens of the next are on
// their way to shared memory; each of its N / 16 warps has 16 rows. A whole row of scores is in registers,
// so the gradient needs nothing but queries, keys and values, and is one kernel. The bias of a head is
// read once for all groups of a block, and its gradient added up over them.
#pragma once
#include "attention_half.cuh"

#if STORED != 0

// The row stride of a matrix of probabilities.
#define LD_N (N + 8)

// What a block goes through: `count` groups from `first` on.
struct Groups {
  i64 first;
  int count;
};
__device__ __forceinline__ Groups groups_of(i64 all, int each) {
  i64 first = (i64)blockIdx.x * each;
  return {first, all - first < each ? (int)(all - first) : each};
}

// Scores that are not products: bias (or zeros) in units of factors of two, and what sets columns
// beyond the last apart.
template <int N> __device__ __forceinline__ void take_bias(Sums (&to)[N / 8], const Attention &g, const float *bias, int i) {
  const int n = (int)g.n;
  const float *rows = bias ? bias + (g.first_head + blockIdx.y) * n * n : nullptr;
#pragma unroll
  for (int t = 0; t < N / 8; ++t)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      int j = t * 8 + FRAGMENT_COLUMN + e % 2, row = i + e / 2 * 8;
      to[t].x[e] = j >= n ? -INFINITY : rows && row < n ? rows[row * n + j] * LOG2_E : 0.f;
    }
}

// Scores of 16 rows, then their exponentials over `best`, in place; sums of the rows are returned.
template <int D, bool BIASED, int N>
__device__ __forceinline__ void probabilities(Sums (&s)[N / 8], float (&sum)[2], const Left (&query)[D / 16],
                                              const T *keys, const Sums (&bias)[BIASED ? N / 8 : 1],
                                              const u8 *regions, int row, int n, float scale) {
  const int columns = columns_of(n, 0);
  float best[2] = {-INFINITY, -INFINITY};
  u8 own[2] = {regions ? regions[row] : (u8)0, regions ? regions[row + 8] : (u8)0};
#pragma unroll
  for (int c = 0; c < N / 16; ++c) {
    Sums(&pair)[2] = *(Sums(*)[2])(s + 2 * c);
    if (c * 16 >= columns) {
#pragma unroll
      for (int e = 0; e < 8; ++e) pair[e / 4].x[e % 4] = -INFINITY;
      continue;
    }
    products<D>(pair, query, keys + c * 16 * LD);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float &x = pair[e / 4].x[e % 4];
      int j = c * 16 + e / 4 * 8 + FRAGMENT_COLUMN + e % 2;
      if (BIASED) x = x * scale + bias[2 * c + e / 4].x[e % 4];
      else x = j < n ? x * scale : -INFINITY;
      if (regions && regions[j] != own[e / 2 % 2]) x += APART * LOG2_E;
      best[e / 2 % 2] = fmaxf(best[e / 2 % 2], x);
    }
  }
  best[0] = row_max(best[0]);
  best[1] = row_max(best[1]);
  sum[0] = sum[1] = 0.f;
#pragma unroll
  for (int t = 0; t < N / 8; ++t)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[t].x[e] = power_of_two(s[t].x[e] - best[e / 2]);
      sum[e / 2] += s[t].x[e];
    }
  sum[0] = row_sum(sum[0]);
  sum[1] = row_sum(sum[1]);
}

// The regions of a group's tokens, to shared memory.
template <int N> __device__ __forceinline__ void fetch_regions(u8 *to, const u8 *regions, const Attention &g, i64 group) {
  const u8 *from = regions + (i64)(Index(group) % g.groups) * g.n;
  for (int i = threadIdx.x; i < N; i += blockDim.x) to[i] = i < (int)g.n ? from[i] : (u8)0;
}

template <int D, bool BIASED, int N>
__device__ __forceinline__ void window_forward(T *out, const T *q, const T *k, const T *v, const u32 *index,
                                               const u8 *regions, const float *bias, const Attention &g, i64 all,
                                               int each, unsigned char *memory) {
  __shared__ u8 of_tokens[2][N];
  const int n = (int)g.n, warp = threadIdx.x / 32, row = warp * 16 + FRAGMENT_ROW, rows = columns_of(n, 0);
  const bool busy = warp * 16 < rows;
  const float scale = g.scale * LOG2_E;
  Groups groups = groups_of(all, each);
  T *const pieces = (T *)memory;
  auto piece = [=](int stage, int i) { return pieces + (stage * 3 + i) * N * LD; };
  auto begin = [&](int at) {
    Place place = {groups.first + at, 0};
    Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
    Side keys = side_of(g, place, index, g.kv_tokens, g.n, g.kv_stride);
    fetch<D>(piece(at % 2, 0), q, queries, 0, rows);
    fetch<D>(piece(at % 2, 1), k, keys, 0, rows);
    fetch<D>(piece(at % 2, 2), v, keys, 0, rows);
    if (regions) fetch_regions<N>(of_tokens[at % 2], regions, g, groups.first + at);
    copies_end();
  };
  Sums of_bias[BIASED ? N / 8 : 1];
  if constexpr (BIASED) take_bias<N>(of_bias, g, bias, row);
  begin(0);
#pragma unroll 1
  for (int at = 0; at < groups.count; ++at) {
    if (at + 1 < groups.count) {
      begin(at + 1);
      arrived<1>();
    } else {
      arrived<0>();
    }
    __syncthreads();
    if (busy) {
      T *own = piece(at % 2, 0) + warp * 16 * LD;
      Left query[D / 16];
      take_rows<D>(query, own);
      Sums s[N / 8], result[D / 8];
      float sum[2];
      probabilities<D, BIASED, N>(s, sum, query, piece(at % 2, 1), of_bias, regions ? of_tokens[at % 2] : nullptr, row, n, scale);
#pragma unroll
      for (int t = 0; t < D / 8; ++t) clear(result[t]);
#pragma unroll
      for (int c = 0; c < N / 16; ++c)
        if (c * 16 < rows) accumulate<D>(result, left_of(s[2 * c], s[2 * c + 1]), piece(at % 2, 2) + c * 16 * LD);
      Place place = {groups.first + at, 0};
      __syncwarp();
      give<D>(out, side_of(g, place, index, g.q_tokens, g.n, g.out_stride), result, own, warp * 16, {1 / sum[0], 1 / sum[1]});
    }
    __syncthreads();
  }
}

template <int D, bool BIASED, int N>
__device__ __forceinline__ void window_backward(T *dq, T *dk, T *dv, float *dbias, const T *q, const T *k, const T *v,
                                                const T *dout, const u32 *index, const u8 *regions, const float *bias,
                                                const Attention &g, i64 all, int each, unsigned char *memory) {
  __shared__ u8 of_tokens[2][N];
  const int n = (int)g.n, warp = threadIdx.x / 32, row = warp * 16 + FRAGMENT_ROW, rows = columns_of(n, 0);
  const bool busy = warp * 16 < rows;
  const float scale = g.scale * LOG2_E;
  Groups groups = groups_of(all, each);
  T *const pieces = (T *)memory;
  auto piece = [=](int stage, int i) { return pieces + (stage * 4 + i) * N * LD; };
  T *const p_rows = pieces + 8 * N * LD, *const ds_rows = p_rows + N * LD_N;
  auto begin = [&](int at) {
    Place place = {groups.first + at, 0};
    Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
    Side keys = side_of(g, place, index, g.kv_tokens, g.n, g.kv_stride);
    fetch<D>(piece(at % 2, 0), q, queries, 0, rows);
    fetch<D>(piece(at % 2, 1), k, keys, 0, rows);
    fetch<D>(piece(at % 2, 2), v, keys, 0, rows);
    fetch<D>(piece(at % 2, 3), dout, side_of(g, place, index, g.q_tokens, g.n, g.out_stride), 0, rows);
    if (regions) fetch_regions<N>(of_tokens[at % 2], regions, g, groups.first + at);
    copies_end();
  };
  Sums of_bias[BIASED ? N / 8 : 1], slopes_of_bias[BIASED ? N / 8 : 1];
  if constexpr (BIASED) {
    take_bias<N>(of_bias, g, bias, row);
#pragma unroll
    for (int t = 0; t < N / 8; ++t) clear(slopes_of_bias[t]);
  }
  begin(0);
#pragma unroll 1
  for (int at = 0; at < groups.count; ++at) {
    if (at + 1 < groups.count) {
      begin(at + 1);
      arrived<1>();
    } else {
      arrived<0>();
    }
    __syncthreads();
    const int stage = at % 2;
    Place place = {groups.first + at, 0};
    Side queries = side_of(g, place, index, g.q_tokens, g.n, g.q_stride);
    Side keys = side_of(g, place, index, g.kv_tokens, g.n, g.kv_stride);
    Sums result[D / 8];
    if (busy) {
      Sums s[N / 8], d[N / 8];
      Left left[D / 16];
      float sum[2], dot[2] = {0, 0};
      take_rows<D>(left, piece(stage, 0) + warp * 16 * LD);
      probabilities<D, BIASED, N>(s, sum, left, piece(stage, 1), of_bias, regions ? of_tokens[stage] : nullptr, row, n, scale);
      // Rows beyond the last have no part in anything.
      float by[2] = {row < n ? 1 / sum[0] : 0.f, row + 8 < n ? 1 / sum[1] : 0.f};
      take_rows<D>(left, piece(stage, 3) + warp * 16 * LD);
#pragma unroll
      for (int c = 0; c < N / 16; ++c) {
        if (c * 16 >= rows) break;
        Sums(&pair)[2] = *(Sums(*)[2])(d + 2 * c);
        products<D>(pair, left, piece(stage, 2) + c * 16 * LD);
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          float &p = s[2 * c + e / 4].x[e % 4];
          p *= by[e / 2 % 2];
          dot[e / 2 % 2] += p * pair[e / 4].x[e % 4];
        }
      }
      dot[0] = row_sum(dot[0]);
      dot[1] = row_sum(dot[1]);
#pragma unroll
      for (int t = 0; t < D / 8; ++t) clear(result[t]);
#pragma unroll
      for (int c = 0; c < N / 16; ++c) {
        if (c * 16 >= rows) break;
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          float &ds = d[2 * c + e / 4].x[e % 4];
          ds = s[2 * c + e / 4].x[e % 4] * (ds - dot[e / 2 % 2]);
          if (BIASED) slopes_of_bias[2 * c + e / 4].x[e % 4] += ds;
        }
        Left p = left_of(s[2 * c], s[2 * c + 1]), ds = left_of(d[2 * c], d[2 * c + 1]);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          int to = (row + e % 2 * 8) * LD_N + c * 16 + e / 2 * 8 + FRAGMENT_COLUMN;
          *(u32 *)(p_rows + to) = p.x[e];
          *(u32 *)(ds_rows + to) = ds.x[e];
        }
        accumulate<D>(result, ds, piece(stage, 1) + c * 16 * LD);
      }
    }
    __syncthreads();
    // Now the rows of a warp are keys. Queries and slopes are needed by all warps, keys and values by
    // none: results are laid out in their place.
    if (busy) {
      Sums of_keys[D / 8];
      T *room = piece(stage, 1) + warp * 16 * LD, *other = piece(stage, 2) + warp * 16 * LD;
      give<D>(dq, queries, result, room, warp * 16, {g.scale, g.scale});
#pragma unroll
      for (int t = 0; t < D / 8; ++t) {
        clear(result[t]);
        clear(of_keys[t]);
      }
      for (int c = 0; c < rows; c += 16) {
        Left p = load_left_transposed(p_rows + c * LD_N + warp * 16, LD_N);
        accumulate<D>(result, p, piece(stage, 3) + c * LD);
        Left ds = load_left_transposed(ds_rows + c * LD_N + warp * 16, LD_N);
        accumulate<D>(of_keys, ds, piece(stage, 0) + c * LD);
      }
      give<D>(dv, keys, result, other, warp * 16, {1.f, 1.f});
      __syncwarp();
      give<D>(dk, keys, of_keys, room, warp * 16, {g.scale, g.scale});
    }
    __syncthreads();
  }
  if constexpr (BIASED) {
    if (!dbias) return;
    float *to = dbias + (g.first_head + blockIdx.y) * n * n;
#pragma unroll
    for (int t = 0; t < N / 8; ++t)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        int j = t * 8 + FRAGMENT_COLUMN + e % 2, i = row + e / 2 * 8;
        if (i < n && j < n) atomicAdd(to + i * n + j, slopes_of_bias[t].x[e]);
      }
  }
}

// Kernels for heads of up to D channels and groups of up to N tokens; a block goes through `each` of
// `all` groups. So many blocks of forward and backward passes share a multiprocessor.
#define WINDOW_KERNELS(name, D, BIASED, N, forward_blocks, backward_blocks)                                            \
  BOUNDED_KERNEL(attention_window_forward_##name##_##N, 2 * N, forward_blocks,                                         \
                 (T *out, const T *q, const T *k, const T *v, const u32 *index, const u8 *regions, const float *bias,  \
                  Attention g, i64 all, int each)) {                                                                   \
    SHARED_BYTES(memory);                                                                                              \
    window_forward<D, BIASED, N>(out, q, k, v, index, regions, bias, g, all, each, memory);                            \
  }                                                                                                                    \
  BOUNDED_KERNEL(attention_window_backward_##name##_##N, 2 * N, backward_blocks,                                       \
                 (T *dq, T *dk, T *dv, float *dbias, const T *q, const T *k, const T *v, const T *dout,                \
                  const u32 *index, const u8 *regions, const float *bias, Attention g, i64 all, int each)) {           \
    SHARED_BYTES(memory);                                                                                              \
    window_backward<D, BIASED, N>(dq, dk, dv, dbias, q, k, v, dout, index, regions, bias, g, all, each, memory);       \
  }
#define WINDOW_KERNELS_OF_ALL_SIZES(name, D, BIASED, forward_blocks)                                                   \
  WINDOW_KERNELS(name, D, BIASED, 16, 4 * forward_blocks, 12)                                                          \
  WINDOW_KERNELS(name, D, BIASED, 32, 2 * forward_blocks, 6)                                                           \
  WINDOW_KERNELS(name, D, BIASED, 48, forward_blocks, 4)                                                               \
  WINDOW_KERNELS(name, D, BIASED, 64, forward_blocks, 3)
WINDOW_KERNELS_OF_ALL_SIZES(plain_32, 32, false, 4)
WINDOW_KERNELS_OF_ALL_SIZES(plain_64, 64, false, 3)
WINDOW_KERNELS_OF_ALL_SIZES(32, 32, true, 4)

#endif

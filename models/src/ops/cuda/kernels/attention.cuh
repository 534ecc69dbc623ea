// What the kernels of softmax attention share. None of them keeps a matrix of probabilities: only
// the logarithm of each row's sum.
#pragma once
#include "common.cuh"

// Rows of a block: queries, or for the gradients of keys and values, keys. Single precision takes
// twice the shared memory.
#if STORED == 0
#define TILE 32
#else
#define TILE 64
#endif
// What keeps tokens of different regions apart.
#define APART (-100.f)
// Numbers that are moved at a time, where all addresses allow it.
#define WIDE ((int)(16 / sizeof(T)))

struct Attention {
  // Numbers from one token to the next, of queries and their result, and of keys and values.
  i64 q_stride, kv_stride, out_stride;
  // Tokens of a sample, of a group, and groups of a sample.
  i64 q_tokens, kv_tokens, n, m, groups;
  // Channels of a head, and the number of the first head.
  i64 d, first_head;
  float scale;
};

// What a block works on: a group, counted over all samples, and its first token there. Groups and
// tiles share the first dimension of the grid: the others end at 65535.
struct Place {
  i64 group, first;
};
__device__ __forceinline__ Place place_of(i64 tokens, int tile) {
  i64 tiles = (tokens + tile - 1) / tile;
  Index at = (i64)blockIdx.x;
  return {at / tiles, at % tiles * tile};
}

// The tokens of a group on one side, as rows of one head's channels.
struct Side {
  // The first token of the sample; the indices of the group's tokens in it, in order if this is
  // null; how many they are.
  i64 start;
  const u32 *index;
  i64 n, stride, first_channel, d;
  __device__ __forceinline__ i64 row(i64 i) const { return (start + (index ? index[i] : i)) * stride + first_channel; }
  // Whether rows of a tensor that begins here can be moved WIDE numbers at a time.
  __device__ __forceinline__ bool wide(const T *tensor) const {
    return d % WIDE == 0 && stride % WIDE == 0 && (unsigned long long)tensor % 16 == 0;
  }
};
__device__ __forceinline__ Side side_of(const Attention &g, Place at, const u32 *index, i64 tokens, i64 n, i64 stride) {
  i64 sample = Index(at.group) / g.groups, group = Index(at.group) % g.groups;
  return {sample * tokens, index ? index + group * n : nullptr, n, stride, (g.first_head + blockIdx.y) * g.d, g.d};
}

// Columns of a tile that hold tokens from `first` on, in whole tiles of a warp.
__device__ __forceinline__ int columns_of(i64 n, i64 first) { return n - first < TILE ? (int)(n - first + 15) / 16 * 16 : TILE; }

// What the softmax of one query is of, in units of which the exponential function's base is e, or 2.
struct Scores {
  bool inside;
  int m;
  float unit, scale;
  const float *bias;
  const u8 *regions;
  u8 own;
  __device__ __forceinline__ float of(float product, int j) const {
    if (!inside || j >= m) return -INFINITY;
    float s = product * scale;
    if (bias) s += bias[j] * unit;
    if (regions && regions[j] != own) s += APART * unit;
    return s;
  }
};
__device__ __forceinline__ Scores scores_of(const Attention &g, Place at, const u8 *regions, const float *bias, i64 i,
                                            float unit) {
  bool inside = i < g.n;
  const u8 *of = regions && inside ? regions + (i64)(Index(at.group) % g.groups) * g.n : nullptr;
  const float *row = bias && inside ? bias + ((g.first_head + blockIdx.y) * g.n + i) * g.m : nullptr;
  return {inside, (int)g.m, unit, g.scale * unit, row, of, of ? of[i] : (u8)0};
}
#define STATISTIC(at, i) (((at).group * gridDim.y + blockIdx.y) * g.n + (i))

// For each query the product of its result and the result's gradient: what the slope of the softmax
// takes away.
KERNEL(attention_dots, (float *dots, const T *out, const T *dout, const u32 *index, Attention g)) {
  Place place = place_of(g.n, blockDim.x);
  Side results = side_of(g, place, index, g.q_tokens, g.n, g.out_stride);
  i64 i = place.first + threadIdx.x;
  if (i >= g.n) return;
  i64 at = results.row(i);
  float sum = 0;
  if (results.wide(out) && results.wide(dout) && g.d % 8 == 0) {
    for (i64 j = 0; j < g.d; j += 8) {
      float y[8], dy[8];
      load8(y, out + at + j);
      load8(dy, dout + at + j);
#pragma unroll
      for (int k = 0; k < 8; ++k) sum += y[k] * dy[k];
    }
  } else {
    for (i64 j = 0; j < g.d; ++j) sum += load(out[at + j]) * load(dout[at + j]);
  }
  dots[STATISTIC(place, i)] = sum;
}

// The bias of each pair of tokens from the table of offsets, and the table's gradient from theirs.
KERNEL(expand_bias, (float *bias, const float *table, const u32 *entry, i64 heads, i64 pairs)) {
  for EACH(i, heads * pairs) bias[i] = table[entry[i % pairs] * heads + i / pairs];
}
KERNEL(fold_bias, (float *dtable, const float *dbias, const u32 *entry, i64 heads, i64 pairs)) {
  for EACH(i, heads * pairs) atomicAdd(dtable + entry[i % pairs] * heads + i / pairs, dbias[i]);
}

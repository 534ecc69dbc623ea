// Layer norm and batch norm.
#pragma once
#include "rows.cuh"

// A warp a row, so that nothing waits for other warps; `stats` keeps mean and one over the
// deviation of each row. Rows of up to MOST_PIECES times 128 numbers stay in registers.
#define ROW_OF_WARP ((i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32)
#define LANES(j, c) (i64 j = threadIdx.x % 32; j < (c); j += 32)
#define MOST_PIECES 8

// Whether rows of so many numbers at these addresses (or none) can be taken like that, and kept.
template <class... P> __device__ __forceinline__ bool fours(i64 c, const P *...at) {
  return c % 4 == 0 && c <= MOST_PIECES * 128 && ((0 | ... | (unsigned long long)at)) % 16 == 0;
}
// Goes through the pieces of a row that this lane has: number and first column.
template <int PIECES, class F> __device__ __forceinline__ void each_piece(i64 c, F f) {
#pragma unroll
  for (int p = 0; p < PIECES; ++p) {
    int j = p * 128 + threadIdx.x % 32 * 4;
    if (j < c) f(p, j);
  }
}

template <class O, class S>
__device__ void layer_norm(O *y, float *stats, const S *x, const float *weight, const float *bias, i64 rows, i64 c,
                           float eps) {
  i64 at = ROW_OF_WARP;
  if (at >= rows) return;
  const S *row = x + at * c;
  float sum = 0, squares = 0, mean, inv;
  if (fours(c, y, x, weight, bias)) {
    float v[MOST_PIECES][4];
    each_piece<MOST_PIECES>(c, [&](int p, int j) {
      load4(v[p], row + j);
      sum += v[p][0] + v[p][1] + v[p][2] + v[p][3];
    });
    mean = warp_sum(sum) / c;
    each_piece<MOST_PIECES>(c, [&](int p, int) {
#pragma unroll
      for (int k = 0; k < 4; ++k) squares += (v[p][k] - mean) * (v[p][k] - mean);
    });
    inv = rsqrtf(warp_sum(squares) / c + eps);
    each_piece<MOST_PIECES>(c, [&](int p, int j) {
      float w[4], b[4] = {};
      load4(w, weight + j);
      if (bias) load4(b, bias + j);
#pragma unroll
      for (int k = 0; k < 4; ++k) v[p][k] = (v[p][k] - mean) * inv * w[k] + b[k];
      store4(y + at * c + j, v[p]);
    });
  } else {
    for LANES(j, c) sum += load(row[j]);
    mean = warp_sum(sum) / c;
    for LANES(j, c) {
      float d = load(row[j]) - mean;
      squares += d * d;
    }
    inv = rsqrtf(warp_sum(squares) / c + eps);
    for LANES(j, c) y[at * c + j] = store<O>((load(row[j]) - mean) * inv * weight[j] + (bias ? bias[j] : 0.f));
  }
  if (threadIdx.x % 32 == 0) {
    stats[2 * at] = mean;
    stats[2 * at + 1] = inv;
  }
}

// For rows that cannot be taken four numbers at a time, or are too long to be kept. `onto`, if any, is
// added to the gradient of `x`.
template <class S, class O>
__device__ void layer_norm_slope(S *dx, const S *x, const O *dy, const float *weight, const float *stats, const S *onto,
                                 i64 rows, i64 c) {
  i64 row = ROW_OF_WARP, at = row * c;
  if (row >= rows) return;
  float mean = stats[2 * row], inv = stats[2 * row + 1], sum = 0, dot = 0;
  for LANES(j, c) {
    float g = load(dy[at + j]) * weight[j];
    sum += g;
    dot += g * (load(x[at + j]) - mean) * inv;
  }
  sum = warp_sum(sum) / c;
  dot = warp_sum(dot) / c;
  for LANES(j, c) {
    float g = load(dy[at + j]) * weight[j], normal = (load(x[at + j]) - mean) * inv;
    dx[at + j] = store<S>(inv * (g - sum - normal * dot) + (onto ? load(onto[at + j]) : 0.f));
  }
}

// For rows of up to PIECES times 128 numbers, of which a warp takes several: with parts of the
// gradients of weight and bias, one of each block.
template <int PIECES, class S, class O>
__device__ __forceinline__ void layer_norm_slope_and_sums(S *dx, float *dweight, float *dbias, const S *x, const O *dy,
                                                          const float *weight, const float *stats, const S *onto,
                                                          i64 rows, i64 c) {
  const int warps = 8;
  __shared__ float sums[2][warps][128];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32 * 4;
  float dw[PIECES][4] = {}, db[PIECES][4] = {};
  for (i64 row = (i64)blockIdx.x * warps + warp; row < rows; row += (i64)gridDim.x * warps) {
    const float mean = stats[2 * row], inv = stats[2 * row + 1];
    float g[PIECES][4], v[PIECES][4], sum = 0, dot = 0;
    each_piece<PIECES>(c, [&](int p, int j) {
      load4(g[p], dy + row * c + j);
      load4(v[p], x + row * c + j);
    });
    each_piece<PIECES>(c, [&](int p, int j) {
      float w[4];
      load4(w, weight + j);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        v[p][k] = (v[p][k] - mean) * inv;
        dw[p][k] += g[p][k] * v[p][k];
        db[p][k] += g[p][k];
        g[p][k] *= w[k];
        sum += g[p][k];
        dot += g[p][k] * v[p][k];
      }
    });
    sum = warp_sum(sum) / c;
    dot = warp_sum(dot) / c;
    each_piece<PIECES>(c, [&](int p, int j) {
      float known[4] = {};
      if (onto) load4(known, onto + row * c + j);
#pragma unroll
      for (int k = 0; k < 4; ++k) v[p][k] = inv * (g[p][k] - sum - v[p][k] * dot) + known[k];
      store4(dx + row * c + j, v[p]);
    });
  }
#pragma unroll
  for (int p = 0; p < PIECES; ++p) {
    if (p * 128 >= c) break;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      sums[0][warp][lane + k] = dw[p][k];
      sums[1][warp][lane + k] = db[p][k];
    }
    __syncthreads();
    int which = threadIdx.x / 128, own = threadIdx.x % 128, j = p * 128 + own;
    float total = 0;
    for (int i = 0; i < warps; ++i) total += sums[which][i][own];
    if (j < c) (which ? dbias : dweight)[blockIdx.x * c + j] = total;
  }
}

// Parts of the gradients of weight and bias.
template <class S, class O>
__device__ void layer_norm_sums(float *dweight, float *dbias, const S *x, const O *dy, const float *stats, i64 rows, i64 c) {
  bool wide = eights(c, x, dy);
  i64 first = FIRST_COLUMN;
  float dw[8] = {}, db[8] = {};
  each_row(rows, c, [&](i64 row) {
    float v[8], g[8], mean = stats[2 * row], inv = stats[2 * row + 1];
    row8(v, x, row, c, first, wide);
    row8(g, dy, row, c, first, wide);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      dw[k] += g[k] * (v[k] - mean) * inv;
      db[k] += g[k];
    }
  });
  give_strip(dweight, c, dw);
  give_strip(dbias, c, db);
}

#define LAYER_NORM_BOTH(suffix, S, O, pieces)                                                                          \
  KERNEL(layer_norm_both##suffix##_##pieces, (S * dx, float *dweight, float *dbias, const S *x, const O *dy,           \
                                              const float *weight, const float *stats, const S *onto, i64 rows,        \
                                              i64 c)) {                                                                \
    layer_norm_slope_and_sums<pieces, S, O>(dx, dweight, dbias, x, dy, weight, stats, onto, rows, c);                  \
  }
#define LAYER_NORM(suffix, S, O)                                                                                       \
  KERNEL(layer_norm_forward##suffix,                                                                                   \
         (O * y, float *stats, const S *x, const float *weight, const float *bias, i64 rows, i64 c, float eps)) {      \
    layer_norm<O, S>(y, stats, x, weight, bias, rows, c, eps);                                                         \
  }                                                                                                                    \
  KERNEL(layer_norm_backward##suffix,                                                                                  \
         (S * dx, const S *x, const O *dy, const float *weight, const float *stats, const S *onto, i64 rows, i64 c)) { \
    layer_norm_slope<S, O>(dx, x, dy, weight, stats, onto, rows, c);                                                   \
  }                                                                                                                    \
  KERNEL(layer_norm_sums##suffix,                                                                                      \
         (float *dweight, float *dbias, const S *x, const O *dy, const float *stats, i64 rows, i64 c)) {               \
    layer_norm_sums<S, O>(dweight, dbias, x, dy, stats, rows, c);                                                      \
  }                                                                                                                    \
  LAYER_NORM_BOTH(suffix, S, O, 2)                                                                                     \
  LAYER_NORM_BOTH(suffix, S, O, 4)                                                                                     \
  LAYER_NORM_BOTH(suffix, S, O, 8)
LAYER_NORM(, T, T)
LAYER_NORM(_from_wide, float, T)
LAYER_NORM(_to_wide, T, float)

// Mean and sum of squared distances from it, of each column of a part of the rows, in one pass:
// sums are of distances from the part's first row, so that numbers far from zero lose nothing.
KERNEL(channel_moments, (float *means, float *squares, const T *x, i64 rows, i64 c)) {
  __shared__ float origins[STRIP];
  Part part = part_of(rows);
  bool wide = eights(c, x), any = part.end > part.first;
  i64 first = FIRST_COLUMN, column = (i64)blockIdx.x * STRIP + threadIdx.x;
  float origin[8] = {}, sums[8] = {}, of_squares[8] = {};
  if (any && first < c) row8(origin, x, part.first, c, first, wide);
  if (ROW_LANE == 0)
#pragma unroll
    for (int k = 0; k < 8; ++k) origins[threadIdx.x * 8 + k] = origin[k];
  each_row(rows, c, [&](i64 row) {
    float v[8];
    row8(v, x, row, c, first, wide);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      float d = v[k] - origin[k];
      sums[k] += d;
      of_squares[k] += d * d;
    }
  });
  float sum = strip_sum(sums), square = strip_sum(of_squares);
  if (threadIdx.x >= STRIP || column >= c) return;
  float count = (float)(any ? part.end - part.first : 1), shift = sum / count;
  means[blockIdx.y * c + column] = any ? origins[threadIdx.x] + shift : 0.f;
  squares[blockIdx.y * c + column] = fmaxf(square - sum * shift, 0.f);
}

// The parts together: mean and biased variance of each channel. A block has 32 columns, and 32
// threads take turns with the parts of each: for the mean, then for the squares about it.
KERNEL(join_moments, (float *mean, float *variance, const float *means, const float *squares, i64 parts, i64 rows, i64 c)) {
  __shared__ float lanes[32][33];
  const i64 each = (rows + parts - 1) / parts, column = (i64)blockIdx.x * 32 + threadIdx.x % 32;
  const int lane = threadIdx.x / 32, own = threadIdx.x % 32;
  auto count = [=](i64 i) {
    i64 left = rows - i * each;
    return left <= 0 ? 0.f : (float)(left < each ? left : each);
  };
  auto all = [&](float x) {
    __syncthreads();
    lanes[lane][own] = x;
    __syncthreads();
    float total = 0;
    for (int i = 0; i < 32; ++i) total += lanes[i][own];
    return total;
  };
  float sum = 0, square = 0;
  if (column < c) {
#pragma unroll 8
    for (i64 i = lane; i < parts; i += 32) sum += count(i) * means[i * c + column];
  }
  const float middle = all(sum) / rows;
  if (column < c) {
#pragma unroll 8
    for (i64 i = lane; i < parts; i += 32) {
      float d = means[i * c + column] - middle;
      square += squares[i * c + column] + count(i) * d * d;
    }
  }
  square = all(square);
  if (lane > 0 || column >= c) return;
  mean[column] = middle;
  variance[column] = square / rows;
}

// The affine function that a batch norm is, of the eight channels of a thread.
struct Affine {
  float mean[8], scale[8], shift[8];
  __device__ __forceinline__ Affine(const float *means, const float *variances, const float *weight, const float *bias,
                                    float eps, i64 first, i64 c) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      i64 column = first + k < c ? first + k : 0;
      mean[k] = means[column];
      scale[k] = rsqrtf(variances[column] + eps) * weight[column];
      shift[k] = bias[column];
    }
  }
  __device__ __forceinline__ float of(float x, int k) const { return (x - mean[k]) * scale[k] + shift[k]; }
};

KERNEL(batch_norm_forward, (T *y, const T *x, const float *mean, const float *variance, const float *weight,
                            const float *bias, const T *residual, int rectify, float eps, i64 c, i64 n)) {
  if (eights(c, y, x, residual, mean, variance, weight, bias)) {
    for EACH(at, n / 8) {
      i64 i = at * 8, j = Index(i) % c;
      float v[8], r[8] = {}, m[8], s[8], w[8], b[8];
      load8(v, x + i);
      if (residual) load8(r, residual + i);
      load8(m, mean + j);
      load8(s, variance + j);
      load8(w, weight + j);
      load8(b, bias + j);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        v[k] = (v[k] - m[k]) * (rsqrtf(s[k] + eps) * w[k]) + b[k] + r[k];
        if (rectify) v[k] = relu(v[k]);
      }
      store8(y + i, v);
    }
    return;
  }
  for EACH(i, n) {
    i64 j = i % c;
    float v = (load(x[i]) - mean[j]) * (rsqrtf(variance[j] + eps) * weight[j]) + bias[j];
    if (residual) v += load(residual[i]);
    y[i] = store<T>(rectify ? relu(v) : v);
  }
}

// Gradients pass where the value was not rectified to zero. With a residual that is asked of `y`,
// which holds the value; without one it is computed again, and `y` is null.
__device__ __forceinline__ bool passes(const T *y, float known, float value) {
  return (y ? known : load(store<T>(value))) > 0;
}

// Parts of the sums of the gradient and of its product with the normalized input: gradients of bias
// and weight.
KERNEL(batch_norm_sums, (float *dweight, float *dbias, const T *__restrict__ x, const T *__restrict__ dy,
                         const T *__restrict__ y, const float *mean, const float *variance, const float *weight,
                         const float *bias, int rectified, float eps, i64 rows, i64 c)) {
  const bool wide = eights(c, x, dy, y);
  const i64 first = FIRST_COLUMN;
  const Affine affine(mean, variance, weight, bias, eps, first, c);
  float dw[8] = {}, db[8] = {};
  each_row(rows, c, [&](i64 row) {
    float v[8], g[8], o[8] = {};
    row8(v, x, row, c, first, wide);
    row8(g, dy, row, c, first, wide);
    if (y) row8(o, y, row, c, first, wide);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      float slope = !rectified || passes(y, o[k], affine.of(v[k], k)) ? g[k] : 0.f;
      dw[k] += slope * (v[k] - affine.mean[k]);
      db[k] += slope;
    }
  });
#pragma unroll
  for (int k = 0; k < 8; ++k) dw[k] *= rsqrtf(variance[first + k < c ? first + k : 0] + eps);
  give_strip(dweight, c, dw);
  give_strip(dbias, c, db);
}

// `dresidual` is null where there is no residual. With the batch's own statistics the gradient
// loses its mean and its part along the normalized input.
KERNEL(batch_norm_backward, (T *dx, T *dresidual, const T *x, const T *dy, const T *y, const float *mean,
                             const float *variance, const float *weight, const float *bias, const float *dweight,
                             const float *dbias, int rectified, int from_batch, float eps, i64 rows, i64 c)) {
  const float each = from_batch ? 1.f / rows : 0.f;
  if (eights(c, dx, dresidual, x, dy, y, mean, variance, weight, bias, dweight, dbias)) {
    for EACH(at, rows * c / 8) {
      i64 i = at * 8, j = Index(i) % c;
      float v[8], g[8], o[8] = {}, m[8], s[8], w[8], b[8], dw[8], db[8];
      load8(v, x + i);
      load8(g, dy + i);
      if (y) load8(o, y + i);
      load8(m, mean + j);
      load8(s, variance + j);
      load8(w, weight + j);
      load8(b, bias + j);
      load8(dw, dweight + j);
      load8(db, dbias + j);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        s[k] = rsqrtf(s[k] + eps);
        v[k] -= m[k];
        if (rectified && !passes(y, o[k], v[k] * (s[k] * w[k]) + b[k])) g[k] = 0.f;
      }
      if (dresidual) store8(dresidual + i, g);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = (g[k] - (db[k] + v[k] * s[k] * dw[k]) * each) * (s[k] * w[k]);
      store8(dx + i, v);
    }
    return;
  }
  for EACH(i, rows * c) {
    i64 j = i % c;
    float inv = rsqrtf(variance[j] + eps), v = load(x[i]) - mean[j], g = load(dy[i]);
    if (rectified && !passes(y, y ? load(y[i]) : 0.f, v * (inv * weight[j]) + bias[j])) g = 0.f;
    if (dresidual) dresidual[i] = store<T>(g);
    dx[i] = store<T>((g - (dbias[j] + v * inv * dweight[j]) * each) * (inv * weight[j]));
  }
}

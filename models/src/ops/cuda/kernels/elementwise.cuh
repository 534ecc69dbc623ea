// Ops on one element at a time, and copies.
#pragma once
#include "common.cuh"

// NaN stays NaN, as on the CPU, so that a diverged run is noticed.
__device__ __forceinline__ float relu(float x) { return x <= 0 ? 0.f : x; }
__device__ __forceinline__ float relu_slope(float x, float g) { return x > 0 ? g : 0.f; }
__device__ __forceinline__ float squared_relu(float x) { return relu(x) * relu(x); }
__device__ __forceinline__ float squared_relu_slope(float x, float g) { return 2 * relu(x) * g; }
__device__ __forceinline__ float normal_cdf(float x) { return 0.5f * (1 + erff(x * 0.70710678118654752f)); }
__device__ __forceinline__ float gelu(float x) { return x * normal_cdf(x); }
__device__ __forceinline__ float gelu_slope(float x, float g) {
  return g * (normal_cdf(x) + x * 0.39894228040143268f * expf(-0.5f * x * x));
}
__device__ __forceinline__ float sigmoid(float x) {
  // Of the negative size, so that the exponential cannot overflow.
  float e = expf(x > 0 ? -x : x);
  return (x > 0 ? 1.f : e) / (1 + e);
}
__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }
__device__ __forceinline__ float silu_slope(float x, float g) {
  float s = sigmoid(x);
  return g * s * (1 + x * (1 - s));
}

// `y = f(a)` and `y = f(a, b)`, element by element.
template <class A, class B, class F> __device__ __forceinline__ void each_of(B *y, const A *a, i64 n, F f) {
  if (!eights(n, y, a)) {
    for EACH(i, n) y[i] = store<B>(f(load(a[i])));
    return;
  }
  for EACH(i, n / 8) {
    float x[8];
    load8(x, a + i * 8);
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = f(x[k]);
    store8(y + i * 8, x);
  }
}
template <class A, class B, class C, class F>
__device__ __forceinline__ void each_of_two(C *y, const A *a, const B *b, i64 n, F f) {
  if (!eights(n, y, a, b)) {
    for EACH(i, n) y[i] = store<C>(f(load(a[i]), load(b[i])));
    return;
  }
  for EACH(i, n / 8) {
    float x[8], z[8];
    load8(x, a + i * 8);
    load8(z, b + i * 8);
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = f(x[k], z[k]);
    store8(y + i * 8, x);
  }
}

#define CURVE(name)                                                                                                    \
  KERNEL(name##_forward, (T *y, const T *x, i64 n)) {                                                                  \
    each_of(y, x, n, [](float v) { return name(v); });                                                                 \
  }                                                                                                                    \
  KERNEL(name##_backward, (T *dx, const T *x, const T *dy, i64 n)) {                                                   \
    each_of_two(dx, x, dy, n, [](float v, float g) { return name##_slope(v, g); });                                    \
  }
CURVE(relu)
CURVE(squared_relu)
CURVE(gelu)
CURVE(silu)

KERNEL(star_relu_forward, (T *y, const T *x, const float *scale, const float *bias, i64 n)) {
  float s = *scale, b = *bias;
  each_of(y, x, n, [=](float v) { return s * squared_relu(v) + b; });
}

// `sums` has two numbers for each block: the gradients of scale and bias, in parts.
KERNEL(star_relu_backward, (T *dx, float *sums, const T *x, const T *dy, const float *scale, i64 n)) {
  float s = *scale, dscale = 0, dbias = 0;
  each_of_two(dx, x, dy, n, [&](float v, float g) {
    dscale += squared_relu(v) * g;
    dbias += g;
    return s * squared_relu_slope(v, g);
  });
  dscale = block_sum(dscale);
  dbias = block_sum(dbias);
  if (threadIdx.x == 0) {
    sums[2 * blockIdx.x] = dscale;
    sums[2 * blockIdx.x + 1] = dbias;
  }
}

// Sums in the type of the first term.
template <class A, class B> __device__ void add(A *y, const A *a, const B *b, i64 n) {
  each_of_two(y, a, b, n, [](float v, float w) { return v + w; });
}
KERNEL(add, (T *y, const T *a, const T *b, i64 n)) { add<T, T>(y, a, b, n); }
KERNEL(add_to_wide, (float *y, const float *a, const T *b, i64 n)) { add<float, T>(y, a, b, n); }
KERNEL(add_to_narrow, (T *y, const T *a, const float *b, i64 n)) { add<T, float>(y, a, b, n); }

KERNEL(scale_elements, (T *y, const T *x, const float *factors, i64 n)) {
  for EACH(i, n) y[i] = store<T>(load(x[i]) * factors[i]);
}

// Scales of a residual connection; null for ones. A dropped branch counts as zero even where it is
// not finite.
__device__ __forceinline__ float factor(const float *channel, const float *keep, Index i, i64 c, i64 per_sample) {
  return (channel ? channel[i % c] : 1.f) * (keep ? keep[i / per_sample] : 1.f);
}
// Eight factors of channels from one on, or ones.
__device__ __forceinline__ void factors8(float (&to)[8], const float *channel, i64 first) {
#pragma unroll
  for (int k = 0; k < 8; ++k) to[k] = 1.f;
  if (channel) load8(to, channel + first);
}
template <class S, class B>
__device__ void residual(S *y, const S *x, const B *branch, const float *skip, const float *scale, const float *keep,
                         i64 c, i64 per_sample, i64 n) {
  if (eights(c, y, x, branch, skip, scale)) {
    for EACH(at, n / 8) {
      Index i = at.at * 8;
      i64 channel = skip || scale ? (i64)(i % c) : 0;
      float by = keep ? keep[i / per_sample] : 1.f, v[8], term[8] = {}, own[8], of_skip[8];
      load8(v, x + i);
      if (by != 0) load8(term, branch + i);
      factors8(own, scale, channel);
      factors8(of_skip, skip, channel);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = v[k] * of_skip[k] + (by != 0 ? term[k] * (own[k] * by) : 0.f);
      store8(y + i, v);
    }
    return;
  }
  for EACH(i, n) {
    bool kept = !keep || keep[i / per_sample] != 0;
    float term = kept ? load(branch[i]) * factor(scale, keep, i, c, per_sample) : 0.f;
    y[i] = store<S>(load(x[i]) * (skip ? skip[i % c] : 1.f) + term);
  }
}
KERNEL(residual_forward, (T *y, const T *x, const T *branch, const float *skip, const float *scale, const float *keep,
                          i64 c, i64 per_sample, i64 n)) {
  residual<T, T>(y, x, branch, skip, scale, keep, c, per_sample, n);
}
KERNEL(residual_forward_wide, (float *y, const float *x, const T *branch, const float *skip, const float *scale,
                               const float *keep, i64 c, i64 per_sample, i64 n)) {
  residual<float, T>(y, x, branch, skip, scale, keep, c, per_sample, n);
}

// `dy` times a factor of each channel and of each sample.
template <class O, class S>
__device__ void scaled(O *out, const S *dy, const float *channel, const float *keep, i64 c, i64 per_sample, i64 n) {
  if (eights(c, out, dy, channel)) {
    for EACH(at, n / 8) {
      Index i = at.at * 8;
      float by = keep ? keep[i / per_sample] : 1.f, v[8], own[8];
      load8(v, dy + i);
      factors8(own, channel, channel ? (i64)(i % c) : 0);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] *= own[k] * by;
      store8(out + i, v);
    }
    return;
  }
  for EACH(i, n) out[i] = store<O>(load(dy[i]) * factor(channel, keep, i, c, per_sample));
}
KERNEL(scale_rows, (T *out, const T *dy, const float *channel, const float *keep, i64 c, i64 per_sample, i64 n)) {
  scaled<T, T>(out, dy, channel, keep, c, per_sample, n);
}
KERNEL(scale_rows_from_wide,
       (T *out, const float *dy, const float *channel, const float *keep, i64 c, i64 per_sample, i64 n)) {
  scaled<T, float>(out, dy, channel, keep, c, per_sample, n);
}

KERNEL(to_wide, (float *y, const T *x, i64 n)) {
  each_of(y, x, n, [](float v) { return v; });
}
KERNEL(from_wide, (T *y, const float *x, i64 n)) {
  each_of(y, x, n, [](float v) { return v; });
}

// What a strided tensor holds, in order. Dimensions of length 1 fill up to six.
struct Layout {
  i64 lengths[6], strides[6];
};
__device__ __forceinline__ i64 place_of(const Layout &from, Index rest) {
  i64 at = 0;
  for (int d = 5; d >= 0; --d) {
    at += rest % from.lengths[d] * from.strides[d];
    rest = rest / from.lengths[d];
  }
  return at;
}
KERNEL(copy_strided, (T *y, const T *x, Layout from, i64 n)) {
  // Sixteen bytes at a time, if they are together in both.
  const int width = 16 / sizeof(T);
  bool wide = from.strides[5] == 1 && from.lengths[5] % width == 0 && ((unsigned long long)x | (unsigned long long)y) % 16 == 0;
  for (int d = 0; d < 5; ++d) wide = wide && from.strides[d] % width == 0;
  if (wide) {
    for EACH(i, n / width) *(uint4 *)(y + i * width) = *(const uint4 *)(x + place_of(from, i.at * width));
    return;
  }
  for EACH(i, n) y[i] = x[place_of(from, i)];
}

// `width` of every `from_width` numbers, from `from_start` on, to places `to_width` apart: slices
// and their inverse.
KERNEL(copy_columns, (T *y, const T *x, i64 width, i64 from_width, i64 from_start, i64 to_width, i64 to_start, i64 n)) {
  for EACH(i, n) {
    i64 row = i / width, j = i % width;
    y[row * to_width + to_start + j] = x[row * from_width + from_start + j];
  }
}

// Rows of `x` at the given places, and back (each place occurs once).
KERNEL(gather_rows, (T *y, const T *x, const u32 *rows, i64 c, i64 n)) {
  for EACH(i, n) y[i] = x[rows[i / c] * c + i % c];
}
KERNEL(scatter_rows, (T *y, const T *x, const u32 *rows, i64 c, i64 n)) {
  for EACH(i, n) y[rows[i / c] * c + i % c] = x[i];
}
// Row `rows[i]` of `x`, or the filler where it is `none`.
KERNEL(gather_rows_or, (T *y, const T *x, const float *filler, const u32 *rows, u32 none, i64 c, i64 n)) {
  for EACH(i, n) {
    u32 row = rows[i / c];
    y[i] = row == none ? store<T>(filler[i % c]) : x[row * c + i % c];
  }
}

// First tokens (parameters, one after another) before the patches of each sample, plus a position
// embedding.
KERNEL(join_tokens, (T *y, const T *patches, const float *first, const float *position, i64 extra, i64 length, i64 c,
                     i64 n)) {
  i64 all = (extra + length) * c;
  for EACH(i, n) {
    i64 sample = i / all, at = i % all;
    float token = at < extra * c ? first[at] : load(patches[sample * length * c + at - extra * c]);
    y[i] = store<T>(token + position[at]);
  }
}

KERNEL(upsample_forward, (T *y, const T *x, i64 h, i64 w, i64 c, i64 factor, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % c, px = i / c % (w * factor), py = i / c / (w * factor) % (h * factor), b = i / c / (w * factor) / (h * factor);
    y[i] = x[((b * h + py / factor) * w + px / factor) * c + ch];
  }
}
KERNEL(upsample_backward, (T *dx, const T *dy, i64 h, i64 w, i64 c, i64 factor, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % c, px = i / c % w, py = i / c / w % h, b = i / c / w / h;
    float sum = 0;
    for (i64 y = 0; y < factor; ++y)
      for (i64 x = 0; x < factor; ++x)
        sum += load(dy[((b * h * factor + py * factor + y) * w * factor + px * factor + x) * c + ch]);
    dx[i] = store<T>(sum);
  }
}

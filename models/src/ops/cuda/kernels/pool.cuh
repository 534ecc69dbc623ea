// Pooling of channels-last images.
#pragma once
#include "common.cuh"

struct Window {
  i64 h, w, c, kernel, stride, pad, ho, wo;
};

// Ties go to the first pixel in reading order; NaN wins, as in PyTorch. `taps` remembers the
// winner's place in its window. A thread has WIDTH channels: eight, or one where rows do not allow it.
template <int WIDTH> __device__ __forceinline__ void take_channels(float (&to)[WIDTH], const T *from) {
  if constexpr (WIDTH == 8) load8(to, from);
  else to[0] = load(*from);
}
template <int WIDTH> __device__ __forceinline__ void give_channels(T *to, const float (&from)[WIDTH]) {
  if constexpr (WIDTH == 8) store8(to, from);
  else *to = store<T>(from[0]);
}
template <int WIDTH> __device__ __forceinline__ void max_pool(T *y, u8 *taps, const T *x, const Window &g, i64 n) {
  for EACH(at, n / WIDTH) {
    Index i = at.at * WIDTH;
    i64 ch = i % g.c, ox = i / g.c % g.wo, oy = i / g.c / g.wo % g.ho, b = i / g.c / g.wo / g.ho;
    float best[WIDTH] = {};
    u8 winners[WIDTH];
    bool any = false;
    for (i64 ky = 0; ky < g.kernel; ++ky)
      for (i64 kx = 0; kx < g.kernel; ++kx) {
        i64 iy = oy * g.stride + ky - g.pad, ix = ox * g.stride + kx - g.pad;
        if (iy < 0 || ix < 0 || iy >= g.h || ix >= g.w) continue;
        float v[WIDTH];
        take_channels<WIDTH>(v, x + ((b * g.h + iy) * g.w + ix) * g.c + ch);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k)
          if (!any || v[k] > best[k] || v[k] != v[k]) {
            best[k] = v[k];
            winners[k] = (u8)(ky * g.kernel + kx);
          }
        any = true;
      }
    give_channels<WIDTH>(y + i, best);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) taps[i + k] = winners[k];
  }
}
KERNEL(max_pool_forward, (T *y, u8 *taps, const T *x, Window g, i64 n)) {
  if (eights(g.c, y, x)) max_pool<8>(y, taps, x, g, n);
  else max_pool<1>(y, taps, x, g, n);
}

template <int WIDTH> __device__ __forceinline__ void max_pool_slope(T *dx, const T *dy, const u8 *taps, const Window &g, i64 n) {
  for EACH(at, n / WIDTH) {
    Index i = at.at * WIDTH;
    i64 ch = i % g.c, ix = i / g.c % g.w, iy = i / g.c / g.w % g.h, b = i / g.c / g.w / g.h;
    float sums[WIDTH] = {};
    for (i64 ky = 0; ky < g.kernel; ++ky)
      for (i64 kx = 0; kx < g.kernel; ++kx) {
        i64 top = iy + g.pad - ky, left = ix + g.pad - kx;
        if (top < 0 || left < 0) continue;
        i64 oy = Index(top) / g.stride, ox = Index(left) / g.stride;
        if (oy * g.stride != top || ox * g.stride != left) continue;
        if (oy >= g.ho || ox >= g.wo) continue;
        i64 o = ((b * g.ho + oy) * g.wo + ox) * g.c + ch;
        float v[WIDTH];
        take_channels<WIDTH>(v, dy + o);
#pragma unroll
        for (int k = 0; k < WIDTH; ++k)
          if (taps[o + k] == ky * g.kernel + kx) sums[k] += v[k];
      }
    give_channels<WIDTH>(dx + i, sums);
  }
}
KERNEL(max_pool_backward, (T *dx, const T *dy, const u8 *taps, Window g, i64 n)) {
  if (eights(g.c, dx, dy)) max_pool_slope<8>(dx, dy, taps, g, n);
  else max_pool_slope<1>(dx, dy, taps, g, n);
}

KERNEL(avg_pool_forward, (T *y, const T *x, i64 pixels, i64 c, i64 n)) {
  for EACH(i, n) {
    i64 b = i / c, ch = i % c;
    float sum = 0;
    for (i64 p = 0; p < pixels; ++p) sum += load(x[(b * pixels + p) * c + ch]);
    y[i] = store<T>(sum / pixels);
  }
}
KERNEL(avg_pool_backward, (T *dx, const T *dy, i64 pixels, i64 c, i64 n)) {
  for EACH(i, n) dx[i] = store<T>(load(dy[i / c / pixels * c + i % c]) / pixels);
}

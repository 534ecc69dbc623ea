// Pooling of channels-last images.
#pragma once
#include "common.cuh"

struct Window {
  i64 h, w, c, kernel, stride, pad, ho, wo;
};

// Ties go to the first pixel in reading order; NaN wins, as in PyTorch. `taps` remembers the
// winner's place in its window.
KERNEL(max_pool_forward, (T *y, u8 *taps, const T *x, Window g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % g.c, ox = i / g.c % g.wo, oy = i / g.c / g.wo % g.ho, b = i / g.c / g.wo / g.ho;
    float best = 0;
    int tap = -1;
    for (i64 ky = 0; ky < g.kernel; ++ky)
      for (i64 kx = 0; kx < g.kernel; ++kx) {
        i64 iy = oy * g.stride + ky - g.pad, ix = ox * g.stride + kx - g.pad;
        if (iy < 0 || ix < 0 || iy >= g.h || ix >= g.w) continue;
        float v = load(x[((b * g.h + iy) * g.w + ix) * g.c + ch]);
        if (tap < 0 || v > best || v != v) {
          best = v;
          tap = ky * g.kernel + kx;
        }
      }
    y[i] = store<T>(best);
    taps[i] = tap;
  }
}

KERNEL(max_pool_backward, (T *dx, const T *dy, const u8 *taps, Window g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % g.c, ix = i / g.c % g.w, iy = i / g.c / g.w % g.h, b = i / g.c / g.w / g.h;
    float sum = 0;
    for (i64 ky = 0; ky < g.kernel; ++ky)
      for (i64 kx = 0; kx < g.kernel; ++kx) {
        i64 top = iy + g.pad - ky, left = ix + g.pad - kx;
        if (top < 0 || left < 0) continue;
        i64 oy = Index(top) / g.stride, ox = Index(left) / g.stride;
        if (oy * g.stride != top || ox * g.stride != left) continue;
        if (oy >= g.ho || ox >= g.wo) continue;
        i64 o = ((b * g.ho + oy) * g.wo + ox) * g.c + ch;
        if (taps[o] == ky * g.kernel + kx) sum += load(dy[o]);
      }
    dx[i] = store<T>(sum);
  }
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

// Bytes to the input of a network: normalized, erased, mixed.
#pragma once
#include "common.cuh"

// A batch of bytes and how each image is blended with its partner: 0 not at all, 1 by a share, 2 by
// a box.
struct Batch {
  i64 n, h, w, c, blend, y0, y1, x0, x1;
};

// The normalized value of a pixel, or the value that the image's box (top, left, height, width,
// first value) is overwritten with.
__device__ __forceinline__ float preprocessed(const u8 *x, const u32 *boxes, const float *values, float mean, float std,
                                          Batch g, i64 image, i64 row, i64 col, i64 ch) {
  const u32 *box = boxes + 5 * image;
  if (row >= box[0] && row < box[0] + box[2] && col >= box[1] && col < box[1] + box[3])
    return values[box[4] + ((row - box[0]) * box[3] + col - box[1]) * g.c + ch];
  return ((float)x[((image * g.h + row) * g.w + col) * g.c + ch] / 255.0f - mean) / std;
}

KERNEL(normalize_erase_mix, (float *y, const u8 *x, const u32 *boxes, const float *values, float mean0, float mean1,
                         float mean2, float std0, float std1, float std2, float own, Batch g, i64 n)) {
  for EACH(i, n) {
    i64 ch = i % g.c, col = i / g.c % g.w, row = i / g.c / g.w % g.h, image = i / g.c / g.w / g.h;
    i64 partner = g.n - 1 - image;
    float mean = ch == 0 ? mean0 : ch == 1 ? mean1 : mean2, std = ch == 0 ? std0 : ch == 1 ? std1 : std2;
    bool inside = g.blend == 2 && row >= g.y0 && row < g.y1 && col >= g.x0 && col < g.x1;
    float value = preprocessed(x, boxes, values, mean, std, g, inside ? partner : image, row, col, ch);
    if (g.blend == 1 && partner != image)
      value = value * own + preprocessed(x, boxes, values, mean, std, g, partner, row, col, ch) * (1.0f - own);
    y[i] = value;
  }
}

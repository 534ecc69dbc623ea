// As much of cuBLASLt as linear layers with a bias use, by plain loops over matrices that lie column by column. The workspace is
// written to, so that one too small shows.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "emulated.h"

namespace {
struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t stride;
};
struct Description {
  int sums = 0, factors = -1, transposed[2] = {};
  uint32_t epilogue = 1;
  const void *bias = nullptr;
};
struct Wishes {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
struct Found {
  uint64_t algorithm[8];
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};
constexpr uint64_t ALGORITHM = 0x6C74;
constexpr size_t WORKSPACE = 4096;
constexpr int WITH_BIAS = 4;

int refuse(const char *why) { return fprintf(stderr, "pretend cuBLASLt: %s\n", why), 7; }

// 0: single precision, 2: half, 14: bfloat16, as cudaDataType counts.
float number(const void *p, int type, size_t i) {
  if (type == 0) return ((const float *)p)[i];
  return type == 2 ? __half2float(((const __half *)p)[i]) : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
void put(void *p, int type, size_t i, float value) {
  if (type == 0) ((float *)p)[i] = value;
  if (type == 2) ((__half *)p)[i] = __float2half(value);
  if (type == 14) ((__nv_bfloat16 *)p)[i] = __float2bfloat16(value);
}

// The layers that are computed here: a bias, the first factor transposed, one type, sums in single precision.
int check(const Description *d, const Layout *a, const Layout *b, const Layout *c, const Layout *to) {
  if (d->epilogue != WITH_BIAS || !d->transposed[0] || d->transposed[1]) return refuse("a product of another kind");
  if ((d->sums != 68 && d->sums != 77) || d->factors != 0) return refuse("sums that are not in single precision");
  if (a->type != b->type || a->type != to->type || c->type != to->type) return refuse("matrices of different types");
  if (a->rows != b->rows || to->rows != a->cols || to->cols != b->cols) return refuse("shapes that do not belong together");
  for (const Layout *l : {a, b, c, to})
    if (l->stride < (int64_t)l->rows) return refuse("columns that overlap");
  return 0;
}
} // namespace

extern "C" {
int cublasLtCreate(void **handle) { return *handle = (void *)56, 0; }
int cublasLtDestroy(void *) { return 0; }
int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t cols, int64_t stride) {
  if (type != 0 && type != 2 && type != 14) return refuse("an element type");
  return *out = new Layout{type, rows, cols, stride}, 0;
}
int cublasLtMatrixLayoutDestroy(void *layout) { return delete (Layout *)layout, 0; }
int cublasLtMatmulDescCreate(void **out, int sums, int factors) {
  auto *made = new Description;
  made->sums = sums, made->factors = factors;
  return *out = made, 0;
}
int cublasLtMatmulDescDestroy(void *d) { return delete (Description *)d, 0; }
int cublasLtMatmulDescSetAttribute(void *description, int attribute, const void *value, size_t size) {
  auto *d = (Description *)description;
  if (attribute == 3 || attribute == 4) {
    if (size != 4) return refuse("a size of an attribute");
    return memcpy(&d->transposed[attribute - 3], value, 4), 0;
  }
  if (attribute == 7) return size == 4 ? (memcpy(&d->epilogue, value, 4), 0) : refuse("a size of an attribute");
  if (attribute == 8) return size == 8 ? (memcpy(&d->bias, value, 8), 0) : refuse("a size of an attribute");
  return refuse("an attribute of a product");
}
int cublasLtMatmulPreferenceCreate(void **out) { return *out = new Wishes, 0; }
int cublasLtMatmulPreferenceDestroy(void *wishes) { return delete (Wishes *)wishes, 0; }
int cublasLtMatmulPreferenceSetAttribute(void *wishes, int attribute, const void *value, size_t size) {
  auto *w = (Wishes *)wishes;
  if (attribute == 1) return size == 8 ? (memcpy(&w->workspace, value, 8), 0) : refuse("a size of an attribute");
  if (attribute >= 5 && attribute <= 8) return size == 4 ? (memcpy(&w->alignment[attribute - 5], value, 4), 0) : refuse("a size of an attribute");
  return refuse("an attribute of a wish");
}
int cublasLtMatmulAlgoGetHeuristic(void *, void *d, void *a, void *b, void *c, void *to, void *wishes, int room, Found *found, int *count) {
  *count = 0;
  int status = check((Description *)d, (Layout *)a, (Layout *)b, (Layout *)c, (Layout *)to);
  if (status) return status;
  if (!((Description *)d)->bias) return refuse("a bias without an address");
  auto *w = (Wishes *)wishes;
  // Nothing is to be had for odd addresses, nor for products of a single column: what the caller does then is tried too.
  for (uint32_t bytes : w->alignment)
    if (bytes < 4) return 0;
  if (((Layout *)b)->cols == 1 || room < 1 || w->workspace < WORKSPACE) return 0;
  *found = {};
  found->algorithm[0] = ALGORITHM ^ w->alignment[3];
  found->workspace = WORKSPACE;
  return *count = 1, 0;
}
int cublasLtMatmul(void *, void *description, const float *alpha, const void *a, void *al, const void *b, void *bl, const float *beta,
                   const void *c, void *cl, void *to, void *tl, const uint64_t *algorithm, void *workspace, size_t size, void *) {
  auto *d = (Description *)description;
  auto *la = (Layout *)al, *lb = (Layout *)bl, *lt = (Layout *)tl;
  int status = check(d, la, lb, (Layout *)cl, lt);
  if (status) return status;
  uint64_t alignment = algorithm[0] ^ ALGORITHM;
  if (alignment < 4 || alignment > 256) return refuse("an algorithm that was not proposed");
  if ((uintptr_t)to % alignment) return refuse("an address that is not as was promised");
  if (size != WORKSPACE || !workspace || !d->bias || *beta != 0 || c != to) return refuse("a call that was not planned");
  emulated_do([=, la = *la, lb = *lb, lt = *lt, bias = d->bias, factor = *alpha] {
    memset(workspace, 0xA5, size);
    size_t m = la.cols, n = lb.cols, k = la.rows;
    std::vector<float> left(m * k), right(n * k);
    for (size_t i = 0; i < m; ++i)
      for (size_t l = 0; l < k; ++l) left[i * k + l] = number(a, la.type, i * la.stride + l);
    for (size_t j = 0; j < n; ++j)
      for (size_t l = 0; l < k; ++l) right[j * k + l] = number(b, lb.type, j * lb.stride + l);
    for (size_t j = 0; j < n; ++j)
      for (size_t i = 0; i < m; ++i) {
        float parts[8] = {};
        const float *x = &left[i * k], *y = &right[j * k];
        for (size_t l = 0; l < k; ++l) parts[l % 8] += x[l] * y[l];
        float sum = 0;
        for (float part : parts) sum += part;
        put(to, lt.type, j * lt.stride + i, factor * sum + number(bias, lt.type, i));
      }
  });
  return 0;
}
}

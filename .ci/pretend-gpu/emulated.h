// What CUDA's compiler knows by itself, for an ordinary C++ compiler: kernels run on the CPU, thread by thread, through
// the scheduler of driver.cpp.
#pragma once
#define EMULATED
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

struct Dim3 {
  unsigned x, y, z;
};
extern "C" {
extern Dim3 emulated_threadIdx, emulated_blockIdx, emulated_blockDim, emulated_gridDim;
extern unsigned char *emulated_shared;
void emulated_barrier(int of_warp);
// Exchanges a number with another lane of the warp.
float emulated_shuffle(float x, int mask);
// `sizes` writes the bytes of each argument and returns how many there are.
void emulated_register(const char *name, void (*kernel)(), void (*call)(void (*)(), void **), int (*sizes)(size_t *));
[[noreturn]] void emulated_fault(const char *what);
}
// Does something at once, or writes it down while a graph is recorded.
void emulated_do(std::function<void()> work);
#define threadIdx emulated_threadIdx
#define blockIdx emulated_blockIdx
#define blockDim emulated_blockDim
#define gridDim emulated_gridDim

#define __global__
#define __device__
#define __forceinline__ inline
#define __align__(bytes) alignas(bytes)
// Blocks run one after another, so one copy will do.
#define __shared__ static
#define SHARED_BYTES(name) unsigned char *name = emulated_shared

inline void __syncthreads() { emulated_barrier(0); }
inline void __syncwarp() { emulated_barrier(1); }
inline float __shfl_xor_sync(unsigned, float x, int mask) { return emulated_shuffle(x, mask); }
inline float atomicAdd(float *to, float x) {
  float before = *to;
  *to += x;
  return before;
}
// Sixteen bytes that are moved at once; a GPU does not take them from any other address than a multiple of 16.
struct __attribute__((may_alias, aligned(16))) uint4 {
  unsigned x, y, z, w;
  uint4() = default;
  uint4(unsigned x, unsigned y, unsigned z, unsigned w) : x(x), y(y), z(z), w(w) {}
  uint4(const uint4 &o) { *this = o; }
  uint4 &operator=(const uint4 &o) {
    if (((uintptr_t)this | (uintptr_t)&o) % 16) emulated_fault("sixteen bytes at an address that is not a multiple of 16");
    x = o.x, y = o.y, z = o.z, w = o.w;
    return *this;
  }
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
// What tensor cores want of the rows of a fragment: that each begins at a multiple of 16 bytes.
template <class S> inline void emulated_fragment(const S *p, int ld) {
  if ((uintptr_t)p % 16 || ld * sizeof(S) % 16) emulated_fault("a fragment at an address that no tensor core takes");
}
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
using std::isfinite;
using std::min;

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 x) {
  uint32_t bits = (uint32_t)x.bits << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
inline __nv_bfloat16 __float2bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x) return {(uint16_t)(bits >> 16 | 0x40)};
  return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
struct __half {
  _Float16 value;
};
inline float __half2float(__half x) { return (float)x.value; }
inline __half __float2half(float x) { return {(_Float16)x}; }

template <class... A, size_t... I> void emulated_spread(void (*f)(A...), void **p, std::index_sequence<I...>) {
  f(*(std::remove_reference_t<A> *)p[I]...);
}
template <class... A> struct EmulatedCall {
  static void call(void (*f)(), void **p) { emulated_spread((void (*)(A...))f, p, std::index_sequence_for<A...>()); }
  static int sizes(size_t *to) {
    size_t all[] = {sizeof(std::remove_reference_t<A>)..., 0};
    for (size_t i = 0; i < sizeof...(A); ++i) to[i] = all[i];
    return sizeof...(A);
  }
};
struct EmulatedKernel {
  template <class... A> EmulatedKernel(const char *name, void (*f)(A...)) {
    emulated_register(name, (void (*)())f, EmulatedCall<A...>::call, EmulatedCall<A...>::sizes);
  }
};
#define KERNEL(name, arguments)                                                                                        \
  static void kernel_##name arguments;                                                                                 \
  static EmulatedKernel register_##name(#name, kernel_##name);                                                         \
  static void kernel_##name arguments
#define BOUNDED_KERNEL(name, threads, blocks, arguments) KERNEL(name, arguments)

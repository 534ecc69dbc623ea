// A driver, cuBLAS and cuRAND for one GPU that is not there: as much of them as training uses. Everything happens at once,
// on the CPU; page-locked memory is checked all the same where somebody waits for copies from it. Memory comes filled with
// what is not a number and has guards behind it, so that what is read before it is written, and what is written behind its
// end, shows.
#include <algorithm>
#include <condition_variable>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <ucontext.h>
#include <vector>

#include "emulated.h"

extern "C" {
Dim3 emulated_threadIdx, emulated_blockIdx, emulated_blockDim, emulated_gridDim;
unsigned char *emulated_shared;
}

// ---- threads of a block: each runs until it waits for others ----

namespace {
constexpr int MOST_THREADS = 1024, STACK = 256 << 10;

struct Fiber {
  ucontext_t context;
  jmp_buf at;
  char *stack = nullptr;
  bool running = false;
  Dim3 thread;
};
struct Barrier {
  int arrived = 0, generation = 0;
};

Fiber fibers[MOST_THREADS];
int used, current, threads, next_thread, finished, finished_of_warp[MOST_THREADS / 32];
// Threads of a block begin in order, the other way round, or all over the place, in turn: what holds in one order alone shows.
int order, stride;
Barrier block_barrier, warp_barriers[MOST_THREADS / 32];
float slots[MOST_THREADS];
jmp_buf home;
void (*kernel)();
void (*kernel_call)(void (*)(), void **);
void **kernel_params;

void work() {
  Fiber &self = fibers[current];
  while (next_thread < threads) {
    int begun = next_thread++;
    int thread = order == 0 ? begun : order == 1 ? threads - 1 - begun : (int)((long)begun * stride % threads);
    self.thread = {(unsigned)thread, 0, 0};
    emulated_threadIdx = self.thread;
    kernel_call(kernel, kernel_params);
    ++finished;
    ++finished_of_warp[self.thread.x / 32];
    // Those who wait must not wait for one who is through.
    Barrier &of_warp = warp_barriers[self.thread.x / 32];
    int in_warp = std::min(32, threads - (int)self.thread.x / 32 * 32);
    if (of_warp.arrived && of_warp.arrived == in_warp - finished_of_warp[self.thread.x / 32]) {
      of_warp.arrived = 0;
      ++of_warp.generation;
    }
    if (block_barrier.arrived && block_barrier.arrived == threads - finished) {
      block_barrier.arrived = 0;
      ++block_barrier.generation;
    }
  }
  self.running = false;
}
void enter();

// Goes on with another thread of the block: with one of the same warp if there is one that is to wait for, so that a warp gets
// as far ahead of the others as barriers let it.
void yield(int warp) {
  int from = current;
  if (_setjmp(fibers[from].at) == 0) {
    // (Those that have not begun come first.)
    if (next_thread < threads && used < MOST_THREADS) {
      current = used++;
      enter();
    }
    int next = from;
    if (warp >= 0)
      do next = (next + 1) % used;
      while (next != from && !(fibers[next].running && (int)fibers[next].thread.x / 32 == warp));
    if (next == from)
      do next = (next + 1) % used;
      while (!fibers[next].running);
    current = next;
    _longjmp(fibers[current].at, 1);
  }
  current = from;
  emulated_threadIdx = fibers[from].thread;
}

// A fiber stays for the next block: making one costs a call of the system.
void loop() {
  for (;;) {
    work();
    if (_setjmp(fibers[current].at)) continue;
    // Through: go on with one who is not, or home.
    for (int i = 0; i < used; ++i) {
      current = (current + 1) % used;
      if (fibers[current].running) _longjmp(fibers[current].at, 1);
    }
    _longjmp(home, 1);
  }
}

void enter() {
  Fiber &f = fibers[current];
  f.running = true;
  if (f.stack) _longjmp(f.at, 1);
  f.stack = (char *)malloc(STACK);
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = STACK;
  f.context.uc_link = nullptr;
  makecontext(&f.context, loop, 0);
  setcontext(&f.context);
}

void run_block(long number) {
  order = number % 3;
  // Coprime to the number of threads, which is a whole number of warps, or one.
  for (stride = std::min(threads, 37) | 1; order == 2 && std::gcd(stride, threads) != 1; stride += 2) {
  }
  used = 1;
  current = next_thread = finished = 0;
  block_barrier = {};
  for (int w = 0; w < MOST_THREADS / 32; ++w) {
    warp_barriers[w] = {};
    finished_of_warp[w] = 0;
  }
  if (_setjmp(home) == 0) enter();
}
} // namespace

extern "C" void emulated_barrier(int of_warp) {
  int warp = emulated_threadIdx.x / 32, in_warp = std::min(32, threads - warp * 32);
  Barrier &b = of_warp ? warp_barriers[warp] : block_barrier;
  int waiting_for = of_warp ? in_warp - finished_of_warp[warp] : threads - finished;
  int generation = b.generation;
  if (++b.arrived == waiting_for) {
    b.arrived = 0;
    ++b.generation;
  } else {
    while (b.generation == generation) yield(of_warp ? warp : -1);
  }
}

extern "C" float emulated_shuffle(float x, int mask) {
  int me = emulated_threadIdx.x;
  slots[me] = x;
  emulated_barrier(1);
  float y = slots[me / 32 * 32 + (me % 32 ^ mask)];
  emulated_barrier(1);
  return y;
}

// ---- the driver ----

namespace {
struct Function {
  void (*kernel)();
  void (*call)(void (*)(), void **);
  int (*sizes)(size_t *);
  std::string name;
  int shared = 48 << 10;
};
struct Module {
  std::map<std::string, Function> functions;
};
std::map<std::string, Module *> modules;
Module *loading;

std::recursive_mutex lock;
struct Recording;
struct Piece {
  size_t bytes;
  // The graph that makes it at each launch.
  Recording *graph = nullptr;
};
std::map<char *, Piece> pieces;
uint64_t in_use, most_in_use;
// Memory of the GPU, in bytes.
size_t capacity() {
  static const char *mib = getenv("EFFICIENTTRAIN_PRETEND_GPU_MIB");
  static const size_t bytes = (mib && atoll(mib) > 0 ? (size_t)atoll(mib) : 8192) << 20;
  return bytes;
}
constexpr size_t GUARD = 256;
constexpr unsigned char MARK = 0xA5;

int refuse(const char *what) {
  fprintf(stderr, "pretend GPU: %s\n", what);
  return 1;
}
[[noreturn]] void fault(const char *what) {
  refuse(what);
  abort();
}

// With EFFICIENTTRAIN_PRETEND_GPU_COUNTS the process says at its end what it asked the GPU for, and how often.
struct Counts {
  const bool wanted = getenv("EFFICIENTTRAIN_PRETEND_GPU_COUNTS");
  std::map<std::string, long> of;
  ~Counts() {
    for (auto &[what, times] : of) fprintf(stderr, "pretend GPU: %s: %ld\n", what.c_str(), times);
  }
} counts;
void count(const std::string &what) {
  if (!counts.wanted) return;
  std::lock_guard<std::recursive_mutex> guard(lock);
  ++counts.of[what];
}

// ---- what is on its way: a GPU reads page-locked memory when it comes to it ----

// Pieces of page-locked memory by where they begin, and copies from them that nobody has waited for, each with what was there
// when it was asked for. Work counts up along the one stream.
struct Copy {
  uint64_t number;
  const char *from;
  std::vector<char> bytes;
};
std::map<const char *, size_t> locked;
std::vector<Copy> under_way;
uint64_t work_so_far;
// Number of what this thread has asked for last.
thread_local uint64_t work_of_thread;
struct Event {
  uint64_t number = 0;
  void *stream = nullptr;
  uint64_t sum = 0;
};
// Somebody waited for all work up to that number: whatever was copied until then must not have changed since it was asked for.
void through(uint64_t number) {
  count("waits");
  std::lock_guard<std::recursive_mutex> guard(lock);
  for (size_t i = 0; i < under_way.size();) {
    if (under_way[i].number > number) {
      ++i;
      continue;
    }
    if (memcmp(under_way[i].from, under_way[i].bytes.data(), under_way[i].bytes.size()))
      fault("page-locked memory was written to before a copy of it was through");
    under_way.erase(under_way.begin() + i);
  }
}
// Something was asked for.
uint64_t note_work() {
  std::lock_guard<std::recursive_mutex> guard(lock);
  return work_of_thread = ++work_so_far;
}
void note_copy(const void *from, size_t n) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto piece = locked.upper_bound((const char *)from);
  if (piece == locked.begin()) return;
  --piece;
  if ((const char *)from >= piece->first + piece->second) return;
  under_way.push_back({note_work(), (const char *)from, std::vector<char>((const char *)from, (const char *)from + n)});
}
int free_locked(void *p) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  for (auto &copy : under_way)
    if (copy.from >= (char *)p && copy.from < (char *)p + locked[(char *)p])
      fault("page-locked memory was given back before a copy of it was through");
  locked.erase((char *)p);
  free(p);
  return 0;
}

// ---- sums over several GPUs: they run beside everything else, on a stream of their own ----

// A sum is done when NCCL says so, and seen to be done when the host or another stream has waited for it.
struct Sum {
  uint64_t number;
  void *stream;
  const char *at;
  size_t bytes;
  bool done;
};
std::vector<Sum> sums;
uint64_t sums_so_far;
std::condition_variable_any sum_done;
// The work that a stream has waited for.
std::map<void *, uint64_t> waited_for;

bool is_done(void *stream, uint64_t last) {
  for (auto &sum : sums)
    if (sum.stream == stream && sum.number <= last && !sum.done) return false;
  return true;
}
void see(void *stream, uint64_t last) {
  sums.erase(std::remove_if(sums.begin(), sums.end(),
                            [&](Sum &sum) { return sum.stream == stream && sum.number <= last && sum.done; }),
             sums.end());
}
void wait_for_sums(void *stream, uint64_t last) {
  std::unique_lock<std::recursive_mutex> guard(lock);
  sum_done.wait(guard, [&] { return is_done(stream, last); });
  see(stream, last);
}
uint64_t last_sum_of(void *stream) {
  uint64_t last = 0;
  for (auto &sum : sums)
    if (sum.stream == stream) last = std::max(last, sum.number);
  return last;
}
void check_no_sum(const char *at, size_t bytes) {
  for (auto &sum : sums)
    if (sum.at < at + bytes && at < sum.at + sum.bytes) fault("memory was given back before a sum in it was waited for");
}

thread_local void *context_of_thread;
// Whether this thread has a context: a driver does next to nothing without one.
bool bound() {
  if (!context_of_thread) refuse("a thread without a context");
  return context_of_thread;
}

// ---- graphs: work that is written down while the stream records, and done at each launch ----

// As CUgraphNodeType counts.
enum { COPY = 1, FILL = 2, OTHER = 0, MAKE = 10, FREE = 11 };
struct Node {
  int type;
  std::function<void()> work;
  bool from_host = false;
  size_t bytes = 0;
};
struct Recording {
  std::vector<Node> nodes;
  // Pieces that it makes, and those of them that exist after a launch, until they are freed or made again.
  std::map<char *, size_t> made;
  std::map<char *, bool> exists;
  size_t now = 0, most = 0;
  bool bad = false, launched = false, frees_by_itself = false;
};
Recording *recording;
uint64_t in_graphs, most_in_graphs;

bool write_down(int type, std::function<void()> work, bool from_host = false, size_t bytes = 0) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!recording) return false;
  recording->nodes.push_back({type, std::move(work), from_host, bytes});
  return true;
}
// Whoever waits for the GPU while its work is written down only spoils the recording.
int spoiled() {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!recording) return 0;
  recording->bad = true;
  refuse("a wait within a recording");
  return 900;
}

int allocate(void **to, size_t bytes) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!bound()) return 201;
  if (recording && bytes) {
    char *at = (char *)aligned_alloc(256, (bytes + GUARD + 255) / 256 * 256);
    if (!at) return 2;
    pieces[at] = {bytes, recording};
    recording->made[at] = bytes;
    recording->most = std::max(recording->most, recording->now += bytes);
    auto *of = recording;
    write_down(MAKE, [=] {
      memset(at, 0xFF, bytes);
      memset(at + bytes, MARK, GUARD);
      of->exists[at] = true;
    });
    return *to = at, 0;
  }
  // Memory of no size has no address.
  if (!bytes) return *to = nullptr, 0;
  count("pieces of memory");
  if (bytes > capacity() - in_use) return 2;
  char *at = (char *)aligned_alloc(256, (bytes + GUARD + 255) / 256 * 256);
  if (!at) return 2;
  memset(at, 0xFF, bytes);
  memset(at + bytes, MARK, GUARD);
  pieces[at] = {bytes};
  in_use += bytes;
  most_in_use = std::max(most_in_use, in_use);
  *to = at;
  return 0;
}

int release(void *p) {
  if (!p) return 0;
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto found = pieces.find((char *)p);
  if (found == pieces.end()) abort();
  size_t bytes = found->second.bytes;
  check_no_sum((char *)p, bytes);
  auto check_guard = [=] {
    for (size_t i = 0; i < GUARD; ++i)
      if ((unsigned char)((char *)p)[bytes + i] != MARK) fault("a kernel wrote behind the end of a tensor");
  };
  auto *graph = found->second.graph;
  if (recording) {
    if (graph != recording) fault("memory from before a recording was freed within it");
    recording->now -= bytes;
    write_down(FREE, [=] {
      check_guard();
      memset(p, 0xFF, bytes);
      graph->exists[(char *)p] = false;
    });
    return 0;
  }
  if (graph) {
    // What no launch has made cannot be freed.
    if (!graph->exists[(char *)p]) return refuse("memory of a graph that does not exist"), 1;
    check_guard();
    memset(p, 0xFF, bytes);
    graph->exists[(char *)p] = false;
    return 0;
  }
  check_guard();
  in_use -= bytes;
  pieces.erase(found);
  // Who reads it now reads what is not a number, until somebody else gets it.
  memset(p, 0xFF, bytes);
  free(p);
  return 0;
}
} // namespace

void emulated_do(std::function<void()> work) {
  if (!write_down(OTHER, work)) work();
}

extern "C" {
void emulated_fault(const char *what) { fault(what); }
void emulated_register(const char *name, void (*kernel)(), void (*call)(void (*)(), void **), int (*sizes)(size_t *)) {
  loading->functions[name] = {kernel, call, sizes, name};
}

// NCCL begins a sum on a stream; the memory must be there, and the stream must have waited for the work before. Returns the
// number of the sum.
uint64_t emulated_sum(void *stream, const void *at, size_t bytes) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto piece = pieces.upper_bound((char *)at);
  if (piece == pieces.begin()) fault("a sum of something that is no memory of the GPU");
  --piece;
  if ((char *)at + bytes > piece->first + piece->second.bytes) fault("a sum goes beyond the end of a tensor");
  count("sums over GPUs");
  if (waited_for[stream] < work_of_thread) fault("a sum does not wait for the work before it");
  sums.push_back({++sums_so_far, stream, (const char *)at, bytes, false});
  return sums_so_far;
}
void emulated_sum_done(uint64_t number) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  for (auto &sum : sums)
    if (sum.number == number) sum.done = true;
  sum_done.notify_all();
}

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal == 0 ? 0 : 101; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGetName(char *name, int length, int) { return snprintf(name, length, "pretend GPU"), 0; }
// 75 and 76 are the compute capability, 97 the shared memory that a block may ask for; of the rest it is enough that they are there.
int cuDeviceGetAttribute(int *value, int attribute, int) {
  return *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 227 << 10 : 1, 0;
}
// A process sees one GPU, the first of CUDA_VISIBLE_DEVICES: each name is another one.
int cuDeviceGetUuid_v2(char *uuid, int) {
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  std::string name = visible && *visible ? visible : "0";
  name = "pretend " + name.substr(0, name.find(','));
  name.resize(16, ' ');
  memcpy(uuid, name.data(), 16);
  return 0;
}
int cuDeviceGetUuid(char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = capacity(), 0; }
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = (void *)8, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(void *context) { return context_of_thread = context, 0; }
int cuCtxGetCurrent(void **context) { return *context = context_of_thread, 0; }
int cuCtxSynchronize() { return through(work_so_far), 0; }
int cuStreamCreate(void **stream, unsigned) { return *stream = malloc(16), 0; }
int cuStreamDestroy_v2(void *) { return 0; }
int cuStreamSynchronize(void *stream) {
  if (int bad = spoiled()) return bad;
  wait_for_sums(stream, sums_so_far);
  return through(work_so_far), 0;
}
int cuStreamWaitEvent(void *stream, void *event, unsigned) {
  auto &of = *(Event *)event;
  if (of.stream != stream) wait_for_sums(of.stream, of.sum);
  std::lock_guard<std::recursive_mutex> guard(lock);
  waited_for[stream] = std::max(waited_for[stream], of.number);
  return 0;
}
int cuStreamIsCapturing(void *, int *status) { return *status = recording ? 1 : 0, 0; }
int cuStreamBeginCapture_v2(void *, int) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!bound()) return 201;
  if (recording) return refuse("a recording within a recording");
  recording = new Recording;
  return 0;
}
int cuStreamEndCapture(void *, void **graph) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!recording) return refuse("the end of no recording");
  auto *done = recording;
  recording = nullptr;
  return *graph = done->bad ? nullptr : done, done->bad ? 901 : 0;
}
// A graph and what is launched are one here.
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
  ((Recording *)graph)->frees_by_itself = flags & 1;
  return *executable = graph, 0;
}
int cuGraphLaunch(void *graph, void *) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!bound()) return 201;
  auto &of = *(Recording *)graph;
  if (!of.launched) {
    if (of.most > capacity() - in_use - in_graphs) return 2;
    most_in_graphs = std::max(most_in_graphs, in_graphs += of.most);
    of.launched = true;
  }
  for (auto &[at, exists] : of.exists)
    if (exists && !of.frees_by_itself) return refuse("a launch of a graph whose memory was not freed");
  count("launches of graphs");
  for (auto &node : of.nodes) node.work();
  note_work();
  return 0;
}
int cuGraphExecDestroy(void *graph) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto &of = *(Recording *)graph;
  for (auto &[at, bytes] : of.made) {
    pieces[at].graph = nullptr;
    if (of.exists[at]) {
      in_use += bytes;
      continue;
    }
    pieces.erase(at);
    free(at);
  }
  if (of.launched) in_graphs -= of.most;
  of.nodes.clear();
  return 0;
}
int cuGraphDestroy(void *) { return 0; }
int cuGraphGetNodes(void *graph, void **nodes, size_t *count) {
  auto &of = *(Recording *)graph;
  if (!nodes) return *count = of.nodes.size(), 0;
  for (size_t i = 0; i < *count; ++i) nodes[i] = &of.nodes[i];
  return 0;
}
int cuGraphNodeGetType(void *node, int *type) { return *type = ((Node *)node)->type, 0; }
// Of the structure only the kinds of memory (1: the host's, 2: the GPU's) and the width are filled in.
int cuGraphMemcpyNodeGetParams(void *node, void *copy) {
  auto *words = (char *)copy;
  unsigned kinds[] = {((Node *)node)->from_host ? 1u : 2u, 2u};
  memcpy(words + 32, &kinds[0], 4);
  memcpy(words + 120, &kinds[1], 4);
  size_t bytes = ((Node *)node)->bytes;
  return memcpy(words + 176, &bytes, 8), 0;
}
int cuDeviceGetGraphMemAttribute(int, int which, uint64_t *value) {
  return *value = which == 1 || which == 3 ? most_in_graphs : in_graphs, 0;
}
int cuDeviceSetGraphMemAttribute(int, int, uint64_t *) { return most_in_graphs = in_graphs, 0; }
int cuDeviceGraphMemTrim(int) { return 0; }
int cuMemPoolTrimTo(void *, size_t) { return 0; }
// One that was never recorded is waited for by nobody.
int cuEventCreate(void **event, unsigned) { return *event = new Event, 0; }
int cuEventDestroy_v2(void *event) { return delete (Event *)event, 0; }
int cuEventRecord(void *event, void *stream) {
  if (int bad = spoiled()) return bad;
  std::lock_guard<std::recursive_mutex> guard(lock);
  return *(Event *)event = {work_so_far, stream, last_sum_of(stream)}, 0;
}
int cuEventSynchronize(void *event) {
  auto &of = *(Event *)event;
  wait_for_sums(of.stream, of.sum);
  return through(of.number), 0;
}
int cuEventQuery(void *event) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto &of = *(Event *)event;
  if (!is_done(of.stream, of.sum)) return 600;
  see(of.stream, of.sum);
  return 0;
}
int cuGetErrorName(int error, const char **name) {
  return *name = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "PRETEND_GPU_ERROR", 0;
}
int cuGetErrorString(int error, const char **text) {
  return *text = error == 2 ? "out of memory" : "the pretend GPU cannot do this", 0;
}

int cuMemAlloc_v2(void **to, size_t bytes) { return allocate(to, bytes); }
int cuMemAllocAsync(void **to, size_t bytes, void *) { return allocate(to, bytes); }
int cuMemFree_v2(void *p) { return release(p); }
int cuMemFreeAsync(void *p, void *) { return release(p); }
int cuMemGetInfo_v2(size_t *left, size_t *all) { return *all = capacity(), *left = *all - in_use, 0; }
int cuMemHostAlloc(void **to, size_t bytes, unsigned) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  *to = malloc(bytes);
  locked[(char *)*to] = bytes;
  return 0;
}
int cuMemFreeHost(void *p) { return free_locked(p); }
int cuMemsetD8_v2(void *p, unsigned char x, size_t n) { return memset(p, x, n), 0; }
int cuMemsetD8Async(void *p, unsigned char x, size_t n, void *) {
  if (!bound()) return 201;
  if (write_down(FILL, [=] { memset(p, x, n); })) return 0;
  note_work();
  return memset(p, x, n), 0;
}
int cuMemcpyHtoD_v2(void *to, const void *from, size_t n) { return memcpy(to, from, n), 0; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, void *) {
  if (!bound()) return 201;
  if (write_down(COPY, [=] { memcpy(to, from, n); }, true, n)) return 0;
  count(n > 64 << 10 ? "large copies there" : "small copies there");
  note_copy(from, n);
  note_work();
  return memcpy(to, from, n), 0;
}
int cuMemcpyDtoH_v2(void *to, const void *from, size_t n) { return memcpy(to, from, n), 0; }
// To memory that is not page-locked, which it waits for.
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, void *) {
  if (!bound()) return 201;
  if (int bad = spoiled()) return bad;
  through(work_so_far);
  return memcpy(to, from, n), 0;
}
int cuMemcpyDtoD_v2(void *to, const void *from, size_t n) { return memcpy(to, from, n), 0; }
int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t n, void *) {
  count("copies on the GPU");
  if (!bound()) return 201;
  if (write_down(COPY, [=] { memcpy(to, from, n); }, false, n)) return 0;
  note_work();
  return memcpy(to, from, n), 0;
}
int cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = (void *)32, 0; }
// 5, 7 and 8: memory that is kept, in use now, and in use at most; nothing is kept that is not in use.
int cuMemPoolSetAttribute(void *, int which, void *) {
  if (which == 8) most_in_use = in_use;
  return 0;
}
int cuMemPoolGetAttribute(void *, int which, uint64_t *value) { return *value = which == 8 ? most_in_use : in_use, 0; }

// The "PTX" names a library of kernels that were compiled for the CPU.
int cuModuleLoadData(void **module, const void *image) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  std::string path = (const char *)image;
  while (!path.empty() && path.back() == '\n') path.pop_back();
  if (path.empty()) return refuse("a kernel of candle's own was asked for");
  Module *&known = modules[path];
  if (!known) {
    known = loading = new Module;
    if (!dlopen(path.c_str(), RTLD_NOW)) return refuse(dlerror());
  }
  *module = known;
  return 0;
}
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  auto &functions = ((Module *)module)->functions;
  auto found = functions.find(name);
  if (found == functions.end()) return fprintf(stderr, "pretend GPU: no kernel %s\n", name), 500;
  *function = &found->second;
  return 0;
}
// 8: shared memory that a launch may ask for.
int cuFuncSetAttribute(void *function, int which, int value) {
  if (which == 8 && value > 227 << 10) return refuse("more shared memory than a block has");
  if (which == 8) ((Function *)function)->shared = value;
  return 0;
}
static void run_grid(Function &f, Dim3 grid, unsigned bx, unsigned shared, void **params) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  count("kernel " + f.name);
  static std::vector<unsigned char> memory((227 << 10) + GUARD + 128);
  emulated_shared = (unsigned char *)(((uintptr_t)memory.data() + 127) / 128 * 128);
  memset(emulated_shared + shared, MARK, GUARD);
  emulated_blockDim = {bx, 1, 1};
  emulated_gridDim = grid;
  threads = bx;
  kernel = f.kernel;
  kernel_call = f.call;
  kernel_params = params;
  static long blocks_so_far;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        emulated_blockIdx = {x, y, z};
        // What another block left there is not to be read.
        memset(emulated_shared, 0xFF, shared);
        run_block(++blocks_so_far);
      }
  for (size_t i = 0; i < GUARD; ++i)
    if (emulated_shared[shared + i] != MARK) fault("a kernel wrote behind the end of shared memory");
  note_work();
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *, void **params, void **) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  if (!bound()) return 201;
  auto &f = *(Function *)function;
  if (by != 1 || bz != 1 || bx == 0 || bx > MOST_THREADS || gy > 65535 || gz > 65535 || gx > 0x7fffffff || !gx || !gy || !gz)
    return refuse("a grid that no GPU takes");
  if ((int)shared > f.shared) return refuse("more shared memory than was asked for");
  size_t sizes[64];
  int arguments = f.sizes(sizes);
  std::vector<std::vector<uint64_t>> kept;
  for (int i = 0; i < arguments; ++i) {
    kept.emplace_back((sizes[i] + 7) / 8);
    memcpy(kept[i].data(), params[i], sizes[i]);
  }
  emulated_do([=, &f]() mutable {
    std::vector<void *> places;
    for (auto &value : kept) places.push_back(value.data());
    run_grid(f, {gx, gy, gz}, bx, shared, places.data());
  });
  return 0;
}

// ---- cuBLAS and cuRAND ----

int cublasCreate_v2(void **handle) { return *handle = (void *)40, 0; }
int cublasDestroy_v2(void *) { return 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int cublasSetWorkspace_v2(void *, void *memory, size_t) { return memory ? 0 : 7; }
int curandCreateGenerator(void **generator, int) { return *generator = (void *)48, 0; }
int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
int curandSetStream(void *, void *) { return 0; }
int curandDestroyGenerator(void *) { return 0; }

// 0: single precision, 2: half, 14: bfloat16, as cudaDataType counts.
static float number(const void *p, int type, size_t i) {
  if (type == 0) return ((const float *)p)[i];
  return type == 2 ? __half2float(((const __half *)p)[i]) : __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const float *alpha, const void *a, int at, int lda,
                 const void *b, int bt, int ldb, const float *beta, void *c, int ct, int ldc, int compute, int) {
  if (!bound()) return 1;
  count("products");
  if (m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;
  // Single precision from all types; 77, with factors rounded to TF32, from single precision alone.
  bool known = compute == 68 ? ct == at || ct == 0 : compute == 77 && at == 0 && ct == 0;
  if (at != bt || !known) return refuse("a product of matrices of these types"), 15;
  emulated_do([=, factor = *alpha, earlier = *beta] {
    // The left factor by its rows, the right one by its columns.
    std::vector<float> left((size_t)m * k), right((size_t)n * k);
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < k; ++j) left[(size_t)i * k + j] = number(a, at, ta ? (size_t)i * lda + j : (size_t)j * lda + i);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < k; ++j) right[(size_t)i * k + j] = number(b, bt, tb ? (size_t)j * ldb + i : (size_t)i * ldb + j);
    for (int j = 0; j < n; ++j)
      for (int i = 0; i < m; ++i) {
        const float *x = &left[(size_t)i * k], *y = &right[(size_t)j * k];
        float parts[8] = {};
        int l = 0;
        for (; l + 8 <= k; l += 8)
          for (int p = 0; p < 8; ++p) parts[p] += x[l + p] * y[l + p];
        for (; l < k; ++l) parts[0] += x[l] * y[l];
        float sum = 0;
        for (float part : parts) sum += part;
        size_t to = (size_t)j * ldc + i;
        // With a factor of zero what was there is not read.
        float value = factor * sum + (earlier == 0 ? 0 : earlier * number(c, ct, to));
        if (ct == 0) ((float *)c)[to] = value;
        else if (ct == 2) ((__half *)c)[to] = __float2half(value);
        else ((__nv_bfloat16 *)c)[to] = __float2bfloat16(value);
      }
  });
  return 0;
}
}

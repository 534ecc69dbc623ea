// As much of NCCL as sums of gradients use, between processes of one machine: they meet in a piece of shared memory that is
// named by the id of their group, and each adds up all terms in the order of ranks. As in NCCL, nothing blocks who asks, a
// process that is gone is waited for without end, and two processes on one GPU never get connected.
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <functional>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

extern "C" int cuCtxGetCurrent(void **context);
extern "C" int cuDeviceGetUuid_v2(char *uuid, int device);
extern "C" uint64_t emulated_sum(void *stream, const void *at, size_t bytes);
extern "C" void emulated_sum_done(uint64_t number);

namespace {
constexpr int SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7;
constexpr int FLOAT32 = 7, BFLOAT16 = 9, SUM = 0, VERSION = 22703, MOST_RANKS = 64;
// Bytes of a rank that are added up at a time.
constexpr size_t PIECE = 256 << 10;

struct Id {
  char text[128];
};
struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};
// What a rank shows the others. Memory begins as zeros.
struct Desk {
  std::atomic<uint64_t> joined, shown, taken;
  char uuid[16];
  uint64_t count;
  int type;
  alignas(64) char terms[PIECE];
};

struct Comm {
  int rank, size;
  Desk *desks;
  std::atomic<int> state{IN_PROGRESS};
  bool is_used = false;
  uint64_t rounds = 0;
  std::mutex lock;
  std::condition_variable asked;
  std::deque<std::function<void()>> work;
};

std::string last_error;
int refuse(int status, const char *what) {
  last_error = what;
  fprintf(stderr, "pretend NCCL: %s\n", what);
  return status;
}

float wide(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}
uint16_t narrow(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// Waits until a number of all ranks has come so far.
void wait_for_all(Comm &comm, std::atomic<uint64_t> Desk::*number, uint64_t least) {
  for (int rank = 0; rank < comm.size; ++rank)
    for (int looks = 0; (comm.desks[rank].*number).load() < least; ++looks) looks < 100 ? std::this_thread::yield() : (void)usleep(20);
}

// Adds up a piece; returns false if the ranks ask for different things.
bool add_piece(Comm &comm, char *at, size_t bytes, size_t count, int type) {
  Desk &own = comm.desks[comm.rank];
  uint64_t round = ++comm.rounds;
  memcpy(own.terms, at, bytes);
  own.count = count, own.type = type;
  own.shown = round;
  wait_for_all(comm, &Desk::shown, round);
  bool alike = true;
  for (int rank = 0; rank < comm.size; ++rank)
    alike &= comm.desks[rank].count == count && comm.desks[rank].type == type;
  for (int rank = 0; alike && rank < comm.size; ++rank) {
    const char *terms = comm.desks[rank].terms;
    if (!rank) {
      memcpy(at, terms, bytes);
    } else if (type == FLOAT32) {
      for (size_t i = 0; i < bytes / 4; ++i) ((float *)at)[i] += ((const float *)terms)[i];
    } else {
      // Rounded after each addition, as NCCL does at each hop.
      uint16_t *sums = (uint16_t *)at;
      for (size_t i = 0; i < bytes / 2; ++i) sums[i] = narrow(wide(sums[i]) + wide(((const uint16_t *)terms)[i]));
    }
  }
  own.taken = round;
  wait_for_all(comm, &Desk::taken, round);
  return alike;
}

void connect(Comm &comm, const std::string &name) {
  Desk &own = comm.desks[comm.rank];
  own.joined = 1;
  wait_for_all(comm, &Desk::joined, 1);
  for (int rank = 0; rank < comm.size; ++rank)
    if (rank != comm.rank && !memcmp(comm.desks[rank].uuid, own.uuid, 16))
      for (;;) sleep(1);
  // Nobody needs the name any more.
  if (!comm.rank) shm_unlink(name.c_str());
  comm.state = SUCCESS;
}

// The thread of a communicator, which ends with the process.
void serve(Comm &comm) {
  for (;;) {
    std::function<void()> next;
    {
      std::unique_lock<std::mutex> guard(comm.lock);
      comm.asked.wait(guard, [&] { return !comm.work.empty(); });
      next = std::move(comm.work.front());
      comm.work.pop_front();
    }
    next();
  }
}
void ask(Comm &comm, std::function<void()> work) {
  std::lock_guard<std::mutex> guard(comm.lock);
  comm.work.push_back(std::move(work));
  comm.asked.notify_one();
}

bool has_context() {
  void *context = nullptr;
  return cuCtxGetCurrent(&context) == 0 && context;
}
} // namespace

extern "C" {
int ncclGetVersion(int *version) { return *version = VERSION, SUCCESS; }

int ncclGetUniqueId(Id *id) {
  int file = open("/dev/urandom", O_RDONLY);
  uint64_t random = 0;
  if (file < 0 || read(file, &random, sizeof random) != sizeof random) return refuse(SYSTEM_ERROR, "no random numbers");
  close(file);
  memset(id, 0, sizeof *id);
  snprintf(id->text, sizeof id->text, "/pretend-nccl-%016llx", (unsigned long long)random);
  return SUCCESS;
}

int ncclCommInitRankConfig(Comm **to, int size, Id id, int rank, Config *config) {
  if (!config || config->magic != 0xcafebeef || config->size != sizeof(Config) || config->version < 21400)
    return refuse(INVALID_ARGUMENT, "a configuration that is none");
  if (config->blocking) return refuse(INVALID_ARGUMENT, "a communicator that blocks");
  if (!has_context()) return refuse(INVALID_USAGE, "a thread without a context");
  std::string name(id.text, strnlen(id.text, sizeof id.text));
  if (name.compare(0, 14, "/pretend-nccl-") || size < 1 || size > MOST_RANKS || rank < 0 || rank >= size)
    return refuse(INVALID_ARGUMENT, "an id that is none, or a rank that is not there");
  int file = shm_open(name.c_str(), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, size * sizeof(Desk))) return refuse(SYSTEM_ERROR, "no shared memory");
  void *memory = mmap(nullptr, size * sizeof(Desk), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return refuse(SYSTEM_ERROR, "no shared memory");
  Comm &comm = *new Comm{rank, size, (Desk *)memory};
  cuDeviceGetUuid_v2(comm.desks[rank].uuid, 0);
  ask(comm, [&comm, name] { connect(comm, name); });
  std::thread([&comm] { serve(comm); }).detach();
  *to = &comm;
  return IN_PROGRESS;
}

int ncclCommGetAsyncError(Comm *comm, int *state) { return *state = comm->state, SUCCESS; }

int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Comm *comm, void *stream) {
  if (comm->state == IN_PROGRESS) return refuse(INVALID_USAGE, "a communicator that is not connected yet");
  if (!has_context() || !stream) return refuse(INVALID_USAGE, "a thread without a context, or no stream");
  if ((type != FLOAT32 && type != BFLOAT16) || operation != SUM || from != to || !to || !count)
    return refuse(INVALID_ARGUMENT, "not a sum in place of numbers that are known");
  size_t bytes = count * (type == FLOAT32 ? 4 : 2);
  uint64_t number = emulated_sum(stream, to, bytes);
  // Like NCCL, it may have to connect first.
  if (!comm->is_used) comm->state = IN_PROGRESS;
  comm->is_used = true;
  ask(*comm, [=] {
    int connecting = IN_PROGRESS;
    comm->state.compare_exchange_strong(connecting, SUCCESS);
    // Long enough for somebody who does not wait to be seen.
    usleep(200);
    for (size_t begin = 0; begin < bytes; begin += PIECE)
      if (!add_piece(*comm, (char *)to + begin, std::min(PIECE, bytes - begin), count, type)) {
        comm->state = refuse(INVALID_USAGE, "the ranks ask for different sums");
        return;
      }
    emulated_sum_done(number);
  });
  return comm->state;
}

const char *ncclGetErrorString(int status) {
  return status == SUCCESS ? "no error" : status == INVALID_USAGE ? "invalid usage" : "the pretend NCCL cannot do this";
}
const char *ncclGetLastError(Comm *) { return last_error.c_str(); }
}

"""The faults of `soak.py`: put in place by `start`, kept up by `tick`, removed by `stop`."""
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

from soak_machine import (FREEZE, GET_FLAGS, IMMUTABLE, MIB, NO_LOG_FLUSH, SET_FLAGS, SHUTDOWN,
                          THAW, Cgroup, can, control, loader_threads, sh)

DECADE = 10 * 365 * 86400

# Moves the wall clock of one process by the seconds in a file, while it runs.
SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = syscall(SYS_clock_gettime, clock, now);
    char text[32] = {0};
    int file = clock == CLOCK_REALTIME ? open(getenv("SOAK_CLOCK"), O_RDONLY | O_CLOEXEC) : -1;
    if (status == 0 && file >= 0 && read(file, text, sizeof text - 1) > 0)
        now->tv_sec += atol(text);
    if (file >= 0) close(file);
    return status;
}
"""


class Fault:
    """Base of the faults."""

    name = ""
    disks = ("ext4", "tmpfs", "plain")
    # How the process may end by itself: exit codes with the message that must be given.
    endings = {}
    # A panic that is not the program's own.
    excuse = None
    # In place while the process starts: always (True), never (False), or by chance.
    early = False
    # How often the process is killed while it lasts, and whether it lasts at all.
    kills, lasts = 0.5, 1
    # Only what was synced remains, and the file system must be mounted anew.
    cuts_power = False
    # Control group that the fault has made.
    group = None

    def __init__(self, soak, rng):
        self.soak, self.rng = soak, rng

    @classmethod
    def missing(cls, soak):
        """Returns why this machine cannot produce it; None if it can."""
        return None

    @property
    def disk(self):
        return self.soak.disk

    @property
    def run(self):
        return self.soak.run

    @property
    def pid(self):
        return self.soak.process.pid

    def prefix(self):
        """Returns what comes before the command, and changes of its environment."""
        return [], {}

    def enter(self):
        """Called in the process, before the program starts."""

    def start(self):
        pass

    def tick(self):
        """Called several times a second while the fault lasts."""

    def stop(self):
        pass

    def clean(self):
        """Called once the process has ended."""
        if self.group:
            self.group.remove()


class Kill(Fault):
    name = "SIGKILL alone"
    kills, lasts = 1, 0


class Full(Fault):
    name = "disk full"
    disks = ("ext4", "tmpfs")
    endings = {1: r"No space left on device|not enough disk space"}
    early = None

    def leave(self):
        return 0

    def start(self):
        self.filler = self.disk.path / "filler"
        self.room = self.leave()
        self.tick()

    def tick(self):
        # Again and again, because the process gives space back when it fails to write.
        extra = self.disk.free() - self.room
        if extra < 4096:
            return
        with open(self.filler, "ab") as file:
            size = file.tell()
            if can(lambda: os.posix_fallocate(file.fileno(), size, extra)) is None or self.room:
                return
            block = bytes(4096)
            while can(lambda: os.write(file.fileno(), block)) is None:
                pass

    def stop(self):
        self.filler.unlink(missing_ok=True)


class Tight(Full):
    name = "no space for a checkpoint"

    def leave(self):
        return self.rng.randrange(2 * MIB, self.soak.checkpoint_bytes - MIB)


class ReadOnly(Fault):
    """A disk with files open for writing cannot be remounted, so the process starts on it."""

    name = "read-only disk"
    disks = ("ext4", "tmpfs")
    endings = {1: r"Read-only file system"}
    early = True

    def start(self):
        sh("mount", "-o", "remount,ro", self.disk.path)

    def stop(self):
        sh("mount", "-o", "remount,rw", self.disk.path)


class Aborted(Fault):
    """What ext4 does after an error of the disk: it becomes read-only under the process."""

    name = "disk turned read-only by an error"
    disks = ("ext4",)
    endings = {1: r"Read-only file system|Input/output error|Structure needs cleaning"}
    cuts_power = True

    def start(self):
        sh("mount", "-o", "remount,abort", self.disk.path)


class PowerCut(Fault):
    """The disk is gone at once, with what has not been synced."""

    name = "power cut"
    disks = ("ext4",)
    endings = {1: r"Input/output error|Read-only file system|Structure needs cleaning"}
    cuts_power = True

    def start(self):
        control(self.disk.path, SHUTDOWN, NO_LOG_FLUSH)


class NoNewFiles(Fault):
    """The run's folder takes no new names, so that checkpoints fail and logs do not."""

    name = "folder takes no new files"
    disks = ("ext4",)
    endings = {1: r"Operation not permitted"}
    early = None

    def start(self):
        self.changed = self.run.exists()
        if self.changed:
            control(self.run, SET_FLAGS, control(self.run, GET_FLAGS) | IMMUTABLE)

    def stop(self):
        if self.changed:
            control(self.run, SET_FLAGS, control(self.run, GET_FLAGS) & ~IMMUTABLE)


class Stalled(Fault):
    name = "process stopped (SIGSTOP)"

    def start(self):
        os.kill(self.pid, signal.SIGSTOP)

    def stop(self):
        can(lambda: os.kill(self.pid, signal.SIGCONT))


class Frozen(Fault):
    """Writes wait until the disk thaws."""

    name = "disk that hangs"
    disks = ("ext4",)

    def start(self):
        control(self.disk.path, FREEZE)

    def stop(self):
        control(self.disk.path, THAW)


class Slow(Fault):
    name = "slow disk"
    disks = ("ext4",)

    @classmethod
    def missing(cls, soak):
        throttle = Cgroup.ROOT / "blkio/blkio.throttle.write_bps_device"
        if throttle.exists():
            return None
        return can(lambda: Cgroup("io").remove())

    def start(self):
        bytes_per_s = self.rng.randrange(2, 30) * MIB
        # Version 1 counts writes from the page cache at the root; only our device is named there.
        self.throttle = Cgroup.ROOT / "blkio/blkio.throttle.write_bps_device"
        if self.throttle.exists():
            self.throttle.write_text(f"{self.disk.number()} {bytes_per_s}")
            return
        self.group = Cgroup("io")
        self.group.write("io.max", f"{self.disk.number()} wbps={bytes_per_s}")
        self.group.write("cgroup.procs", self.pid)

    def stop(self):
        if self.throttle.exists():
            self.throttle.write_text(f"{self.disk.number()} 0")
            return
        self.group.write("io.max", f"{self.disk.number()} wbps=max")


class Starved(Fault):
    """The loader's threads share one core with a busy process and yield to everybody."""

    name = "starved loader"

    def start(self):
        core = {min(os.sched_getaffinity(0))}
        self.busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        os.sched_setaffinity(self.busy.pid, core)
        for thread in loader_threads(self.pid):
            can(lambda: os.sched_setaffinity(thread, core))
            can(lambda: os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0)))

    def stop(self):
        self.busy.kill()
        self.busy.wait()
        for thread in loader_threads(self.pid):
            can(lambda: os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0)))
            can(lambda: os.sched_setaffinity(thread, os.sched_getaffinity(0)))


class FrozenLoader(Fault):
    """The loader's threads stand still, as on a file system that does not answer."""

    name = "loader that hangs"

    @classmethod
    def missing(cls, soak):
        if not (Cgroup.ROOT / "freezer").exists():
            return "single threads can be frozen only by the freezer of cgroups version 1"
        return can(lambda: Cgroup("freezer").remove())

    def start(self):
        self.group = Cgroup("freezer")
        for thread in loader_threads(self.pid):
            can(lambda: self.group.write("tasks", thread))
        self.group.write("freezer.state", "FROZEN")

    def stop(self):
        # Frozen threads cannot be killed.
        self.group.write("freezer.state", "THAWED")
        for thread in loader_threads(self.pid):
            can(lambda: (self.group.path.parent / "tasks").write_text(str(thread)))


class ClockJump(Fault):
    """The wall clock jumps while the process runs, by up to ten years in both directions."""

    name = "wall clock jumps"
    early = None

    @classmethod
    def build(cls, work):
        """Builds the library that shifts the clock, and tries it."""
        source, cls.shim, cls.file = work / "clock.c", work / "clock.so", work / "clock"
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not compiler:
            raise OSError("no C compiler for the library that shifts the clock")
        source.write_text(SHIM)
        sh(compiler, "-shared", "-fPIC", "-O1", "-o", cls.shim, source)
        cls.file.write_text(str(DECADE))
        variables = [f"{key}={value}" for key, value in cls.environment().items()]
        now = sh("env", *variables, "date", "+%s")
        cls.file.write_text("0")
        if int(now) < time.time() + DECADE / 2:
            raise OSError("LD_PRELOAD has no effect on the clock")

    @classmethod
    def missing(cls, soak):
        return can(lambda: cls.build(soak.work))

    @classmethod
    def environment(cls):
        return {"LD_PRELOAD": str(cls.shim), "SOAK_CLOCK": str(cls.file)}

    def prefix(self):
        return [], self.environment()

    def start(self):
        self.tick()

    def tick(self):
        self.file.write_text(str(self.rng.choice([-1, 1]) * int(10 ** self.rng.uniform(0, 8.5))))

    def stop(self):
        self.file.write_text(str(self.rng.randrange(-86400, 86400)))


class OtherBoot(Fault):
    """The clock that counts from the machine's start shows another time, as after a restart."""

    name = "other monotonic clock"
    early = True

    @staticmethod
    def command(seconds):
        return ["unshare", "--time", "--monotonic", str(seconds), "--boottime", str(seconds)]

    @classmethod
    def missing(cls, soak):
        def attempt():
            uptime = float(sh(*cls.command(DECADE), "cat", "/proc/uptime").split()[0])
            if uptime < DECADE:
                raise OSError("unshare --time has no effect")
        return can(attempt)

    def prefix(self):
        return self.command(self.rng.randrange(1, DECADE)), {}


class FileTimes(Fault):
    """Files of the run are from the future or the past."""

    name = "file times jump"
    early = None

    def start(self):
        for path in self.run.rglob("*"):
            when = time.time() + self.rng.choice([-1, 1]) * self.rng.randrange(DECADE)
            can(lambda: os.utime(path, (when, when)))


class MemoryGroup(Fault):
    """The group of the process has less memory than the run takes, or hardly more."""

    name = "memory limit of a cgroup"
    endings = {-9: "", 1: r"os error 12|memory"}
    early = True

    @classmethod
    def missing(cls, soak):
        return can(lambda: Cgroup("memory").remove())

    def start(self):
        self.group = Cgroup("memory")
        limit = int(self.soak.peak_bytes * self.rng.uniform(0.2, 1.2))
        name = "memory.limit_in_bytes" if self.group.old else "memory.max"
        self.group.write(name, limit)

    def enter(self):
        self.group.add_self()

    def stop(self):
        name = "memory.limit_in_bytes" if self.group.old else "memory.max"
        self.group.write(name, -1 if self.group.old else "max")


class ThreadLimit(Fault):
    """The process can start no further threads."""

    name = "limit of threads"
    endings = {1: r"cannot start|os error 11"}
    early = None

    @classmethod
    def missing(cls, soak):
        return can(lambda: Cgroup("pids").remove())

    def __init__(self, soak, rng):
        super().__init__(soak, rng)
        self.group = Cgroup("pids")

    def start(self):
        self.group.write("pids.max", self.rng.randrange(2, 8))

    def enter(self):
        self.group.add_self()

    def stop(self):
        self.group.write("pids.max", "max")


class AddressSpace(Fault):
    """Allocations fail from now on (RLIMIT_AS)."""

    name = "limit of the address space"
    # Rust's start of a thread ends the process if it gets no stack for signals.
    excuse = "failed to allocate an alternative stack"
    endings = {
        -6: rf"memory allocation of \d+ bytes failed|{excuse}",
        1: r"os error 1[12]|memory|cannot start",
    }

    def start(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmSize:\s+(\d+) kB", status)
        if not found:
            # It has just ended.
            return
        limit = (int(found[1]) << 10) + self.rng.choice([-64 * MIB, 0, 8 * MIB, 64 * MIB])
        resource.prlimit(self.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def stop(self):
        infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        can(lambda: resource.prlimit(self.pid, resource.RLIMIT_AS, infinite))


class Signaled(Fault):
    """The polite way to stop a run, which saves it."""

    name = "SIGTERM"
    endings = {75: "saved", -15: "", 143: ""}

    def start(self):
        os.kill(self.pid, signal.SIGTERM)


FAULTS = [
    Kill, Full, Tight, ReadOnly, Aborted, PowerCut, NoNewFiles, Stalled, Frozen, Slow, Starved,
    FrozenLoader, ClockJump, OtherBoot, FileTimes, MemoryGroup, ThreadLimit, AddressSpace, Signaled,
]

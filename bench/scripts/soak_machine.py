"""What `soak.py` needs of a Linux machine: small disks, control groups, single threads."""
import fcntl
import os
import pathlib
import re
import struct
import subprocess
import time

MIB = 1 << 20
# Of <linux/fs.h> and <linux/ext4.h>; Python has no names for them.
FREEZE, THAW = 0xC0045877, 0xC0045878
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
SHUTDOWN = 0x8004587D
IMMUTABLE, NO_LOG_FLUSH = 0x10, 2


def sh(*command):
    """Runs a command of the system; an error contains what it said."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def can(what):
    """Returns None if `what` works here, and otherwise why it does not."""
    try:
        what()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def control(path, code, value=0):
    """Calls an ioctl with a number on a file or folder; returns the number that it leaves."""
    file = os.open(path, os.O_RDONLY)
    try:
        return struct.unpack("i", fcntl.ioctl(file, code, struct.pack("i", value))[:4])[0]
    finally:
        os.close(file)


class Disk:
    """A small file system of its own for the runs, in memory (`tmpfs`) or in a file (`ext4`)."""

    def __init__(self, kind, work, size):
        self.kind, self.size = kind, size
        self.path, self.image = work / kind, work / f"{kind}.img"

    def make(self):
        self.path.mkdir(exist_ok=True)
        if self.kind == "plain":
            return
        if self.kind == "tmpfs":
            sh("mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path)
            return
        with open(self.image, "wb") as file:
            file.truncate(self.size)
        # Without blocks reserved for root, who runs this.
        sh("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        self.mount()

    def mount(self):
        device = sh("losetup", "--find", "--show", self.image)
        try:
            # Replays the journal; the code is 1 if it has repaired something.
            check = ["fsck.ext4", "-p", device]
            subprocess.run(check, capture_output=True, timeout=120, check=False)
            sh("mount", "-o", "errors=remount-ro", device, self.path)
        finally:
            # Takes effect at the unmount, also if this script is killed.
            sh("losetup", "--detach", device)

    def unmount(self):
        for _ in range(20):
            if not os.path.ismount(self.path):
                return
            # A process that was killed may still hold it for a moment.
            if can(lambda: sh("umount", self.path)):
                time.sleep(0.2)
        sh("umount", "--lazy", self.path)

    def repair(self):
        """Does what a restart of the machine does after a crash."""
        self.unmount()
        self.mount()

    def remove(self):
        if self.kind == "plain":
            return
        can(lambda: control(self.path, THAW))
        if self.path.exists():
            self.unmount()
            self.path.rmdir()
        self.image.unlink(missing_ok=True)

    def free(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def number(self):
        """Returns the numbers of its block device, as cgroups name it."""
        device = os.stat(self.path).st_dev
        return f"{os.major(device)}:{os.minor(device)}"


class Cgroup:
    """A control group, below that of this script (version 1) or at the root (version 2)."""

    ROOT = pathlib.Path("/sys/fs/cgroup")

    def __init__(self, controller):
        own = {}
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            own.update({name: path for name in names.split(",")})
        self.old = controller in own
        parent = self.ROOT / controller / own[controller].lstrip("/") if self.old else self.ROOT
        self.path = parent / f"efficienttrain-soak-{os.getpid()}"
        controllers = self.ROOT / "cgroup.subtree_control"
        if not self.old and controller not in controllers.read_text().split():
            raise OSError(f"no cgroup controller `{controller}`")
        self.path.mkdir(exist_ok=True)

    def write(self, name, value):
        (self.path / name).write_text(str(value))

    def add_self(self):
        self.write("cgroup.procs", os.getpid())

    def remove(self):
        for _ in range(50):
            if can(self.path.rmdir) is None or not self.path.exists():
                return
            time.sleep(0.1)


def threads(pid):
    """Describes the threads of a process: name, state, and where in the kernel each waits."""
    described = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        state = re.search(r"State:\s+(\S)", (task / "status").read_text())[1]
        described.append(f"{thread_name(task)} {state} {(task / 'wchan').read_text()}")
    return ", ".join(sorted(described))


def loader_threads(pid):
    """Returns the threads that load images."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*")
    return [int(task.name) for task in tasks if re.fullmatch(r"data-\d+", thread_name(task))]


def thread_name(task):
    """Returns the name of a thread; empty if it has just ended."""
    try:
        return (task / "comm").read_text().strip()
    except OSError:
        return ""

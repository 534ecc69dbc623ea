#!/usr/bin/env python3
"""Disturbs short training runs, resumes them, and compares them with an undisturbed run.

    cargo build --release --bin efficienttrain
    sudo python3 bench/scripts/soak.py target/release/efficienttrain --minutes 60

Each cycle trains one run. Again and again the process meets a fault (a full, slow, hanging or
read-only disk, a power cut, a starved loader, a clock that jumps, too little memory) and is killed,
or ends by itself, and the same command resumes it. After each fault the script asserts that

- every checkpoint is complete, and none that had been saved is lost,
- the process has ended only as that fault permits, with a message and without a panic,
- if it lives, it saves again once the fault is over.

At the end of a cycle, weights, averages, moments and evaluations must be bitwise those of the
undisturbed run, logs must have each step once, and no other files may be left.

The first violation ends the script with code 1, and it prints how to repeat that cycle. The draws
of a cycle follow from `--seed` and its number; the moments depend on the machine. What the machine
or the permissions do not allow is listed as not tried: most faults of disks need root.

Needs Linux, Python 3.9 and, for all faults, root, util-linux, e2fsprogs and a C compiler.
"""
import argparse
import collections
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import soak_checks as checks
from soak_attempt import Attempt
from soak_checks import Violation
from soak_faults import FAULTS
from soak_machine import MIB, Disk, can, sh

TRAIN = """train --resume auto --model resnet10 --base-size 48 --batch 8 --epochs 6 --lr 1e-3
    --ema-decay 0.9 --drop-path 0.1 --replay 2 --eval-every 10% --checkpoint-every 2st
    --keep-last 3 --keep-best 2 --log csv,tensorboard --workers 2""".split()
# Checkpoints that the options above keep, and those that are written or replaced meanwhile.
CHECKPOINTS = 3 + 2 + 2
# Space on a disk for logs, charts and the file system itself.
SPARE_BYTES = 48 * MIB
# Faults in one cycle, so that it comes to an end.
FAULTS_AT_MOST = 12
CLASSES, PER_CLASS = 8, {"train": 16, "val": 4}


def write_image(path, rng, kind):
    """Writes an image with the pattern of a class, as PPM."""
    side, base = rng.randrange(64, 128), [rng.randrange(256) for _ in range(3)]
    row = [bytes((b + x * (kind + 1)) % 256 for b in base) for x in range(side)]
    pixels = b"".join(row[(x + y * kind) % side] for y in range(side) for x in range(side))
    path.write_bytes(b"P6 %d %d 255\n" % (side, side) + pixels)


def write_images(folder):
    """Writes a small data set."""
    rng = random.Random(1)
    for split, images in PER_CLASS.items():
        for kind in range(CLASSES):
            into = folder / split / f"class{kind}"
            into.mkdir(parents=True, exist_ok=True)
            for image in range(images):
                write_image(into / f"{image:03}.ppm", rng, kind)


class Soak:
    """What all cycles share: the undisturbed run, the disks, the counts."""

    def __init__(self, args):
        self.args, self.work = args, pathlib.Path(args.out).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.whole, self.output = self.work / "undisturbed", self.work / "output.txt"
        self.process = self.disk = self.run = self.seconds = None
        self.begin, self.cycles = time.monotonic(), 0
        self.resumes = self.kills = self.lost_rows = 0
        self.faults, self.disks, self.not_tried = [], [], {}
        # By fault and end of the process, and by message.
        self.outcomes, self.messages = collections.Counter(), collections.Counter()

    def command(self, run):
        """Returns the command that starts or resumes a run."""
        own = ["--data", self.work / "data", "--out", run, "--threads", self.args.threads]
        return [self.args.binary, *TRAIN, *map(str, own)]

    def prepare(self):
        """Trains the undisturbed run, and measures what the faults need to know of it."""
        write_images(self.work / "data")
        shutil.rmtree(self.whole, ignore_errors=True)
        begin = time.monotonic()
        with open(self.output, "wb") as output:
            process = subprocess.Popen(self.command(self.whole), stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"the undisturbed run has failed:\n{self.output.read_text()}")
        self.seconds, self.peak_bytes = time.monotonic() - begin, used.ru_maxrss << 10
        self.checkpoint_bytes = (self.whole / checks.LAST).stat().st_size
        print(f"undisturbed run: {checks.newest(self.whole)} steps in {self.seconds:.0f} s, "
              f"checkpoints of {self.checkpoint_bytes // MIB} MiB, "
              f"{self.peak_bytes // MIB} MiB of memory", flush=True)

    def find_disks(self):
        """Finds the kinds of disks that can be made here."""
        weights = (self.whole / checks.WEIGHTS).stat().st_size
        size = CHECKPOINTS * self.checkpoint_bytes + weights + SPARE_BYTES
        for disk in (Disk(kind, self.work, size) for kind in ("ext4", "tmpfs")):
            missing = can(disk.make)
            can(disk.remove)
            if missing:
                self.not_tried[f"runs on {disk.kind}"] = missing
            else:
                self.disks.append(disk)
        self.disks = self.disks or [Disk("plain", self.work, size)]

    def find_faults(self):
        """Finds the faults that can be produced here."""
        kinds = {disk.kind for disk in self.disks}
        for fault in FAULTS:
            missing = self.left_out(fault.name) or fault.missing(self)
            if not kinds & set(fault.disks):
                missing = f"needs a disk of kind {' or '.join(fault.disks)}"
            if missing:
                self.not_tried[fault.name] = missing
            else:
                self.faults.append(fault)

    def left_out(self, name):
        """Returns why a fault is not wanted; None if it is."""
        if name in self.args.skip:
            return "left out by --skip"
        return "left out by --only" if self.args.only and name not in self.args.only else None

    def cycle(self, number):
        """Trains one run to its end."""
        rng, begin = random.Random(f"{self.args.seed}:{number}"), time.monotonic()
        self.disk = rng.choice(self.disks)
        self.run = self.disk.path / "run"
        try:
            self.disk.make()
            done = self.disturb(rng)
        except Violation:
            self.keep(number)
            raise
        finally:
            self.end_process()
            self.disk.remove()
        self.cycles += 1
        print(f"cycle {number} on {self.disk.kind}: {', '.join(done)}: identical, in "
              f"{time.monotonic() - begin:.0f} s; so far {sum(self.outcomes.values())} faults, "
              f"{self.kills} kills, {self.resumes} resumes", flush=True)

    def disturb(self, rng):
        """Starts the run again and again until it is complete; returns the names of the faults."""
        usable = [fault for fault in self.faults if self.disk.kind in fault.disks]
        done, may_lack, seen, finished = [], False, -1, False
        while not finished:
            # All draws are made here, so that they do not depend on what happens.
            kind, luck = rng.choice(usable), random.Random(rng.random())
            fault = kind(self, luck) if len(done) < FAULTS_AT_MOST else None
            if self.args.verbose:
                print(f"  step {max(seen, 0)}: {fault.name if fault else 'no fault'}", flush=True)
            finished, seen = Attempt(self, fault, luck).perform(seen)
            if fault:
                done.append(fault.name)
                may_lack |= fault.cuts_power and self.args.unsynced_logs
        self.lost_rows += checks.check_finished(self.whole, self.run, may_lack)
        shutil.rmtree(self.run)
        return done

    def end_process(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def keep(self, number):
        """Copies what there is of a failed cycle out of its disk."""
        into = self.work / f"failed-{self.args.seed}-{number}"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        can(lambda: shutil.copytree(self.run, into / "run"))
        can(lambda: shutil.copy(self.output, into))
        print(f"the run and its last output are in {into}")

    def summary(self):
        """Prints all counts."""
        minutes = (time.monotonic() - self.begin) / 60
        print(f"\n{minutes:.1f} minutes, {self.cycles} runs complete and identical, "
              f"{self.resumes} resumes, {self.kills} kills survived, "
              f"{sum(self.outcomes.values())} faults survived:")
        for fault in self.faults:
            ends = {end: n for (name, end), n in self.outcomes.items() if name == fault.name}
            tale = ", ".join(f"{end} {n}" for end, n in sorted(ends.items()))
            print(f"{sum(ends.values()):5}  {fault.name}" + (f" ({tale})" if tale else ""))
        if self.args.unsynced_logs:
            print(f"rows of logs lost to power cuts: {self.lost_rows}")
        print("messages of processes that ended, or failed to save:")
        for text, count in self.messages.most_common():
            print(f"{count:5}  {text}")
        print("not tried:" if self.not_tried else "not tried: nothing")
        for name, why in self.not_tried.items():
            print(f"       {name}: {why.splitlines()[0]}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    option = parser.add_argument
    option("binary", help="the program `efficienttrain`")
    option("--minutes", type=float, default=60, help="begin no cycle after this time [60]")
    option("--seed", type=int, default=0, help="seed of all draws [0]")
    option("--cycle", type=int, help="only the cycle of this number")
    option("--only", action="append", metavar="FAULT", help="only this fault of the summary")
    option("--skip", action="append", default=[], metavar="FAULT", help="all but this fault")
    option("--unsynced-logs", action="store_true",
           help="count rows of logs that a power cut has cost instead of failing, for programs "
                "that do not sync them")
    option("--verbose", action="store_true", help="print each fault before it is produced")
    option("--threads", type=int, default=1, help="compute threads of a run [1]")
    option("--out", default="runs/soak", help="folder to work in [runs/soak]")
    args = parser.parse_args()
    args.binary = str(pathlib.Path(args.binary).resolve())
    return args


def repetition(args, number):
    """Returns the command that repeats one cycle."""
    command = ["python3", sys.argv[0], args.binary, "--seed", args.seed, "--cycle", number]
    for name in ("only", "skip"):
        command += [part for fault in getattr(args, name) or [] for part in (f"--{name}", fault)]
    command += ["--unsynced-logs"] * args.unsynced_logs + ["--threads", args.threads]
    return shlex.join(map(str, command))


def enter_own_mounts():
    """Continues in a mount namespace: its mounts vanish with this process, however it ends."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or not unshare or "SOAK_MOUNTS" in os.environ:
        return
    os.environ["SOAK_MOUNTS"] = "own"
    if can(lambda: sh(unshare, "--mount", "true")) is None:
        os.execv(unshare, [unshare, "--mount", sys.executable, *sys.argv])


def cycle_numbers(args, begin):
    if args.cycle is not None:
        yield args.cycle
        return
    number = 0
    while time.monotonic() - begin < 60 * args.minutes:
        yield number
        number += 1


def soak_until_done(soak):
    """Runs all cycles; returns the exit code."""
    number = None
    try:
        soak.prepare()
        soak.find_disks()
        soak.find_faults()
        for number in cycle_numbers(soak.args, soak.begin):
            soak.cycle(number)
    except Violation as violation:
        print(f"violation in cycle {number}: {violation}")
        print(f"repeat it with: {repetition(soak.args, number)}")
        return 1
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    finally:
        soak.end_process()
        if soak.seconds:
            soak.summary()
    return 0


def main():
    args = arguments()
    enter_own_mounts()
    # Like Ctrl-C, so that everything is put back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return soak_until_done(Soak(args))


if __name__ == "__main__":
    sys.exit(main())

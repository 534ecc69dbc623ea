"""One process of a run in `soak.py`: how it meets a fault, and how it may end."""
import os
import random
import re
import signal
import subprocess
import time

import soak_checks as checks
from soak_checks import Violation
from soak_machine import sh, threads

# Seconds that a fault lasts at most.
LONGEST = 5.0
POLL = 0.05


class Attempt:
    """One process of a run, with or without a fault."""

    def __init__(self, soak, fault, luck):
        self.soak, self.fault, self.rng = soak, fault, random.Random(luck.random())
        self.killed, self.survived = False, False

    def perform(self, seen):
        """Returns whether the run is complete, and the newest step that was seen saved."""
        try:
            seen = self.meet(seen) if self.fault else self.undisturbed(seen)
        finally:
            self.soak.end_process()
            if self.fault:
                self.fault.clean()
        finished = self.judge()
        checks.check_saved(self.soak.run, seen)
        return finished, max(seen, checks.newest(self.soak.run))

    def undisturbed(self, seen):
        self.spawn()
        self.wait_for(lambda: False, self.patience(), must=True)
        return seen

    def spawn(self):
        """Starts the process."""
        soak, fault = self.soak, self.fault
        before, environment = fault.prefix() if fault else ([], {})
        soak.resumes += (soak.run / checks.LAST).exists()
        with open(soak.output, "wb") as output:
            soak.process = subprocess.Popen(
                [*before, *soak.command(soak.run)], stdout=output, stderr=output,
                env={**os.environ, **environment}, preexec_fn=fault.enter if fault else None)

    def meet(self, seen):
        """Starts the process, puts the fault in place, takes it away, and ends the process."""
        fault, rng = self.fault, self.rng
        early = rng.random() < 0.3 if fault.early is None else fault.early
        if fault.cuts_power:
            # What earlier processes have left is on the disk; what this one leaves need not be.
            sh("sync", "--file-system", self.soak.disk.path)
        started = False
        try:
            if early:
                started = True
                fault.start()
            self.spawn()
            if not early:
                self.wait_for(lambda: False, rng.uniform(0.1, self.soak.seconds / 8))
                seen = max(seen, self.look())
                if self.alive():
                    started = True
                    fault.start()
            seen = max(seen, self.last(seen))
        finally:
            if started:
                fault.stop()
        self.recover()
        if fault.cuts_power and started:
            self.soak.disk.repair()
        return seen

    def last(self, seen):
        """Keeps the fault up for a while; returns the newest step seen saved."""
        fault, rng = self.fault, self.rng
        self.wait_for(lambda: False, rng.uniform(0.5, LONGEST) * fault.lasts, tick=fault.tick)
        if not fault.cuts_power:
            seen = self.look()
        if rng.random() < fault.kills:
            self.kill()
        return seen

    def look(self):
        """Returns the newest step that the fault must not lose."""
        run = self.soak.run
        return checks.announced(run) if self.fault.cuts_power else checks.newest(run)

    def alive(self):
        return self.soak.process.poll() is None

    def kill(self):
        """Sends SIGKILL, after which a process may still have to wait for its disk."""
        if self.alive():
            self.soak.process.kill()
            self.killed = True

    def recover(self):
        """Waits for a process that has survived to save again, and kills it some time later."""
        run = self.soak.run
        if self.alive() and not self.killed and not self.fault.cuts_power:
            before = checks.newest(run)
            self.wait_for(lambda: checks.newest(run) > before, self.patience(), must=True)
            self.survived = True
            self.wait_for(lambda: False, self.rng.uniform(0, self.soak.seconds / 10))
        self.kill()
        self.soak.process.wait()

    def patience(self):
        """Returns the seconds after which a process without progress counts as hanging."""
        return 4 * self.soak.seconds + 60

    def wait_for(self, condition, seconds, tick=lambda: None, must=False):
        """Waits for a condition or the end of the process; with `must`, one has to come."""
        until = time.monotonic() + seconds
        while self.alive() and not condition():
            if time.monotonic() > until:
                if must:
                    raise Violation(
                        f"neither an end nor a new checkpoint within {seconds:.0f} s under the "
                        f"fault `{self.name()}`; threads: {threads(self.soak.process.pid)}")
                return
            tick()
            time.sleep(POLL)

    def name(self):
        return self.fault.name if self.fault else "none"

    def judge(self):
        """Checks how the process has ended; returns whether the run is complete."""
        soak, fault, code = self.soak, self.fault, self.soak.process.returncode
        text = soak.output.read_text(errors="replace")
        self.check_messages(text)
        expected = fault.endings.get(code) if fault else None
        if self.killed and code == -signal.SIGKILL:
            end = "survived" if self.survived else "killed meanwhile"
        elif code == 0:
            end = "complete"
        elif expected is not None and re.search(expected, text):
            end = f"ended with code {code}"
        else:
            endings = fault.endings if fault else {}
            raise Violation(f"exit code {code} under the fault `{self.name()}`, expected 0 or "
                            f"{endings}:\n{text}")
        soak.kills += code == -signal.SIGKILL
        if fault:
            soak.outcomes[fault.name, end] += 1
        return code == 0

    def check_messages(self, text):
        """Looks for a panic and messages that help nobody, and counts the others."""
        excuse = self.fault.excuse if self.fault else None
        if "panicked" in text and not (excuse and re.search(excuse, text)):
            raise Violation(f"a panic under the fault `{self.name()}`:\n{text}")
        for line in text.splitlines():
            if line.startswith("error: ") and not re.search(r"/|option|--", line):
                raise Violation(f"this message names neither a file nor an option: {line}")
        told = {self.general(line) for line in text.splitlines()
                if re.match("error:|warning:|note:|memory allocation", line)}
        self.soak.messages.update(told)

    def general(self, line):
        """Returns a message without names and numbers that differ each time."""
        line = line.replace(str(self.soak.run), "RUN").replace(str(self.soak.disk.path), "DISK")
        line = re.sub(r"\.writing-\w+", ".writing-*", line)
        return re.sub(r"(?<!os error )\b\d+\b", "N", line)

"""What `soak.py` asserts about the folder of a run: checkpoints, logs, the list of its files."""
import csv
import json
import re
import struct
import zlib

LAST, BEST = "last.safetensors", "best.safetensors"
WEIGHTS = "model.safetensors"
# Measured times differ from run to run, everything else must not.
TIMES = {"seconds", "step_seconds", "data_seconds", "loader_load", "elapsed"}


class Violation(Exception):
    """Something that the program promises and did not keep."""


def header(path):
    """Returns the header of a safetensors file, and where its data begins."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), 8 + length


def record(path):
    """Returns the record of the run in a checkpoint."""
    return json.loads(header(path)[0]["__metadata__"]["efficienttrain"])


def newest(run):
    """Returns the step of the newest checkpoint; -1 if there is none."""
    path = run / LAST
    return record(path)["step"] if path.exists() else -1


def announced(run):
    """Returns the newest step that the log calls saved, which must outlive a power cut."""
    log = run / "log.jsonl"
    told = events(log, torn=True) if log.exists() else []
    return max((event["step"] for event in told if event["event"] == "checkpoint"), default=-1)


def check_complete(path):
    """Compares the checksum of a file: CRC-32, with zeros in its own place."""
    data = path.read_bytes()
    key = b'"efficienttrain-checksum":"'
    at = data.find(key, 0, 8 + struct.unpack("<Q", data[:8])[0]) + len(key)
    if at < len(key):
        raise Violation(f"{path} has no checksum")
    found = f"{zlib.crc32(data[at + 8:], zlib.crc32(b'00000000', zlib.crc32(data[:at]))):08x}"
    if found.encode() != data[at:at + 8]:
        raise Violation(f"{path} is damaged: its checksum is {found}, not {data[at:at + 8]!r}")


def check_saved(run, seen):
    """Asserts that a checkpoint of step `seen` or later is there, and that all are complete."""
    # Those with several names once.
    files = {path.stat().st_ino: path for path in run.rglob("*.safetensors")}
    for path in files.values():
        check_complete(path)
    if newest(run) < seen:
        raise Violation(f"{run / LAST} is of step {newest(run)} (-1: is missing), but step {seen} "
                        "had been saved")


def tensors(path):
    """Returns dtype, shape and bytes of each tensor of a file."""
    entries, begin = header(path)
    data = path.read_bytes()
    entries.pop("__metadata__", None)
    found = {}
    for name, entry in entries.items():
        first, end = entry["data_offsets"]
        found[name] = entry["dtype"], entry["shape"], data[begin + first:begin + end]
    return found


def same_tensors(whole, other):
    """Asserts that two files contain bitwise the same tensors."""
    ours, theirs = tensors(whole), tensors(other)
    names = ours.keys() | theirs.keys()
    different = sorted(name for name in names if ours.get(name) != theirs.get(name))
    if different:
        raise Violation(f"{other} differs from {whole} in {len(different)} of {len(ours)} tensors, "
                        f"such as {different[:3]}")


def timeless(value):
    """Returns a value of a log without what was measured."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def events(path, torn=False):
    """Returns the events of a log; with `torn` it may end in the middle of a line."""
    lines = path.read_text(errors="replace").splitlines()
    parsed = []
    for number, line in enumerate(lines):
        try:
            parsed.append(json.loads(line))
        except ValueError:
            if not torn:
                raise Violation(f"{path}:{number + 1} is not JSON: {line[:80]!r}") from None
    return parsed


def json_rows(run):
    """Returns steps, stages and evaluations of `log.jsonl`, in their order."""
    kinds = ("step", "stage", "eval")
    return [timeless(event) for event in events(run / "log.jsonl") if event["event"] in kinds]


def csv_rows(run, name):
    with open(run / name, newline="") as file:
        return [timeless(row) for row in csv.DictReader(file)]


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at


def fields(message):
    """Returns number and value of the fields of a Protocol Buffers message."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, at = varint(message, at)
            value, at = message[at:at + size], at + size
        yield key >> 3, value


def scalars(path):
    """Returns step, tag and value of the scalars in an event file of TensorBoard."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        size = struct.unpack_from("<Q", data, at)[0]
        if at + 16 + size > len(data):
            raise Violation(f"{path} ends in the middle of a record, at byte {at} of {len(data)}")
        event = dict(fields(data[at + 12:at + 12 + size]))
        at += size + 16
        for number, summary in fields(event.get(5, b"")):
            value = dict(fields(summary)) if number == 1 else {}
            if value and not value[1].startswith(b"speed/"):
                yield {"step": event[2], "tag": value[1].decode(), "value": value[2].hex()}


def tensorboard_rows(run):
    return [row for path in sorted((run / "tensorboard").glob("events.*")) for row in scalars(path)]


LOGS = {
    "log.jsonl": json_rows,
    "steps.csv": lambda run: csv_rows(run, "steps.csv"),
    "evals.csv": lambda run: csv_rows(run, "evals.csv"),
    "tensorboard": tensorboard_rows,
}


def same_logs(whole, run, may_lack):
    """Asserts that each log has the rows of that of the undisturbed run, each of them once.

    With `may_lack`, rows may be missing, which is what a power cut does to files that are not
    synced; returns how many.
    """
    lost = 0
    for name, rows in LOGS.items():
        expected, found = rows(whole), rows(run)
        left = iter(expected)
        # A subsequence: nothing twice, nothing in another order, nothing else.
        strange = next((row for row in found if row not in left), None)
        if strange is not None:
            raise Violation(f"{run / name}: a row is not expected there, or comes twice: {strange}")
        missing = [row for row in expected if row not in found]
        if missing and not may_lack:
            raise Violation(f"{run / name} lacks {len(missing)} of {len(expected)} rows, the first "
                            f"of them {missing[0]}")
        lost += len(missing)
    return lost


def listing(run):
    """Returns the names of all files; event files of TensorBoard have the time in theirs."""
    names = (str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    return {re.sub(r"tfevents\.\d+", "tfevents.*", name) for name in names}


def count(names, kind):
    return sum(name.startswith(f"checkpoints/{kind}-") for name in names)


def failed_to_save(run):
    """Returns true if the run could not write a checkpoint, and has gone on."""
    return any(event["event"] == "checkpoint-failed" for event in events(run / "log.jsonl"))


def comparable(names, failed):
    """Returns the names that must be the same.

    Which of the last checkpoints are kept depends on where a signal stopped the run; a best one is
    missing if the disk could not take it.
    """
    kept = re.compile(r"checkpoints/(step|best)-\d+\.safetensors")
    return {name for name in names
            if not kept.fullmatch(name) or "/best-" in name and not failed}


def same_files(whole, run):
    """Asserts that a run has left the files of the undisturbed one and no others."""
    failed, ours, theirs = failed_to_save(run), listing(whole), listing(run)
    for kind in ("step", "best"):
        expected, found = count(ours, kind), count(theirs, kind)
        if found > expected or found < expected and not failed:
            raise Violation(f"{run} keeps {found} checkpoints `{kind}-*` instead of {expected}")
    ours, theirs = comparable(ours, failed), comparable(theirs, failed)
    if ours != theirs:
        raise Violation(f"{run} has files {sorted(theirs - ours)} that the undisturbed run has "
                        f"not, and lacks {sorted(ours - theirs)}")


def same_history(whole, run):
    """Asserts that both runs have had the same evaluations, and that nothing was skipped."""
    ours, theirs = (timeless(record(folder / LAST)["history"]) for folder in (whole, run))
    if ours != theirs:
        raise Violation(f"{run / LAST} has the history {theirs}, the undisturbed run {ours}")


def check_finished(whole, run, may_lack):
    """Compares a finished run with the undisturbed one; returns how many rows its logs lack."""
    names = (WEIGHTS, LAST) if failed_to_save(run) else (WEIGHTS, LAST, BEST)
    for name in names:
        same_tensors(whole / name, run / name)
    same_history(whole, run)
    same_files(whole, run)
    return same_logs(whole, run, may_lack)

#!/usr/bin/env python3
"""Everything there is to check on a machine with an NVIDIA GPU, in stages; its tables come last.

Usage: gpu_check.py target/release/efficienttrain [--tests FOLDER] [--data FOLDER] [--logs FOLDER] [--minutes 9]
                    [--stages parity,resume,nccl,loader,trace,steps,training] [--device cuda:0] [--dtypes bf16,tf32]
                    [--trace LIBRARY] [--compile] [--readme docs/benchmarks.md] [--quick]

  parity    the tests of ops, of whole models and of optimizers on the GPU, once more without cuDNN and cuBLASLt (test
            programs in --tests, built with `cargo test --release --features cudnn -p efficienttrain-models --no-run`)
  steps     training steps of five models at 96, 160 and 224 in bf16, and at 224 in the other --dtypes, beside PyTorch
            (autocast, channels_last, cudnn.benchmark, fused AdamW; --compile adds torch.compile): images a second, memory,
            share of the best product. Ours and PyTorch's take turns, model by model; images lie on the GPU in both
  trace     kernels of a step and the time between them (--trace names the library of bench/cuda/kernel_trace.c)
  loader    images a second that the machine's cores prepare
  training  ResNet-50 and DeiT-S by the curriculum and by plain training on --data (image folders), at 224 in bf16: accuracy
            against time
  resume    a run that is killed and resumed
  nccl      a world of one GPU over NCCL (libnccl.so.2): its tests, and steps of ResNet-50 with sums of gradients and without

Each stage has a limit of its own, beside that of the whole, and a log for each program in --logs; one that fails does not stop
the others. Needs torch and timm for PyTorch's side; without them this project's times are printed alone. --quick is a smoke test,
with two models, few small images and one step, for a GPU that is not there, too: its times say nothing.

What to look at first if a number is bad: `trace` says if the GPU waits between kernels (then launches are too many for the
processor: are passes recorded as graphs?) and which kernels take the time; `--precision f32` and EFFICIENTTRAIN_CUDNN=0 tell
libraries from this project's kernels, EFFICIENTTRAIN_GRAPHS=0 launches kernels one by one; `loader` says if images come fast
enough.

CUDA's libraries are looked for where the system does, in /usr/local/cuda and in the packages of this Python, in this order.
"""
import argparse
import collections
import csv
import glob
import json
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

MODELS = ["resnet50", "deit_small", "swin_tiny", "convnext_tiny", "caformer_s18"]
# Sizes and images of a step: about as many pixels at each size, and small images in a batch that does not fill the GPU.
STEP_SIZES = [(96, 128), (96, 512), (160, 256), (224, 128)]
# Steps that are timed, and those before them.
STEPS, WARMUP = 20, 8
# Compute epochs of the runs, and what they have in common.
EPOCHS = 30
RUN = ["--precision", "bf16", "--batch", "128", "--eval-every", "20%"]
# What a smoke test does instead.
QUICK = {"MODELS": ["deit_tiny", "resnet50"], "STEP_SIZES": [(32, 2)], "STEPS": 3, "WARMUP": 0, "EPOCHS": 1}
QUICK["TESTS"] = ["op_gradients", "op_gradients_transformers", "op_masked", "op_images", "op_upsample"]
QUICK["RUN"] = "--model resnet10 --recipe baseline --base-size 32 --batch 4 --eval-every 100%".split()
# Seconds of each stage, at most.
LIMITS = {"parity": 90, "steps": 300, "trace": 60, "loader": 40, "training": 200, "resume": 60, "nccl": 90}
TESTS = ["gpu", "op_gradients", "op_gradients_transformers", "op_masked", "op_images", "op_upsample", "golden_models"]


def torch_steps(name, sizes, dtype, compiled):
    """In a process of its own: a JSON object a line for each size and batch."""
    import contextlib

    import timm
    import torch

    from step_vs_torch import TIMM

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype != "f32"
    narrow = {"bf16": torch.bfloat16, "f16": torch.float16}.get(dtype)
    for size, batch in sizes:
        timm_name, needs = TIMM[name]
        values = {"img_size": size, "window_size": size // 32}
        model = timm.create_model(timm_name, num_classes=1000, **{key: values[key] for key in needs})
        model = model.cuda().train().to(memory_format=torch.channels_last)
        x = torch.randn(batch, 3, size, size, device="cuda").contiguous(memory_format=torch.channels_last)
        y = torch.randint(0, 1000, (batch,), device="cuda")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
        scaler = torch.amp.GradScaler("cuda", enabled=dtype == "f16")
        net = torch.compile(model) if compiled else model
        torch.cuda.reset_peak_memory_stats()
        times = []
        for i in range(WARMUP + STEPS):
            begun = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", narrow) if narrow else contextlib.nullcontext():
                loss = torch.nn.functional.cross_entropy(net(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            loss.item()
            torch.cuda.synchronize()
            if i >= WARMUP:
                times.append(1e3 * (time.perf_counter() - begun))
        times.sort()
        peak = torch.cuda.max_memory_allocated() >> 20
        print(json.dumps({"size": size, "batch": batch, "step_ms": times[len(times) // 2], "peak_mib": peak}), flush=True)
        del model, net, optimizer, x, y, loss
        torch.cuda.empty_cache()


class Clock:
    """What is left of the time, for the whole and for a stage."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return max(self.end - time.monotonic(), 1)

    def stage(self, name):
        return Clock(min(self.left(), LIMITS[name]))


class Programs:
    """Runs programs, and keeps what they print."""

    def __init__(self, a):
        self.binary, self.device, self.logs = str(pathlib.Path(a.binary).resolve()), a.device, pathlib.Path(a.logs)
        self.logs.mkdir(parents=True, exist_ok=True)

    def log(self, name, text):
        with (self.logs / f"{name}.txt").open("a") as file:
            file.write(text)

    def run(self, log, command, seconds, **more):
        """Output of a program; None in place of its status where the time ran out."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), **more)
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as e:
            text = lambda x: x.decode() if isinstance(x, bytes) else x or ""
            code, out, err = None, text(e.stdout), text(e.stderr)
        self.log(log, f"$ {' '.join(map(str, command))}\n{out}{err}\n-- {'the time ran out' if code is None else f'status {code}'}\n")
        return code, out, err

    def own(self, log, arguments, seconds, **more):
        return self.run(log, [self.binary, *map(str, arguments)], seconds, env=environment(**more))


def environment(**more):
    """For this project's programs: where else CUDA's libraries may be."""
    packages = glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")
    folders = [os.environ.get("LD_LIBRARY_PATH", ""), "/usr/local/cuda/lib64", *sorted(packages)]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, folders))} | more


def why(code, out, err):
    return "the time ran out" if code is None else ((err or out).strip().splitlines() or [f"it ended with status {code}"])[-1][:200]


def parity(a, programs, clock):
    """A table of the test programs, all of which run at once."""
    if not a.tests:
        return "parity: no --tests, not run"
    runs = [(name, {}) for name in TESTS] + [("op_gradients", {"EFFICIENTTRAIN_CUDNN": "0", "EFFICIENTTRAIN_CUBLASLT": "0"})]
    rows, started = [], []
    for name, variables in runs:
        # Names end in a hash, which has no dash.
        found = [p for p in pathlib.Path(a.tests).resolve().glob(f"{name}-*") if p.suffix == "" and os.access(p, os.X_OK)]
        if not found:
            rows.append(f"| {name} | 0 | 0 | not there |")
            continue
        newest = max(found, key=lambda p: p.stat().st_mtime)
        golden = str(pathlib.Path(a.golden).resolve())
        env = environment(EFFICIENTTRAIN_TEST_GPU="1", EFFICIENTTRAIN_TEST_DATA=golden, RUST_BACKTRACE="0", **variables)
        log = (programs.logs / f"test_{name}{'_plain' if variables else ''}.txt").open("w+")
        started.append((name, variables, log, subprocess.Popen([newest], env=env, stdout=log, stderr=subprocess.STDOUT)))
    for name, variables, log, process in started:
        try:
            process.wait(clock.left())
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.seek(0)
        out = log.read()
        counts = re.search(r"(\d+) passed; (\d+) failed", out)
        passed, failed = counts.groups() if counts else (out.count("... ok"), out.count("FAILED"))
        remark = "" if process.returncode == 0 else "the time ran out" if not counts else "see its log"
        shown = name + (" without cuDNN and cuBLASLt" if variables else "")
        rows.append(f"| {shown} | {passed} | {failed} | {remark} |")
    return "| tests on the GPU | passed | failed | |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def own_step(programs, name, size, batch, dtype, seconds, **more):
    arguments = ["bench", "step", "--device", programs.device, "--model", name, "--size", size, "--batch", batch]
    arguments += ["--dtype", dtype, "--steps", STEPS, "--warmup", WARMUP, "--json"]
    code, out, err = programs.own("steps_own", arguments, seconds, **more)
    return json.loads(out) if code == 0 else why(code, out, err)


def torch_step(programs, name, sizes, dtype, compiled, seconds, quick):
    """What PyTorch takes at each size, as far as it came in the time; says why not if it did not come at all."""
    listed = ",".join(f"{size}x{batch}" for size, batch in sizes)
    call = [sys.executable, __file__, "--torch", name, listed, dtype, str(int(compiled)), str(int(quick))]
    code, out, err = programs.run("steps_torch", call, seconds)
    rows = map(json.loads, filter(lambda line: line.startswith("{"), out.splitlines()))
    rows = {(row["size"], row["batch"]): row for row in rows}
    if len(rows) < len(sizes):
        remark = f"{len(rows)} of {len(sizes)} sizes: {why(code, '', err)}"
        print(f"PyTorch, {name}, {dtype}{', compiled' if compiled else ''}: {remark}", flush=True)
    return rows


def steps(a, programs, clock):
    """A table of training steps: of each model ours and PyTorch's, one after the other."""
    rows = []
    for dtype in a.dtypes.split(","):
        sizes = STEP_SIZES if dtype == "bf16" else STEP_SIZES[-1:]
        for name in MODELS:
            own = {at: own_step(programs, name, *at, dtype, clock.left()) for at in sizes}
            peers = [torch_step(programs, name, sizes, dtype, False, clock.left(), a.quick)]
            peers.append(torch_step(programs, name, sizes, dtype, True, clock.left(), a.quick) if a.compile else {})
            rows += [(name, *at, dtype, own[at], *(peer.get(at) for peer in peers)) for at in sizes]
    return step_table(rows, a.compile)


def step_table(rows, with_compiled):
    heads = ["model", "size", "batch", "type", "images/s", "share of best product", "MiB", "PyTorch images/s", "ratio", "MiB"]
    heads += ["compiled"] * with_compiled
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] * len(heads)) + " |"]
    ratios = collections.defaultdict(list)
    for name, size, batch, dtype, own, peer, compiled in rows:
        if isinstance(own, str):
            lines.append(f"| {name} | {size} | {batch} | {dtype} | failed: {own} |" + " |" * (len(heads) - 5))
            continue
        rate = lambda row: 1e3 * batch / row["step_ms"]
        cells = [f"{rate(own):.{0 if rate(own) > 10 else 2}f}", f"{100 * own['gemm_share']:.0f}%", f"{own['peak_mib']}"]
        if peer:
            ratio = rate(own) / rate(peer)
            ratios[dtype].append(ratio)
            cells += [f"{rate(peer):.0f}", f"{ratio:.2f}", f"{peer['peak_mib']}"]
        else:
            cells += ["-", "-", "-"]
        if with_compiled:
            cells.append(f"{rate(own) / rate(compiled):.2f}" if compiled else "-")
        lines.append(f"| {name} | {size} | {batch} | {dtype} | " + " | ".join(cells) + " |")
    for dtype, all_of in ratios.items():
        mean = math.exp(sum(map(math.log, all_of)) / len(all_of))
        lines.append(f"\nImages per second in {dtype} over PyTorch's: geometric mean {mean:.2f}, least {min(all_of):.2f}.")
    return "\n".join(lines)


def trace(a, programs, clock):
    """Kernels of the last step of each model, and the time between them."""
    if not a.trace:
        return "trace: no --trace, not run"
    lines = ["| model | launches of a step | ms | of them without a kernel | largest kernels |", "| --- | --- | --- | --- | --- |"]
    for name in MODELS:
        path = programs.logs / f"kernels_{name}.tsv"
        more = {"CUDA_INJECTION64_PATH": str(pathlib.Path(a.trace).resolve()), "KERNEL_TRACE": str(path)}
        own = own_step(programs, name, *STEP_SIZES[-1], "bf16", clock.left(), **more)
        lines.append(f"| {name} | " + (f"failed: {own} | | | |" if isinstance(own, str) else last_step(path, programs, name)))
        path.unlink(missing_ok=True)
    return "\n".join(lines)


def last_step(path, programs, name):
    fields = [line.rstrip("\n").split("\t") for line in path.open()]
    rows = sorted((int(f[0]), int(f[1]), f[4]) for f in fields if len(f) == 5)
    # A step ends with its update.
    ends = [i for i, row in enumerate(rows) if "adamw" in row[2]]
    if len(ends) < 2:
        return "no step seen | | | |"
    part = rows[ends[-2] + 1:ends[-1] + 1]
    times, counts, idle, last = collections.Counter(), collections.Counter(), 0, part[0][0]
    for start, end, kernel in part:
        times[kernel] += end - start
        counts[kernel] += 1
        idle += max(start - last, 0)
        last = max(last, end)
    listed = [f"{time / 1e6:8.3f} ms {counts[kernel]:5} x {kernel}" for kernel, time in times.most_common()]
    programs.log(f"kernels_{name}", "\n".join(listed) + "\n")
    top = ", ".join(f"{kernel[:40]} {time / 1e6:.1f}" for kernel, time in times.most_common(3))
    return f"{len(part)} | {(last - part[0][0]) / 1e6:.1f} | {idle / 1e6:.1f} | {top} |"


def loader(a, programs, clock):
    if not a.data:
        return "loader: no --data, not run"
    code, out, err = programs.own("loader", ["bench", "preprocess", "--data", a.data], clock.left())
    return "```text\n" + out.strip() + "\n```" if code == 0 else f"loader: failed: {why(code, out, err)}"


def source(a):
    if a.quick:
        return ["--synthetic-images", "64"]
    return ["--data", a.data] if a.data else []


def evaluations(folder):
    """Evaluations in the log of a run, the last line of which may be half written."""
    try:
        lines = (folder / "log.jsonl").read_text().splitlines()
    except OSError:
        return []
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in events if event.get("event") == "eval"]


def training(a, programs, clock):
    """Accuracy against time of the curriculum and of plain training, with equal compute."""
    if not a.data or a.quick:
        return "training: no --data, or a smoke test: not run"
    lines = ["| model | recipe | compute epochs | passes | seconds | top-1 by the seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for model in ["resnet50", "deit_small"]:
        for recipe in ["etpp", "baseline"]:
            out = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-")) / "run"
            arguments = ["train", "--device", a.device, *RUN, "--model", model, "--recipe", recipe, "--epochs", EPOCHS]
            arguments += ["--checkpoint-every", "100%"]
            code, text, err = programs.own(f"run_{model}_{recipe}", [*arguments, *source(a), "--out", out], clock.left())
            seen = evaluations(out)
            if code != 0 or not seen:
                lines.append(f"| {model} | {recipe} | failed: {why(code, text, err)} | | | |")
                continue
            course = ", ".join(f"{100 * e['top1']:.1f}% at {e['seconds']:.0f}" for e in seen)
            end = seen[-1]
            lines.append(f"| {model} | {recipe} | {end['equivalent_epochs']:.1f} | {end['epoch']:.1f} | {end['seconds']:.1f} | {course} |")
            shutil.rmtree(out.parent)
    return "\n".join(lines)


def resume(a, programs, clock):
    """A run that is killed once it has a checkpoint, and goes on."""
    out = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-")) / "run"
    model = [] if a.quick else ["--model", "deit_small", "--recipe", "etpp"]
    arguments = ["train", "--device", a.device, *RUN, *model, "--epochs", EPOCHS, *source(a), "--out", out]
    arguments += ["--checkpoint-every", "10%"]
    log = (programs.logs / "resume_first.txt").open("w")
    first = subprocess.Popen([programs.binary, *map(str, arguments)], env=environment(), stdout=log, stderr=log)
    while not (out / "last.safetensors").exists() and first.poll() is None and clock.left() > 1:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    if clock.left() <= 1:
        return "resume: the time ran out"
    code, text, err = programs.own("resume_second", [*arguments, "--resume"], clock.left())
    begun = re.search(r"resuming at step (\d+)", text + err)
    end = re.search(r"done: (\d+) steps", text + err)
    if code != 0 or not begun or not end:
        return f"resume: failed: {why(code, text, err)}"
    if begun[1] == end[1]:
        return "resume: failed: the first run had ended before it could be killed"
    return f"resume: killed, went on at step {begun[1]} and ended at step {end[1]}"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def step_ms(out):
    """Median time of a step without its waits for images, after those that warm up."""
    rows = list(csv.DictReader((out / "steps.csv").open()))[WARMUP:]
    return statistics.median(1e3 * (float(row["seconds"]) - float(row["data_seconds"])) for row in rows)


def nccl_steps(a, programs, clock, name, more, **variables):
    """Row of a table: a short run with synthetic images."""
    out = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-")) / "run"
    small = ["--precision", "bf16", "--batch", "128", "--model", "resnet50", "--recipe", "baseline", "--synthetic-images", "4096"]
    arguments = ["train", "--device", a.device, *(RUN if a.quick else small), "--stop-after", WARMUP + STEPS, "--log", "csv"]
    arguments += ["--rank-timeout", "30", "--out", out, *more] + ["--synthetic-images", "64"] * a.quick
    begun = time.monotonic()
    code, text, err = programs.own("nccl", arguments, clock.left(), **variables)
    seconds = time.monotonic() - begun
    row = f"{step_ms(out):.1f} | {seconds:.1f}" if code == 0 else f"failed: {why(code, text, err)} |"
    shutil.rmtree(out.parent)
    return f"| {name} | {row} |"


def nccl(a, programs, clock):
    """One GPU that adds up its gradients with nobody else: what NCCL adds to a step on its side stream."""
    lines = []
    found = sorted(pathlib.Path(a.tests or ".").resolve().glob("gpu-*"), key=lambda p: p.stat().st_mtime)
    programs_found = [p for p in found if a.tests and p.suffix == "" and os.access(p, os.X_OK)]
    if programs_found:
        env = environment(EFFICIENTTRAIN_TEST_GPU="1")
        code, text, err = programs.run("nccl", [programs_found[-1], "nccl"], clock.left(), env=env)
        counts = re.search(r"(\d+) passed; (\d+) failed", text)
        lines += [f"nccl: tests: {counts[0] if counts else why(code, text, err)}", ""]
    world = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    lines += ["| sums of gradients | step, ms | whole program, s |", "| --- | --- | --- |"]
    lines.append(nccl_steps(a, programs, clock, "none", []))
    lines.append(nccl_steps(a, programs, clock, "NCCL, f32", ["--engine", "tcp"], **world))
    lines.append(nccl_steps(a, programs, clock, "NCCL, bf16", ["--engine", "tcp", "--sum-type", "bf16"], **world))
    return "\n".join(lines)


# Short ones first, so that the time suffices for them.
STAGES = {"parity": parity, "resume": resume, "nccl": nccl, "loader": loader, "trace": trace, "steps": steps, "training": training}


def main():
    if sys.argv[1:2] == ["--torch"]:
        name, sizes, dtype, compiled, quick = sys.argv[2:]
        globals().update(QUICK if quick == "1" else {})
        return torch_steps(name, [tuple(map(int, at.split("x"))) for at in sizes.split(",")], dtype, compiled == "1")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary")
    p.add_argument("--tests")
    p.add_argument("--golden", default="models/tests/data")
    p.add_argument("--data")
    p.add_argument("--logs", default="gpu-check-logs")
    p.add_argument("--stages", default=",".join(STAGES))
    p.add_argument("--minutes", type=float, default=9)
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--dtypes", default="bf16,f16,tf32,f32")
    p.add_argument("--trace")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--readme")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    globals().update(QUICK if a.quick else {})
    clock, programs = Clock(60 * a.minutes), Programs(a)
    card = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    card = programs.run("card", card, 20)[1].strip() if shutil.which("nvidia-smi") else "no nvidia-smi"
    parts = [f"### {card or 'nvidia-smi says nothing'}"]
    if a.quick:
        parts.append("A smoke test: small models and images, one step, without gpu, golden_models")
    for name in a.stages.split(","):
        begun = time.monotonic()
        try:
            parts.append(STAGES[name](a, programs, clock.stage(name)))
        except Exception as e:  # The other stages are still to come.
            parts.append(f"{name}: failed: {e!r}")
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
        (programs.logs / "report.md").write_text("\n\n".join(parts) + "\n")
    report = "\n\n".join(parts)
    print(report)
    if a.readme:
        path = pathlib.Path(a.readme)
        begin, end = "<!-- gpu_check: begin -->", "<!-- gpu_check: end -->"
        before, rest = path.read_text().split(begin)
        path.write_text(before + begin + "\n" + report + "\n" + end + rest.split(end)[1])


if __name__ == "__main__":
    main()

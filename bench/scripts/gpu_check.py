#!/usr/bin/env python3
"""Everything there is to check on a machine with an NVIDIA GPU, in nine minutes; its table comes last.

Usage: gpu_check.py target/release/efficienttrain [--tests FOLDER] [--data FOLDER] [--minutes 9] [--device cuda:0]
                    [--compile] [--readme docs/benchmarks.md] [--quick]

  1. parity: the tests of ops, of whole models and of optimizers on the GPU (test programs in --tests, built with
     `cargo test --release --features cuda -p efficienttrain-models --no-run`; golden numbers in models/tests/data)
  2. training steps of five models at 96, 160 and 224 in bf16, and at 224 in f32, beside PyTorch (autocast, channels_last,
     cudnn.benchmark, fused AdamW; --compile adds torch.compile): images a second, memory, share of the best product
  3. the input pipeline: images a second that the machine's cores prepare at each size
  4. a real training run on --data (image folders; without it, the built-in set) for the time that is left

Needs torch and timm for 2; without them this project's times are printed alone. Ours send the images of each step to the
GPU, as a run does; PyTorch's lie there. Each part is cut off when its share of the time is spent, and says so: nothing is left
out in silence. --quick is a smoke test, with two models, few small images and one step, for a GPU that is not there, too: its
times say nothing.

CUDA's libraries are looked for where the system does, in /usr/local/cuda and in the packages of this Python, in this order.
"""
import argparse
import glob
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import time

MODELS = ["resnet50", "deit_small", "swin_tiny", "convnext_tiny", "caformer_s18"]
SIZES = [96, 160, 224]
# Images of a step: about as many pixels at each size.
BATCH = {96: 512, 160: 256, 224: 128}
# Steps that are timed, and those before them.
STEPS, WARMUP = 20, 5
# What a smoke test does instead.
QUICK = {"MODELS": ["deit_tiny", "resnet50"], "SIZES": [32], "BATCH": {32: 2}, "STEPS": 1, "WARMUP": 0}
QUICK["TESTS"] = ["op_gradients", "op_gradients_transformers", "op_masked", "op_images", "op_upsample"]
# Sharing of the time between the parts.
SHARES = {"parity": 0.25, "steps": 0.45, "pipeline": 0.08}
ALL_TESTS = TESTS = ["gpu", "op_gradients", "op_gradients_transformers", "op_masked", "op_images", "op_upsample", "golden_models"]


def torch_steps(names, sizes, dtype, compiled):
    """In a process of its own: a JSON object a line for each model and size."""
    import contextlib

    import timm
    import torch

    from step_vs_torch import TIMM

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype != "f32"
    for name in names:
        for size in sizes:
            timm_name, needs = TIMM[name]
            values = {"img_size": size, "window_size": size // 32}
            model = timm.create_model(timm_name, num_classes=1000, **{key: values[key] for key in needs})
            model = model.cuda().train().to(memory_format=torch.channels_last)
            x = torch.randn(BATCH[size], 3, size, size, device="cuda").contiguous(memory_format=torch.channels_last)
            y = torch.randint(0, 1000, (BATCH[size],), device="cuda")
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)
            net = torch.compile(model) if compiled else model
            autocast = torch.autocast("cuda", torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext()
            torch.cuda.reset_peak_memory_stats()
            times = []
            for i in range(WARMUP + STEPS):
                begun = time.perf_counter()
                optimizer.zero_grad(set_to_none=True)
                with autocast:
                    loss = torch.nn.functional.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                loss.item()
                torch.cuda.synchronize()
                if i >= WARMUP:
                    times.append(1e3 * (time.perf_counter() - begun))
            times.sort()
            peak = torch.cuda.max_memory_allocated() >> 20
            print(json.dumps({"model": name, "size": size, "step_ms": times[len(times) // 2], "peak_mib": peak}), flush=True)
            del model, net, optimizer, x, y, loss
            torch.cuda.empty_cache()


class Clock:
    """What is left of the time, for the whole and for a part."""

    def __init__(self, minutes):
        self.end = time.monotonic() + 60 * minutes
        self.whole = 60 * minutes

    def left(self):
        return self.end - time.monotonic()

    def part(self, share):
        return min(self.left() - 20, share * self.whole)


def run(command, seconds, **more):
    """Output of a program; None in place of its status where the time ran out."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), **more)
        return done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as e:
        text = lambda x: x.decode() if isinstance(x, bytes) else x or ""
        return None, text(e.stdout), text(e.stderr)


def environment(**more):
    """For this project's programs: where else CUDA's libraries may be."""
    packages = glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib")
    folders = [os.environ.get("LD_LIBRARY_PATH", ""), "/usr/local/cuda/lib64", *sorted(packages)]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, folders))} | more


def parity(folder, data, clock):
    """(program, passed, failed, remark) for each test program."""
    rows, end = [], time.monotonic() + clock.part(SHARES["parity"])
    for name in TESTS:
        # Names end in a hash, which has no dash.
        found = pathlib.Path(folder).resolve().glob(f"{name}-*")
        programs = [p for p in found if p.is_file() and p.suffix == "" and os.access(p, os.X_OK)]
        if not programs:
            rows.append((name, 0, 0, "not there"))
            continue
        newest = max(programs, key=lambda p: p.stat().st_mtime)
        told = environment(EFFICIENTTRAIN_TEST_GPU="1", EFFICIENTTRAIN_TEST_DATA=str(data))
        code, out, err = run([newest], end - time.monotonic(), env=told)
        counts = re.search(r"(\d+) passed; (\d+) failed", out)
        passed, failed = map(int, counts.groups()) if counts else (out.count("... ok"), out.count("FAILED"))
        remark = "" if code == 0 else "the time ran out" if code is None else (out + err).strip()[-2000:]
        rows.append((name, passed, failed, remark))
    return rows


def own_step(binary, device, name, size, dtype, seconds):
    command = [binary, "bench", "step", "--device", device, "--model", name, "--size", str(size), "--batch", str(BATCH[size])]
    command += ["--dtype", dtype, "--steps", str(STEPS), "--warmup", str(WARMUP), "--json"]
    code, out, err = run(command, seconds, env=environment())
    if code is None:
        return "the time ran out"
    return json.loads(out) if code == 0 else err.strip()[-400:] or f"it ended with code {code}"


def torch_step(name, sizes, dtype, compiled, seconds, quick):
    """What PyTorch takes at each size, as far as it came in the time; says why not if it did not come at all."""
    call = [sys.executable, __file__, "--torch", name, ",".join(map(str, sizes)), dtype, str(int(compiled)), str(int(quick))]
    code, out, err = run(call, seconds)
    rows = {row["size"]: row for row in map(json.loads, filter(lambda line: line.startswith("{"), out.splitlines()))}
    if len(rows) < len(sizes):
        why = "the time ran out" if code is None else (err.strip().splitlines() or [f"it ended with code {code}"])[-1]
        print(f"PyTorch, {name}, {dtype}{', compiled' if compiled else ''}: {len(rows)} of {len(sizes)} sizes: {why}", flush=True)
    return rows


def steps(a, clock):
    """Rows of the table of training steps: of each model ours and PyTorch's, one after the other."""
    end = time.monotonic() + clock.part(SHARES["steps"])
    left = lambda: end - time.monotonic()
    rows = []
    for dtype, sizes in [("bf16", SIZES), ("f32", SIZES[-1:])]:
        for name in MODELS:
            own = {size: own_step(a.binary, a.device, name, size, dtype, left()) for size in sizes}
            peers = [torch_step(name, sizes, dtype, False, left(), a.quick)]
            peers.append(torch_step(name, sizes, dtype, True, left(), a.quick) if a.compile else {})
            rows += [(name, size, dtype, own[size], *(peer.get(size) for peer in peers)) for size in sizes]
    return rows


def table(rows):
    lines = ["| model | size | batch | type | images/s | share of best product | MiB | PyTorch images/s | ratio | MiB | compiled |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    ratios = []
    for name, size, dtype, own, peer, compiled in rows:
        if isinstance(own, str):
            lines.append(f"| {name} | {size} | {BATCH[size]} | {dtype} | failed: {own.splitlines()[-1]} |" + " |" * 6)
            continue
        rate = lambda row: 1e3 * BATCH[size] / row["step_ms"]
        cells = [f"{rate(own):.{0 if rate(own) > 10 else 2}f}", f"{100 * own['gemm_share']:.0f}%", f"{own['peak_mib']}"]
        if peer:
            ratio = rate(own) / rate(peer)
            if dtype == "bf16":
                ratios.append(ratio)
            cells += [f"{rate(peer):.0f}", f"{ratio:.2f}", f"{peer['peak_mib']}"]
        else:
            cells += ["-", "-", "-"]
        cells.append(f"{rate(own) / rate(compiled):.2f}" if compiled else "-")
        lines.append(f"| {name} | {size} | {BATCH[size]} | {dtype} | " + " | ".join(cells) + " |")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines.append(f"\nbf16, images a second over PyTorch's: geometric mean {mean:.2f}, least {min(ratios):.2f}")
    return "\n".join(lines)


def pipeline(a, clock):
    """Lines of `bench preprocess`."""
    if not a.data:
        return "no --data: not measured"
    command = [a.binary, "bench", "preprocess", "--data", a.data]
    code, out, err = run(command, clock.part(SHARES["pipeline"]), env=environment())
    if code is None:
        return "the time ran out"
    return out.strip() if code == 0 else f"failed: {(err or out).strip()[-400:]}"


def training(a, clock):
    """A run until the time is spent: what its log says last."""
    # A folder of its own: one that has a run in it is refused.
    out = pathlib.Path(tempfile.mkdtemp(prefix="gpu-check-", dir=".")) / "run"
    command = [a.binary, "train", "--device", a.device, "--precision", "bf16", "--out", str(out)]
    if a.quick:
        command += "--model resnet10 --recipe baseline --base-size 32 --batch 4 --epochs 1 --eval-every 100%".split()
    else:
        command += "--model resnet18 --base-size 128 --batch 128 --epochs 20 --eval-every 10%".split()
    command += ["--data", a.data] if a.data else ["--synthetic-images", "16"] if a.quick else []
    code, _, err = run(command, clock.left() - 5, env=environment())
    ended = {0: "ran to its end", None: "was stopped when the time was spent"}.get(code, f"failed: {err.strip()[-800:]}")
    try:
        log = (out / "log.jsonl").read_text().splitlines()
    except OSError as e:
        return f"the run {ended}; no log: {e}"
    # The last line may be half written, where the run was stopped.
    return f"the run {ended}\n" + "\n".join(line for line in log if "top1" in line and line.endswith("}"))[-2000:]


def main():
    if sys.argv[1:2] == ["--torch"]:
        name, sizes, dtype, compiled, quick = sys.argv[2:]
        globals().update(QUICK if quick == "1" else {})
        return torch_steps([name], [int(s) for s in sizes.split(",")], dtype, compiled == "1")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary")
    p.add_argument("--tests")
    p.add_argument("--golden", default="models/tests/data")
    p.add_argument("--data")
    p.add_argument("--minutes", type=float, default=9)
    p.add_argument("--device", default="cuda:0")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--readme")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    a.binary = str(pathlib.Path(a.binary).resolve())
    clock = Clock(a.minutes)
    globals().update(QUICK if a.quick else {})
    card = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], 20) if have("nvidia-smi") else None
    parts = ["### " + (card[1].strip() or "nvidia-smi says nothing" if card else "no nvidia-smi")]
    if a.quick:
        parts.append("A smoke test: small models and images, one step, without " + ", ".join(sorted(set(ALL_TESTS) - set(TESTS))))
    if a.tests:
        rows = parity(a.tests, pathlib.Path(a.golden).resolve(), clock)
        shown = lambda remark: remark.splitlines()[-1] if remark else ""
        lines = [f"| {name} | {passed} | {failed} | {shown(remark)} |" for name, passed, failed, remark in rows]
        print("\n".join(f"== {name}\n{remark}" for name, _, _, remark in rows if remark), flush=True)
        parts.append("| tests on the GPU | passed | failed | |\n| --- | --- | --- | --- |\n" + "\n".join(lines))
    else:
        parts.append("parity: no --tests, not run")
    parts.append(table(steps(a, clock)))
    prepared = pipeline(a, clock)
    trained = training(a, clock)
    report = "\n\n".join([*parts, "input pipeline:\n\n" + prepared, "training: " + trained])
    print(report)
    if a.readme:
        path = pathlib.Path(a.readme)
        begin, end = "<!-- gpu_check: begin -->", "<!-- gpu_check: end -->"
        before, rest = path.read_text().split(begin)
        path.write_text(before + begin + "\n" + report + "\n" + end + rest.split(end)[1])


def have(program):
    from shutil import which

    return which(program) is not None


if __name__ == "__main__":
    main()

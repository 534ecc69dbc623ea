#!/usr/bin/env python3
"""Training steps of this project beside PyTorch's, alternating in one run: forward, backward and AdamW.

Usage: step_vs_torch.py target/release/efficienttrain [--models swin_tiny,...] [--sizes 96,160,224] [--rounds 3]
                        [--dtype f32|bf16] [--peers plain,malloc,channels-last,compile]
                        [--readme docs/benchmarks.md [--machine zen5]]

Needs, in a virtual environment of its own: pip install torch torchvision timm (and a C++ compiler for `compile`)

Each program gets a process of its own a round (A B C A B C ...), so that its peak memory can be read. Peers:
  plain          PyTorch as it comes; with --dtype bf16 under torch.autocast
  malloc         with large buffers kept by the allocator instead of given back to the system each time
  channels-last  weights and images in torch.channels_last
  compile        torch.compile
Prints a table of the ratios of medians to each, with the least and the greatest ratio of a round to the first; with
--readme it also replaces what stands there between the markers.
"""
import argparse
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

TIMM = {
    "resnet50": ("resnet50", ()),
    "deit_tiny": ("deit_tiny_patch16_224", ("img_size",)),
    "deit_small": ("deit_small_patch16_224", ("img_size",)),
    "swin_tiny": ("swin_tiny_patch4_window7_224", ("img_size", "window_size")),
    "convnext_tiny": ("convnext_tiny", ()),
    "caformer_s18": ("caformer_s18", ()),
}
# What keeps glibc from returning memory to the system after each step: thresholds above every buffer of these models.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "MALLOC_TOP_PAD_": str(1 << 26)}


def torch_step(name, size, batch, steps, warmup, threads, dtype, variant):
    """Runs in a process of its own; prints one JSON object."""
    import contextlib

    import timm
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    timm_name, needs = TIMM[name]
    # The window is a 32nd of the image, as in the reference.
    values = {"img_size": size, "window_size": size // 32}
    model = timm.create_model(timm_name, num_classes=1000, **{key: values[key] for key in needs}).train()
    x, y = torch.randn(batch, 3, size, size), torch.randint(0, 1000, (batch,))
    if variant == "channels-last":
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    net = torch.compile(model) if variant == "compile" else model
    precision = torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else contextlib.nullcontext()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    times = []
    for i in range(warmup + steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        loss.item()
        if i >= warmup:
            times.append((time.perf_counter() - start) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step_ms": statistics.median(times), "peak_mib": peak, "version": torch.__version__}))


def output(command, **environment):
    run = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    return json.loads(run.stdout.splitlines()[-1])


def compare(args, name, size):
    fixed = ["--model", name, "--size", str(size), "--batch", str(args.batch), "--steps", str(args.steps)]
    fixed += ["--warmup", str(args.warmup), "--threads", str(args.threads), "--dtype", args.dtype]
    ours, theirs = [], {peer: [] for peer in args.peers}
    for _ in range(args.rounds):
        ours.append(output([args.binary, "bench", "step", *fixed, "--json"]))
        for peer, rows in theirs.items():
            environment = KEEP_MEMORY if peer == "malloc" else {}
            rows.append(output([sys.executable, __file__, "--peer", peer, *fixed], **environment))
    time_of = lambda rows: statistics.median(row["step_ms"] for row in rows)
    first = theirs[args.peers[0]]
    ratios = [a["step_ms"] / b["step_ms"] for a, b in zip(ours, first)]
    return {
        "model": name,
        "size": size,
        "ours": time_of(ours),
        "theirs": time_of(first),
        "ratios": {peer: time_of(ours) / time_of(rows) for peer, rows in theirs.items()},
        "least": min(ratios),
        "most": max(ratios),
        "memory": statistics.median(a["peak_mib"] / b["peak_mib"] for a, b in zip(ours, first)),
        "share": statistics.median(a["gemm_share"] for a in ours),
        "gflops": statistics.median(a["gflops"] for a in ours),
        "version": first[0]["version"],
    }


def table(rows, args):
    """The table, and how far the time of a small size is from its share of the arithmetic."""
    others = args.peers[1:]
    words = {"malloc": "with memory kept", "channels-last": "channels-last", "compile": "compiled"}
    largest = {r["model"]: r for r in sorted(rows, key=lambda r: r["size"])}
    head = (
        f"Batch {args.batch}, {args.threads} threads, {args.dtype}, PyTorch {rows[0]['version']}, {args.rounds} alternating rounds.\n\n"
        "| model | size | ours ms | PyTorch ms | time ratio (least to most) | "
        + "".join(f"{words[peer]} | " for peer in others)
        + "memory ratio | share of the best product | time for its arithmetic, against the largest size |\n"
        + "| --- " * (8 + len(others))
        + "|\n"
    )
    lines = [
        f"| {r['model']} | {r['size']} | {r['ours']:.0f} | {r['theirs']:.0f} "
        f"| {r['ratios'][args.peers[0]]:.2f} ({r['least']:.2f} to {r['most']:.2f}) "
        + "".join(f"| {r['ratios'][peer]:.2f} " for peer in others)
        + f"| {r['memory']:.2f} | {r['share']:.0%} | {largest[r['model']]['gflops'] / r['gflops']:.2f} |"
        for r in rows
    ]
    mean = lambda peer: math.exp(statistics.mean(math.log(r["ratios"][peer]) for r in rows))
    means = ", ".join(f"{mean(peer):.2f}" + (f" {words[peer]}" if peer in words else "") for peer in args.peers)
    return head + "\n".join(lines) + f"\n\nGeometric mean of the time ratios: {means}.\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary", nargs="?", help="the release build of efficienttrain")
    p.add_argument("--models", default="resnet50,deit_small,swin_tiny,convnext_tiny,caformer_s18")
    p.add_argument("--sizes", default="96,160,224")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--dtype", default="f32", choices=["f32", "bf16"])
    p.add_argument("--peers", default="plain,malloc", type=lambda text: text.split(","))
    p.add_argument("--readme", type=pathlib.Path)
    p.add_argument("--machine", default="zen5", help="whose table of the page this is: zen5, amx")
    p.add_argument("--peer", help=argparse.SUPPRESS)
    p.add_argument("--model", help=argparse.SUPPRESS)
    p.add_argument("--size", type=int, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peer:
        return torch_step(args.model, args.size, args.batch, args.steps, args.warmup, args.threads, args.dtype, args.peer)
    if not args.binary:
        p.error("give the binary to time, such as target/release/efficienttrain")
    rows = []
    for name in args.models.split(","):
        for size in map(int, args.sizes.split(",")):
            rows.append(compare(args, name, size))
            print(json.dumps(rows[-1]), flush=True)
    text = table(rows, args)
    print(text)
    if args.readme:
        page = args.readme.read_text()
        begin, end = (f"<!-- step_vs_torch {args.dtype} {args.machine}: {word} -->" for word in ("begin", "end"))
        before, rest = page.split(begin)
        args.readme.write_text(before + begin + "\n" + text + end + rest.split(end)[1])


if __name__ == "__main__":
    main()

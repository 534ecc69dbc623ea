#!/usr/bin/env python3
"""Training steps of this project beside PyTorch's, alternating in one run: forward, backward and AdamW in single precision.

Usage: step_vs_torch.py target/release/efficienttrain [--models swin_tiny,...] [--sizes 96,160,224] [--rounds 3]
                        [--readme models/README.md]

Needs, in a virtual environment of its own: pip install torch torchvision timm
Each program gets a process of its own a round (A B A B ...), so that its peak memory can be read. Prints a table of the
ratios of medians, with the least and the greatest ratio of a round; with --readme it also replaces what stands there
between the markers.
"""
import argparse
import json
import math
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
MARK = ("<!-- step_vs_torch: begin -->", "<!-- step_vs_torch: end -->")


def torch_step(name, size, batch, steps, warmup, threads):
    """Runs in a process of its own; prints one JSON object."""
    import timm
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    timm_name, needs = TIMM[name]
    # The window is a 32nd of the picture, as in the reference.
    values = {"img_size": size, "window_size": size // 32}
    model = timm.create_model(timm_name, num_classes=1000, **{key: values[key] for key in needs}).train()
    x, y = torch.randn(batch, 3, size, size), torch.randint(0, 1000, (batch,))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    times = []
    for i in range(warmup + steps):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        loss.item()
        if i >= warmup:
            times.append((time.perf_counter() - start) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step_ms": statistics.median(times), "peak_mib": peak, "version": torch.__version__}))


def output(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(args, name, size):
    fixed = ["--model", name, "--size", str(size), "--batch", str(args.batch), "--steps", str(args.steps)]
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(output([args.binary, "bench", "step", *fixed, "--threads", str(args.threads), "--json"]))
        theirs.append(output([sys.executable, __file__, "--peer", *fixed, "--threads", str(args.threads)]))
    time_of = lambda rows: statistics.median(row["step_ms"] for row in rows)
    ratios = [a["step_ms"] / b["step_ms"] for a, b in zip(ours, theirs)]
    return {
        "model": name,
        "size": size,
        "ours": time_of(ours),
        "theirs": time_of(theirs),
        "ratio": time_of(ours) / time_of(theirs),
        "least": min(ratios),
        "most": max(ratios),
        "memory": statistics.median(a["peak_mib"] / b["peak_mib"] for a, b in zip(ours, theirs)),
        "share": statistics.median(a["gemm_share"] for a in ours),
        "version": theirs[0]["version"],
    }


def table(rows, args):
    head = (
        f"Batch {args.batch}, {args.threads} threads, PyTorch {rows[0]['version']} as it comes, {args.rounds} alternating rounds.\n\n"
        "| model | size | ours ms | PyTorch ms | time ratio (least to most) | memory ratio | share of the best product |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
    )
    lines = [
        f"| {r['model']} | {r['size']} | {r['ours']:.0f} | {r['theirs']:.0f} | {r['ratio']:.2f} ({r['least']:.2f} to {r['most']:.2f}) "
        f"| {r['memory']:.2f} | {r['share']:.0%} |"
        for r in rows
    ]
    mean = math.exp(statistics.mean(math.log(r["ratio"]) for r in rows))
    return head + "\n".join(lines) + f"\n\nGeometric mean of the time ratios: {mean:.2f}.\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binary", nargs="?", help="the release build of efficienttrain")
    p.add_argument("--models", default="resnet50,deit_small,swin_tiny,convnext_tiny,caformer_s18")
    p.add_argument("--sizes", default="96,160,224")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--steps", type=int, default=4)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--readme", type=pathlib.Path)
    p.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--model", help=argparse.SUPPRESS)
    p.add_argument("--size", type=int, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.peer:
        return torch_step(args.model, args.size, args.batch, args.steps, 2, args.threads)
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
        before, rest = page.split(MARK[0])
        args.readme.write_text(before + MARK[0] + "\n" + text + MARK[1] + rest.split(MARK[1])[1])


if __name__ == "__main__":
    main()

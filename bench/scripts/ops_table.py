#!/usr/bin/env python3
"""A table of single ops: ours, candle's own, PyTorch's; forward and backward.

Usage: cargo bench -p efficienttrain-bench --bench ops && python bench/scripts/ops_table.py
           [--readme docs/benchmarks.md [--machine zen5]]

Reads what criterion left in target/criterion and times PyTorch now, so run the two on an otherwise idle machine.
Needs: pip install torch
"""
import argparse
import json
import pathlib
import statistics
import time


def peers(torch):
    """PyTorch's op for each of the benchmarks: its inputs' shapes and what it does with them."""
    f = torch.nn.functional
    conv = lambda stride, padding, groups=1: lambda x, w: f.conv2d(x, w, None, stride, padding, 1, groups)

    def attention(qkv):
        q, k, v = qkv.reshape(8, 197, 3, 6, 64).permute(2, 0, 3, 1, 4)
        return f.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(8, 197, 384)

    hidden = (8, 197, 1536)
    return {
        "conv 3x3, 64 to 64 at 56": ([(8, 64, 56, 56), (64, 64, 3, 3)], conv(1, 1)),
        "conv 1x1, 256 to 64 at 56": ([(8, 256, 56, 56), (64, 256, 1, 1)], conv(1, 0)),
        "conv 7x7 stride 2, 3 to 64 at 224": ([(8, 3, 224, 224), (64, 3, 7, 7)], conv(2, 3)),
        "conv 4x4 stride 4, 3 to 96 at 224": ([(8, 3, 224, 224), (96, 3, 4, 4)], conv(4, 0)),
        "depthwise 7x7, 96 at 56": ([(8, 96, 56, 56), (96, 1, 7, 7)], conv(1, 3, 96)),
        "linear 384 to 1536, 1576 rows": ([(8, 197, 384), (1536, 384), (1536,)], f.linear),
        "attention, 6 heads of 64, 197 tokens": ([(8, 197, 1152)], attention),
        "layer norm of 384, 1576 rows": ([(8, 197, 384), (384,), (384,)], lambda x, w, b: f.layer_norm(x, (384,), w, b)),
        "batch norm of 64 at 56": (
            [(8, 64, 56, 56), (64,), (64,)],
            lambda x, w, b: f.batch_norm(x, None, None, w, b, training=True),
        ),
        "gelu of 2.4 M": ([hidden], f.gelu),
        "silu of 2.4 M": ([hidden], f.silu),
        "star relu of 2.4 M": ([hidden, (1,), (1,)], lambda x, s, b: s * f.relu(x) ** 2 + b),
        "residual with layer scale, 96 at 56": ([(8, 56, 56, 96)] * 2 + [(96,)], lambda x, y, s: x + y * s),
        "max-pool 3x3 stride 2, 64 at 112": ([(8, 64, 112, 112)], lambda x: f.max_pool2d(x, 3, 2, 1)),
        "global average of 2048 at 7": ([(8, 2048, 7, 7)], lambda x: x.mean((2, 3))),
    }


def time_of(step, seconds=1.0):
    step()
    times = []
    while sum(times) < seconds or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def is_image(shape):
    """Images are of three channels; a training step has no use for their gradient."""
    return len(shape) == 4 and shape[0] == 8 and shape[1] == 3


def torch_times(threads):
    import torch

    torch.set_num_threads(threads)
    times = {}
    for name, (shapes, op) in peers(torch).items():
        inputs = [torch.randn(shape, requires_grad=not is_image(shape)) for shape in shapes]
        dy, needed = torch.ones_like(op(*inputs)), [x for x in inputs if x.requires_grad]
        times[name] = time_of(lambda: torch.autograd.grad(op(*inputs), needed, dy))
    params = [torch.randn(1000, 1000, requires_grad=True) for _ in range(22)]
    for p in params:
        p.grad = torch.randn_like(p)
    times["AdamW of 22 M"] = time_of(torch.optim.AdamW(params, lr=1e-4, weight_decay=0.05).step)
    return times


def ours():
    """Milliseconds of each line of each benchmark."""
    times = {}
    for file in pathlib.Path("target/criterion").glob("*/*/new/benchmark.json"):
        about = json.loads(file.read_text())
        median = json.loads(file.with_name("estimates.json").read_text())["median"]["point_estimate"]
        times.setdefault(about["group_id"], {})[about["function_id"]] = median / 1e6
    return times


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--readme", type=pathlib.Path)
    p.add_argument("--machine", default="zen5", help="whose table of the page this is: zen5, zen3")
    args = p.parse_args()
    measured, theirs = ours(), torch_times(args.threads)
    over = lambda a, b: f"{a / b:.2f}" if a and b else ""
    rows = [
        f"| {name} | {lines['ours']:.2f} | {over(lines['ours'], torch)} | {over(lines['ours'], lines.get('stock candle'))} "
        f"| {over(lines.get('ours bf16'), lines['ours'])} |"
        for name, torch in theirs.items()
        if (lines := measured.get(name)) and "ours" in lines
    ]
    text = (
        f"Medians, {args.threads} threads, one run after the other.\n\n"
        "| op | ours ms | time over PyTorch's | over candle's own | in bf16 over f32 |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )
    print(text)
    if args.readme:
        page = args.readme.read_text()
        begin, end = (f"<!-- ops {args.machine}: {word} -->" for word in ("begin", "end"))
        before, rest = page.split(begin)
        args.readme.write_text(before + begin + "\n" + text + end + rest.split(end)[1])


if __name__ == "__main__":
    main()

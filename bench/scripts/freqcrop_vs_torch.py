#!/usr/bin/env python3
"""The crop beside torch, one thread each, alternating in one run: images/s for 3x224x224 f32 -> 3xBxB.

    cargo build --release -p efficienttrain-bench --examples
    pip install torch            (in a virtual environment of its own)
    python bench/scripts/freqcrop_vs_torch.py target/release/examples/freqcrop_rounds

The peer's two lines, "two matrix products" and torch.fft, are those of the usual preprocessing comparison: a dense
B x 224 matrix from both sides of a [64, 3, 224, 224] batch, and fft2, shift, slice, ifft2. Before timing, this script
checks that the two torch forms with the true matrix agree. Prints a Markdown table: medians, and the ratio to the matrix
products of the same round as median (min to max).
"""
import argparse
import math
import statistics
import subprocess
import time

import torch


def rate(images, work, seconds):
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        rounds += 1
    return images * rounds / (time.perf_counter() - start)


def matrix(b, n):
    p, m = torch.arange(b, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None, :]
    return sum(torch.cos(2 * math.pi * k * (p / b - m / n)) for k in range(-(b // 2), b - b // 2)) / n


def fft(x, b):
    lo = (x.shape[-1] - b) // 2
    s = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))[..., lo:lo + b, lo:lo + b]
    return torch.fft.ifft2(torch.fft.ifftshift(s, dim=(-2, -1))).real * (b * b / x.shape[-1] ** 2)


def check(b):
    x = torch.rand(1, 3, 224, 224, dtype=torch.float64)
    wave = torch.sin(math.pi * b * torch.arange(224, dtype=torch.float64) / 224)
    sign = (-1.0) ** torch.arange(b)
    unpaired = (wave @ x @ wave / 224**2)[..., None, None] * sign[:, None] * sign
    off = (fft(x, b) - (matrix(b, 224) @ x @ matrix(b, 224).T - unpaired)).abs().max()
    assert off < 1e-12, off


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built example freqcrop_rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="per measurement")
    a = parser.parse_args()
    torch.set_num_threads(1)
    ours = subprocess.Popen([a.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(line):
        ours.stdin.write(line + "\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    x = torch.rand(64, 3, 224, 224)
    print("| B | what | images/s | times the matrix products in torch | share of the GEMM rate |\n| --- | --- | --- | --- | --- |")
    for b in (96, 160):
        check(b)
        w = matrix(b, 224).float()
        # Multiplications and additions of the unfolded products, for all three channels.
        flops = 2 * 3 * (b * 224 * 224 + b * 224 * b)
        peers = {"two matrix products, torch": lambda: (w @ x) @ w.T, "torch.fft": lambda: fft(x, b)}
        kinds = {"freqcrop, CHW f32": "chw", "freqcrop, HWC f32": "hwc", "freqcrop, HWC u8": "rgb8", "freqcrop, FFT backend": "fft"}
        seen = {name: [] for name in [*peers, *kinds, "gemm"]}
        for work in peers.values():
            work()
        for _ in range(a.rounds):
            for name, work in peers.items():
                seen[name].append(rate(64, work, a.seconds))
            for name, kind in kinds.items():
                seen[name].append(ask(f"{kind} {b} {a.seconds}"))
            seen["gemm"].append(ask("gemm"))
        gemm = max(seen.pop("gemm"))
        base = seen["two matrix products, torch"]
        for name, rates in seen.items():
            ratios = [r / p for r, p in zip(rates, base)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            share = f"{statistics.median(rates) * flops / gemm / 1e9:.0%}" if "fft" not in name.lower() else ""
            print(f"| {b} | {name} | {statistics.median(rates):,.0f} | {spread} | {share} |", flush=True)
        print(f"| {b} | best single-thread GEMM of the run | {gemm:.0f} GFLOP/s | | |", flush=True)


if __name__ == "__main__":
    main()

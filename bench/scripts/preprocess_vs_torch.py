#!/usr/bin/env python3
"""The input pipeline beside timm's, one core each, alternating in one run: images/s from file to training image.

    cargo build --release -p efficienttrain
    pip install torch torchvision timm pillow            (in a virtual environment of its own)
    python bench/scripts/preprocess_vs_torch.py target/release/efficienttrain imagenette-224 --write docs/benchmarks.md

The peer is the authors' transform: RandomResizedCrop(224, bicubic), flip, RandAugment rand-m{m}-mstd0.5-inc1, Lanczos to B
where B < 224, to tensor, normalize, random erasing. It has one order only, so both of ours are compared with it: the exact
crop before RandAugment, and `--order augment-then-crop --crop lanczos`, which does what the peer does. Both sides decode the
files, count processor time, and run on one thread. Prints a table of medians and of ratios within a round, median (min to
max); `--write` puts it between the markers of a file.
"""
import argparse
import glob
import json
import random
import statistics
import subprocess
import time

import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torchvision import transforms

# At the highest level timm asks for 0 bits, which newer Pillow refuses; 1 bit is the same work.
pillow_posterize = ImageOps.posterize
ImageOps.posterize = lambda image, bits: pillow_posterize(image, max(bits, 1))

SETTINGS = [(96, 1), (160, 4), (224, 9)]
ORDERS = {"crop-then-augment": "fourier", "augment-then-crop": "lanczos"}


def peer_transform(size, m):
    t = create_transform(input_size=224, is_training=True, color_jitter=0.4, interpolation="bicubic",
                         auto_augment=f"rand-m{m}-mstd0.5-inc1", re_prob=0.25, re_mode="pixel", re_count=1)
    if size < 224:
        t.transforms.insert(3, transforms.Resize(size, interpolation=transforms.InterpolationMode.LANCZOS))
    return t


def peer(files, transform):
    start = time.process_time()
    for f in files:
        transform(Image.open(f).convert("RGB"))
    return len(files) / (time.process_time() - start)


def ours(a, size, m, order):
    command = [a.program, "bench", "preprocess", "--data", a.data, "--size", str(size), "--magnitude", str(m), "--order", order,
               "--crop", ORDERS[order], "--images", str(a.images), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def row(a, files, size, m, order):
    transform = peer_transform(size, m)
    peer(files[:32], transform)
    rounds = [(ours(a, size, m, order), peer(files, transform)) for _ in range(a.rounds)]
    middle = lambda get: statistics.median(get(r) for r, _ in rounds)
    stages = " / ".join(f"{100 * middle(lambda r: r['stages'][s]['share']):.0f}%" for s in
                        ("decode", "geometry", "crop", "augment", "normalize"))
    return (f"| {size} | {order}, {ORDERS[order]} | {middle(lambda r: r['images_per_s_core']):,.0f} | "
            f"{statistics.median(p for _, p in rounds):,.0f} | {spread([r['images_per_s_core'] / p for r, p in rounds])} | "
            f"{stages} |")


def write(path, table):
    text = open(path).read()
    begin, end = "<!-- preprocess: begin -->\n", "<!-- preprocess: end -->"
    head, rest = text.split(begin)
    open(path, "w").write(head + begin + table + "\n" + end + rest.split(end)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built `efficienttrain`")
    parser.add_argument("data", help="an image folder: DIR/train/CLASS/IMAGE")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", metavar="FILE", help="put the table between the markers of this file")
    a = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    files = sorted(glob.glob(f"{a.data}/train/*/*"))
    random.shuffle(files)
    files = files[: a.images]
    lines = ["| B | order, crop | images/s/core | timm | ratio | decode / geometry / crop / augment / normalize |", "| --- | --- | --- | --- | --- | --- |"]
    for order in ORDERS:
        lines += [row(a, files, size, m, order) for size, m in SETTINGS]
    table = "\n".join(lines)
    print(table)
    if a.write:
        write(a.write, table)


if __name__ == "__main__":
    main()

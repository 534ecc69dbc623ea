#!/usr/bin/env python3
"""Trains ResNet-18 on Imagenette by the curriculum and at full size throughout, and writes its table to README and book.

    cargo build --release --bin efficienttrain
    python bench/scripts/imagenette.py target/release/efficienttrain imagenette-224 runs/imagenette

Runs that are complete under the last argument are not repeated. Needs Python alone; takes about half an hour on two cores.
"""
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMON = "--model resnet18 --base-size 96 --batch 64 --precision bf16 --mixup 0 --cutmix 0 --min-crop-area 0.25 --eval-every 10%".split()
RUNS = [("etpp", 10), ("baseline", 10), ("baseline", 15)]
BEGIN, END = "<!-- imagenette: begin -->", "<!-- imagenette: end -->"


def events(folder):
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def trained(binary, data, folder, recipe, epochs):
    """The events of a run, after training it where that is not done."""
    if not any(e["event"] == "end" and e["finished"] for e in events(folder)):
        where = ["--data", data, "--out", str(folder)]
        subprocess.run([binary, "train", *where, *COMMON, "--recipe", recipe, "--epochs", str(epochs)], check=True)
    return events(folder)


def row(recipe, log):
    start = next(e for e in log if e["event"] == "start")
    last = [e for e in log if e["event"] == "eval"][-1]
    sizes = sorted({stage["size"] for stage in start["plan"]["stages"]})
    cells = [
        "++ curriculum" if recipe == "etpp" else "baseline",
        ", ".join(map(str, sizes)),
        f"{last['equivalent_epochs']:.2f}",
        f"{last['epoch']:.1f}",
        f"{100 * last['top1']:.1f}%",
        f"{100 * last['top5']:.1f}%",
        f"{last['seconds'] / 60:.1f} min",
    ]
    return "| " + " | ".join(cells) + " |"


def main():
    binary, data, out = sys.argv[1:4]
    head = ["run", "sizes", "compute epochs", "passes over the data", "top-1", "top-5", "wall time"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for recipe, epochs in RUNS:
        lines.append(row(recipe, trained(binary, data, pathlib.Path(out) / f"{recipe}-{epochs}", recipe, epochs)))
    table = "\n".join([BEGIN, *lines, END])
    for page in [ROOT / "README.md", ROOT / "docs" / "experiments.md"]:
        text = page.read_text()
        before, rest = text.split(BEGIN)
        page.write_text(before + table + rest.split(END)[1])
    print(table)


if __name__ == "__main__":
    main()

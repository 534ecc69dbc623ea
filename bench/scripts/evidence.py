#!/usr/bin/env python3
"""Accuracy by training time on Imagenette: curricula against plain training, in three families of models.

    cargo build --release --bin efficienttrain
    python3 bench/scripts/evidence.py target/release/efficienttrain imagenette-224 runs/evidence

One line of ROWS is one command; each is trained with each seed of its family. What is complete is kept in
bench/results/evidence.json and not trained again, what was interrupted is resumed; tables and chart are written after
each run, so that the script may be stopped at any time and goes on over days. `--only resnet18` restricts the families,
`--rows baseline etpp-2/3` the rows, `--write` only writes.

The budget is time: the steps of a family are timed once at each size (which needs a machine that does nothing else),
and all its runs are planned with these times. So what a run ends with does not depend on what else the machine does;
its own wall time does, and is given only where nothing else ran.

Needs Python alone.
"""
import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "evidence.json"
CHART = ROOT / "docs" / "images" / "evidence.svg"
COMMON = "--base-size 64 --batch 64 --mixup 0 --cutmix 0 --min-crop-area 0.25 --eval-every 10%".split()
IMAGES = 9469

# Learning rates are those at which plain training ends best: of 5e-4, 2e-3 and 5e-3 for ResNet-18, of 2e-4, 5e-4 and
# 1e-3 for DeiT-T, of 1e-3 and 2e-3 in six epochs for ConvNeXt-Atto. ConvNeXt-T has that of DeiT-T. The precision is
# bf16 where the machine that timed the steps of the family has instructions for it. ConvNeXt-T is too large for more
# than a few passes, and has only the rows that show it.
FAMILIES = {
    "resnet18": {"title": "ResNet-18", "epochs": 12, "lr": "5e-3", "precision": "bf16", "seeds": [0, 1, 2]},
    "deit_tiny": {"title": "DeiT-T", "epochs": 20, "lr": "2e-4", "precision": "bf16", "seeds": [0, 1]},
    "convnext_atto": {"title": "ConvNeXt-Atto", "epochs": 20, "lr": "2e-3", "precision": "f32", "seeds": [0, 1]},
    "convnext_tiny": {"title": "ConvNeXt-T", "epochs": 6, "lr": "2e-4", "precision": "bf16", "seeds": [0, 1], "rows": ["baseline", "etpp-2/3", "etpp-1/2"]},
}

# Crop and flip alone, as the recipe `short` has it.
WEAK = ["--auto-augment", "none", "--erasing", "0"]

# Title, recipe, share of the time of plain training, further options.
ROWS = {
    "baseline": ("plain training", "baseline", 1.0, []),
    "etpp": ("EfficientTrain++", "etpp", 1.0, []),
    "etpp-2/3": ("EfficientTrain++", "etpp", 2 / 3, []),
    "etpp-1/2": ("EfficientTrain++", "etpp", 1 / 2, []),
    "etpp-1/3": ("EfficientTrain++", "etpp", 1 / 3, []),
    "baseline-3/2": ("plain training", "baseline", 1.5, []),
    "weak": ("plain training, crop and flip alone", "baseline", 1.0, WEAK),
    "weak-1/2": ("plain training, crop and flip alone", "baseline", 1 / 2, WEAK),
    "short": ("recipe `short`", "short", 1.0, []),
    "short-2/3": ("recipe `short`", "short", 2 / 3, []),
    "short-1/2": ("recipe `short`", "short", 1 / 2, []),
    "et-2/3": ("EfficientTrain (first version)", "et", 2 / 3, []),
    "progressive-2/3": ("progressive resizing", "progressive", 2 / 3, []),
    "lanczos-2/3": ("EfficientTrain++, Lanczos resize", "etpp", 2 / 3, ["--crop", "lanczos"]),
    "order-2/3": ("EfficientTrain++, augment then crop", "etpp", 2 / 3, ["--order", "augment-then-crop"]),
    "magnitude-2/3": ("EfficientTrain++, m = 9 throughout", "etpp", 2 / 3, ["--magnitude", "9"]),
}
MAIN = ["baseline", "baseline-3/2", "etpp", "etpp-2/3", "etpp-1/2", "etpp-1/3"]
MAIN += ["weak", "weak-1/2", "short", "short-2/3", "short-1/2"]
# Color, title and rows of the lines of the chart.
LINES = [
    ("#888", "plain training", ["baseline", "baseline-3/2"]),
    ("#d1495b", "EfficientTrain++", ["etpp-1/3", "etpp-1/2", "etpp-2/3", "etpp"]),
    ("#bbb", "plain, crop and flip alone", ["weak-1/2", "weak"]),
    ("#2e86ab", "recipe short", ["short-1/2", "short-2/3", "short"]),
]
SHARES = {1.0: "1", 1.5: "3/2", 2 / 3: "2/3", 1 / 2: "1/2", 1 / 3: "1/3"}
# Times that the steps of each size are timed; the shortest one counts, because what disturbs takes time.
TIMED = 3


def fits(family, row):
    """ConvNeXt takes no images below 32 pixels, with which progressive resizing begins at this base size."""
    too_small = family.startswith("convnext") and row.startswith("progressive")
    return not too_small and row in FAMILIES[family].get("rows", ROWS)


def jobs():
    """Family, row and seed of all runs, the most telling ones first."""
    others = [row for row in ROWS if row not in MAIN]
    for rows, part in [(MAIN, slice(0, 1)), (MAIN, slice(1, 2)), (others, slice(0, 2)), (list(ROWS), slice(2, None))]:
        for family, what in FAMILIES.items():
            for seed in what["seeds"][part]:
                for row in sorted(rows, key=list(ROWS).index):
                    if fits(family, row):
                        yield family, row, seed


def events(folder):
    log = folder / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []


def busy():
    """Seconds that the cores of this machine have worked, other machines on its host included."""
    user, nice, system, _, _, irq, soft, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def own():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Evidence:
    def __init__(self, args):
        self.args = args
        self.results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}

    def store(self):
        RESULTS.parent.mkdir(exist_ok=True)
        text = json.dumps(self.results, indent=1, sort_keys=True)
        # A pair of numbers on one line.
        text = re.sub(r"\[\s+([0-9.]+),\s+([0-9.]+)\s+\]", r"[\1, \2]", text)
        RESULTS.write_text(text + "\n")

    def measure(self, family):
        """Times the steps of a family at all sizes, with nothing else running."""
        times = {}
        recipes = sorted({recipe for row, (_, recipe, _, _) in ROWS.items() if fits(family, row)})
        for recipe in recipes * TIMED:
            folder = pathlib.Path(self.args.out) / f"{family}-costs-{recipe}"
            shutil.rmtree(folder, ignore_errors=True)
            self.train(family, recipe, "time", 1.0, 0, folder, ["--stop-after", "1"])
            cost = tomllib.loads((folder / "config.toml").read_text())["cost"]
            for size, seconds in re.findall(r"(\d+)=([0-9.e-]+)", cost):
                times[int(size)] = min(float(seconds), times.get(int(size), float("inf")))
        machine = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
        self.results[family] = {"seconds": times, "machine": f"{os.cpu_count()} cores, {machine}", "runs": {}}
        self.store()

    def train(self, family, recipe, cost, share, seed, folder, more):
        """Trains, or goes on where it was interrupted; true if all of the run was now."""
        what = FAMILIES[family]
        command = [self.args.binary, "train", "--resume", "auto", "--data", self.args.data, "--out", str(folder)]
        command += ["--model", family, *COMMON, "--precision", what["precision"], "--recipe", recipe]
        command += ["--lr", what["lr"], "--cost", cost, "--epochs", f"{what['epochs'] * share:.4f}", "--seed", str(seed), *more]
        print(" ".join(command), flush=True)
        whole = not folder.exists()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{folder}.txt", "a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        return whole

    def run(self, family, row, seed):
        _, recipe, share, more = ROWS[row]
        seconds = self.results[family]["seconds"]
        cost = "time:" + ",".join(f"{size}={value}" for size, value in seconds.items())
        folder = pathlib.Path(self.args.out) / f"{family}-{row.replace('/', '-')}-{seed}"
        before = (busy(), own(), time.time())
        whole = self.train(family, recipe, cost, share, seed, folder, more)
        wall = time.time() - before[2]
        others = (busy() - before[0]) - (own() - before[1])
        log = events(folder)
        assert any(e["event"] == "end" and e["finished"] for e in log), f"{folder} is not complete"
        evals = [e for e in log if e["event"] == "eval"]
        steps = sum(stage["steps"] for stage in next(e for e in log if e["event"] == "start")["plan"]["stages"])
        self.results[family]["runs"].setdefault(row, {})[str(seed)] = {
            "top1": [[round(e["equivalent_epochs"], 3), round(e["top1"], 5)] for e in evals],
            "passes": round(evals[-1]["epoch"], 2),
            "steps": steps,
            # Of others: under a twentieth of what the machine has to give.
            "wall": round(wall, 1) if whole and others < 0.05 * wall * os.cpu_count() else None,
        }
        self.store()
        # Of a complete run, the log tells all that is asked here.
        for weights in folder.rglob("*.safetensors"):
            weights.unlink()

    def finals(self, family, row):
        """Final accuracies of the seeds, in percent; of plain training, of those that another row has as well.

        What stands side by side is then of the same seeds as far as there are such.
        """
        every = self.results.get(family, {}).get("runs", {})
        others = {seed for other, runs in every.items() if other != "baseline" for seed in runs}
        runs = every.get(row, {})
        return {seed: 100 * run["top1"][-1][1] for seed, run in runs.items() if not others or seed in others}

    def minutes(self, family, share):
        seconds = {int(size): value for size, value in self.results[family]["seconds"].items()}
        return FAMILIES[family]["epochs"] * share * IMAGES * seconds[64] / 60

    def gain(self, family, row):
        """Mean difference to plain training, of seeds that both have."""
        base, runs = self.finals(family, "baseline"), self.finals(family, row)
        return [runs[seed] - base[seed] for seed in sorted(runs.keys() & base.keys())]

    def whole_table(self):
        head = ["run", "time, plain training = 1", "minutes of steps", "passes", "top-1 %", "difference to plain training", "seeds", "wall minutes"]
        lines = []
        for family, what in FAMILIES.items():
            for row, (title, _, share, _) in ROWS.items():
                finals, gains = self.finals(family, row), self.gain(family, row)
                if not finals:
                    continue
                runs = list(self.results[family]["runs"][row].values())
                walls = [run["wall"] / 60 for run in runs if run["wall"]]
                lines.append([
                    f"{what['title']}, {title}", SHARES[share], f"{self.minutes(family, share):.1f}", f"{runs[0]['passes']:.1f}",
                    spread(list(finals.values())), signed(gains) if row != "baseline" else "-", f"{len(finals)} of {len(what['seeds'])}",
                    f"{statistics.mean(walls):.1f}" if walls else "not taken",
                ])
        return table(head, lines)

    def short_table(self):
        """Final accuracy of the families that have been trained."""
        started = {family: what for family, what in FAMILIES.items() if self.finals(family, "baseline")}
        head = ["run", "time, plain training = 1", *(what["title"] for what in started.values())]
        lines = []
        for row in MAIN:
            title, _, share, _ = ROWS[row]
            cells = []
            for family in started:
                finals = self.finals(family, row)
                missing = "not run yet" if fits(family, row) else "-"
                cells.append(f"{statistics.mean(finals.values()):.1f}%" if finals else missing)
            if any(self.finals(family, row) for family in started):
                lines.append([title, SHARES[share], *cells])
        return table(head, lines)

    def write(self):
        total = len(list(jobs()))
        done = sum(len(runs) for family in self.results.values() for runs in family["runs"].values())
        state = f"{done} of {total} runs are complete." if done < total else f"All {total} runs are complete."
        put(ROOT / "docs" / "experiments.md", "evidence", f"{self.whole_table()}\n\n{state}")
        put(ROOT / "README.md", "evidence", f"{self.short_table()}\n\n{state}")
        CHART.write_text(chart(self))


def spread(values):
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} +- {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def signed(values):
    if not values:
        return "-"
    mean = f"{statistics.mean(values):+.1f}"
    return f"{mean} +- {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def table(head, lines):
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def put(page, name, text):
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def chart(evidence):
    """Final accuracy of plain training and of EfficientTrain++ against the time, a panel a family."""
    width, height, left, top, gap = 250, 200, 46, 34, 40
    parts = []
    for index, (family, what) in enumerate(FAMILIES.items()):
        points = {color: [(ROWS[r][2], statistics.mean(f.values())) for r in rows if (f := evidence.finals(family, r))] for color, _, rows in LINES}
        points = {color: line for color, line in points.items() if line}
        values = [y for line in points.values() for _, y in line]
        x0 = left + index * (width + gap + left)
        if not values:
            parts.append(text(x0, top - 12, f"{what['title']}: not run yet", anchor="start", weight="bold"))
            continue
        low, high = min(values) // 2 * 2 - 2, max(values) // 2 * 2 + 4
        x = lambda share: x0 + (share - 0.2) / 1.4 * width
        y = lambda value: top + height - (value - low) / (high - low) * height
        parts.append(f'<rect x="{x0}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#aaa"/>')
        parts.append(text(x0, top - 12, f"{what['title']}: top-1 %", anchor="start", weight="bold"))
        for share, name in SHARES.items():
            parts.append(text(x(share), top + height + 16, name))
            parts.append(f'<path d="M{x(share):.1f} {top}V{top + height}" stroke="#eee"/>')
        step = max(2, round((high - low) / 5 / 2) * 2)
        for value in range(int(low), int(high) + 1, step):
            parts.append(text(x0 - 6, y(value) + 4, str(value), anchor="end"))
            parts.append(f'<path d="M{x0} {y(value):.1f}h{width}" stroke="#eee"/>')
        for color, line in points.items():
            path = "L".join(f"{x(share):.1f} {y(value):.1f}" for share, value in sorted(line))
            parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts += [f'<circle cx="{x(share):.1f}" cy="{y(value):.1f}" r="3.5" fill="{color}"/>' for share, value in line]
    whole, low = left + len(FAMILIES) * (width + gap + left) - gap, top + height + 66
    parts.append(text(whole / 2, low - 30, "time of the steps, relative to plain training"))
    for (color, title, _), x in zip(LINES, [left, left + 130, left + 270, left + 470]):
        parts.append(f'<circle cx="{x}" cy="{low - 14}" r="4" fill="{color}"/>' + text(x + 10, low - 10, title, anchor="start"))
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {low}" font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def text(x, y, words, anchor="middle", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{words}</text>'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--costs", action="store_true", help="only time the steps, with nothing else running")
    parser.add_argument("--write", action="store_true", help="only write the tables and the chart")
    evidence = Evidence(parser.parse_args())
    args = evidence.args
    if not args.write:
        for family in args.only:
            if family not in evidence.results:
                evidence.measure(family)
        for family, row, seed in jobs():
            wanted = not args.costs and family in args.only and row in args.rows
            if wanted and str(seed) not in evidence.results[family]["runs"].get(row, {}):
                evidence.run(family, row, seed)
                evidence.write()
    evidence.write()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Proves that `efficienttrain finetune` begins with timm's weights and ends with weights that timm loads, and prints a table.

    python bench/scripts/finetune_vs_timm.py target/release/efficienttrain PHOTOGRAPHS [MODEL ...] [--sizes 224,384]

PHOTOGRAPHS is a set of image folders (train/CLASS/IMAGE, val/CLASS/IMAGE); six training images of each of ten classes are used.
For each model and size, from a file of timm's model with 1000 classes at 224 and random values in every tensor:
  begins     a run with a learning rate of next to 0: largest difference of any tensor to timm's, tables of positions resampled by
             PyTorch (bilinear); the head is another
  scales     one step of AdamW without decay moves each tensor by lr times its layer's factor: the largest difference of the
             factors' logarithms to timm's own grouping (`param_groups_layer_decay`), in layers
  frozen     that what --freeze names has not moved after a few steps, and everything else has
  logits     after the steps, `export` loads in timm with strict=True; largest difference of the logits of two images to those
             of `predict`, over the largest logit
Needs timm and safetensors.
"""
import argparse
import math
import pathlib
import subprocess
import sys
import tempfile

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.optim import param_groups_layer_decay
from timm_agreement import off, randomise

# Name here, name in timm, its arguments at a size, what is frozen.
MODELS = {
    "deit_small": ("deit_small_patch16_224", lambda size: {"img_size": size}, ["patch_embed.*", "blocks.0.*"]),
    "swin_tiny": (
        "swin_tiny_patch4_window7_224",
        lambda size: {"img_size": size, "window_size": size // 32},
        ["patch_embed.*", "layers.0.*"],
    ),
    "convnext_tiny": ("convnext_tiny", lambda size: {}, ["downsample_layers.0.*", "stages.0.*"]),
    "resnet50": ("resnet50", lambda size: {}, ["conv1.*", "bn1.*", "layer1.*"]),
}
# Those under timm's names.
FROZEN = {
    "deit_small": ["patch_embed.", "blocks.0."],
    # timm counts the step down to the second stage as that stage's.
    "swin_tiny": ["patch_embed.", "layers.0.", "layers.1.downsample."],
    "convnext_tiny": ["stem.", "stages.0."],
    "resnet50": ["conv1.", "bn1.", "layer1."],
}
CLASSES, DECAY, LR = 10, 0.8, 1e-4
TOLERANCE = 1e-4


def few(photographs, folder):
    for split, count in ("train", 6), ("val", 1):
        for cls in sorted((pathlib.Path(photographs) / split).iterdir())[:CLASSES]:
            to = folder / split / cls.name
            to.mkdir(parents=True)
            for image in sorted(cls.iterdir())[:count]:
                (to / image.name).symlink_to(image.resolve())
    return folder


def at_size(tensor, like):
    """A table of positions on the grid of another size: the class token stays."""
    flat = tensor.reshape(-1, tensor.shape[-1])
    first = 1 if tensor.dim() == 3 else 0
    old, new = math.isqrt(len(flat) - first), math.isqrt(like.numel() // like.shape[-1] - first)
    grid = flat[first:].T.reshape(1, -1, old, old)
    grid = F.interpolate(grid.double(), (new, new), mode="bilinear", align_corners=False).float()
    return torch.cat([flat[:first], grid.flatten(2)[0].T]).reshape(like.shape)


class Tuning:
    def __init__(self, binary, data, folder):
        self.binary, self.data, self.folder = binary, data, folder

    def call(self, *args):
        done = subprocess.run([self.binary, *map(str, args)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(map(str, args))}\n{done.stderr}")
        return done.stdout + done.stderr

    def tuned(self, name, size, *args):
        """The weights of a run of one step or a few, and what it said."""
        out = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        common = ["--init", self.folder / "timm.safetensors", "--model", name, "--data", self.data, "--base-size", size]
        quick = ["--batch", 6, "--eval-every", "100%", "--warmup", "0st", "--layer-decay", DECAY, "--clip-grad", 0]
        said = self.call("finetune", *common, *quick, "--out", out / "run", *args)
        weights = out / "weights.safetensors"
        self.call("export", "--weights", out / "run/last.safetensors", "--out", weights)
        return said, load_file(weights), weights

    def row(self, name, size):
        timm_name, arguments, freeze = MODELS[name]
        theirs = randomise(timm.create_model(timm_name), 1)
        start = {k: v.contiguous() for k, v in theirs.state_dict().items()}
        save_file(start, self.folder / "timm.safetensors")
        model = timm.create_model(timm_name, num_classes=CLASSES, **arguments(size)).eval()
        like = model.state_dict()

        one = ["--epochs", 6 / 60]
        said, begun, _ = self.tuned(name, size, *one, "--lr", 1e-12, "--min-lr", 0, "--weight-decay", 0)
        fixed = [k for k, v in like.items() if v.is_floating_point() and "head" not in k and not k.startswith("fc.")]
        fixed = [k for k in fixed if "running" not in k]
        want = {k: start[k] if start[k].shape == like[k].shape else at_size(start[k], like[k]) for k in fixed}
        resampled = [k for k in fixed if start[k].shape != like[k].shape]
        begins = max((want[k] - begun[k].reshape(want[k].shape)).abs().max().item() for k in fixed)

        _, moved, _ = self.tuned(name, size, *one, "--lr", LR, "--min-lr", LR, "--weight-decay", 0)
        groups = param_groups_layer_decay(model, 0.0, layer_decay=DECAY)
        factor = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        layers, worst = 0.0, ""
        for k, p in model.named_parameters():
            change = (moved[k].reshape(p.shape) - begun[k].reshape(p.shape)).abs()
            ours = change[change > 0].median().item() / LR
            apart = abs(math.log(ours / factor[id(p)]) / math.log(DECAY))
            if apart > layers:
                layers, worst = apart, k

        _, ended, file = self.tuned(name, size, "--epochs", 18 / 60, "--lr", 1e-3, "--freeze", ",".join(freeze))
        is_frozen = lambda k: k.startswith(tuple(FROZEN[name]))
        still = [k for k in fixed if (ended[k].reshape(want[k].shape) - want[k]).abs().max() <= begins]
        held = sorted(still) == sorted(filter(is_frozen, fixed))
        stats = [k for k in like if "running" in k and is_frozen(k)]
        held &= all(torch.equal(ended[k], start[k]) for k in stats)

        model.load_state_dict(ended, strict=True)
        torch.manual_seed(0)
        images = torch.randn(2, 3, size, size)
        save_file({"input": images}, self.folder / "input.safetensors")
        logits = self.folder / "logits.safetensors"
        names = ["--model", name, "--weights", file, "--tensor", self.folder / "input.safetensors", "--out", logits]
        self.call("predict", *names)
        apart = off(load_file(logits)["logits"], model(images))
        cells = [name, size, len(fixed), len(resampled), f"{begins:.1e}", f"{layers:.2f} ({worst})"]
        cells += ["yes" if held else "NO", f"{apart:.1e}"]
        ok = held and begins < 1e-6 and apart <= TOLERANCE
        return ok, cells, [line for line in said.splitlines() if line.startswith("initial weights:")]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("photographs")
    parser.add_argument("models", nargs="*", help="of those in the script [default: all]")
    parser.add_argument("--sizes", default="224,384")
    args = parser.parse_args()
    heading = ["model", "size", "tensors", "resampled", "begins", "scales", "frozen", "logits"]
    print("| " + " | ".join(heading) + " |\n" + "| --- " * len(heading) + "|")
    failed, said = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tuning = Tuning(args.binary, few(args.photographs, folder / "data"), folder)
        for name in args.models or MODELS:
            for size in map(int, args.sizes.split(",")):
                ok, cells, lines = tuning.row(name, size)
                failed += [] if ok else [f"{name} at {size}"]
                said += lines
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print("\n".join(said))
    if failed:
        sys.exit(f"no agreement: {', '.join(failed)}")


if __name__ == "__main__":
    main()

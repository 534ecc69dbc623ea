#!/usr/bin/env python3
"""Proves that weight files go both ways between this project and timm (and torchvision), and prints a table.

    cargo build --release -p efficienttrain-models --example weights
    python bench/scripts/timm_agreement.py target/release/examples/weights [MODEL ...]

For each model: timm's state dict, with random values in every tensor, is read here from a safetensors file and from a
wrapped `.pth` file, torchvision's from a `.pth` file; what is written back has timm's names, shapes and bits; what this
project makes itself loads in timm with `strict=True`. The logits of two images must agree each time. Needs timm,
torchvision and safetensors.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

# Name here, name in timm, name in torchvision.
MODELS = [
    ("resnet18", "resnet18", "resnet18"),
    ("resnet50", "resnet50", "resnet50"),
    ("deit_tiny", "deit_tiny_patch16_224", None),
    ("deit_small", "deit_small_patch16_224", None),
    ("deit_base", "deit_base_patch16_224", "vit_b_16"),
    ("deit_tiny_distilled", "deit_tiny_distilled_patch16_224", None),
    ("swin_tiny", "swin_tiny_patch4_window7_224", "swin_t"),
    ("swin_small", "swin_small_patch4_window7_224", "swin_s"),
    ("convnext_atto", "convnext_atto", None),
    ("convnext_nano", "convnext_nano", None),
    ("convnext_tiny", "convnext_tiny", "convnext_tiny"),
    ("convnext_small", "convnext_small", "convnext_small"),
    ("caformer_s18", "caformer_s18", None),
    ("caformer_s36", "caformer_s36", None),
    ("convformer_s18", "convformer_s18", None),
]
# Single precision, sums in another order: largest difference over the largest logit.
TOLERANCE = 2e-5


def randomise(model, seed):
    """Random values in every tensor: zeros, ones and layer scales of 1e-6 would hide swapped keys."""
    generator = torch.Generator().manual_seed(seed)
    for name, t in model.state_dict().items():
        if t.is_floating_point():
            std = 0.1 if t.dim() < 2 or t.numel() == t.shape[0] or "table" in name else 0.01
            t += std * torch.randn(t.shape, generator=generator)
        if name.endswith("running_var"):
            t.abs_().add_(0.1)
    return model.eval()


def create(timm_name):
    model = timm.create_model(timm_name)
    if "former_" in timm_name:
        # timm has 1e-6 here. The authors' head has PyTorch's default, and so has this project: with random weights it
        # moves the logits by 5e-5 of the largest.
        model.head.fc.norm.eps = 1e-5
    return model


def off(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


class Comparison:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, pathlib.Path(folder)
        torch.manual_seed(0)
        self.images = torch.randn(2, 3, 224, 224)
        save_file({"pictures": self.images}, self.folder / "images")

    def ours(self, name, file, *copy):
        out = self.folder / "logits"
        command = [self.binary, "logits", name, file, self.folder / "images", out, *copy]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return load_file(out)["logits"]

    def reads(self, name, theirs):
        """Our logits with the other program's weights: from safetensors, from a wrapped .pth, and the copy we write."""
        state, want = theirs.state_dict(), theirs(self.images)
        plain, pickled, copy = (self.folder / f for f in ("plain.safetensors", "wrapped.pth", "copy.safetensors"))
        save_file({k: v.contiguous() for k, v in state.items()}, plain)
        wrapped = {"epoch": 1, "args": argparse.Namespace(lr=0.1), "state_dict": state}
        torch.save(wrapped, pickled)
        return off(self.ours(name, plain), want), off(self.ours(name, pickled, copy), want), load_file(copy)

    def row(self, name, timm_name, torchvision_name):
        theirs = randomise(create(timm_name), 1)
        plain, pickled, copy = self.reads(name, theirs)
        state = theirs.state_dict()
        same = state.keys() == copy.keys() and all(torch.equal(state[k], copy[k]) for k in state)
        made = self.folder / "made.safetensors"
        subprocess.run([self.binary, "init", name, str(made)], check=True)
        theirs.load_state_dict(load_file(made), strict=True)
        numbers = [plain, pickled, off(self.ours(name, made), theirs(self.images))]
        if torchvision_name:
            other = randomise(getattr(torchvision.models, torchvision_name)(), 2)
            numbers.append(max(self.reads(name, other)[:2]))
        ok = same and max(numbers) <= TOLERANCE
        cells = [name, timm_name, str(len(state)), "yes" if same else "NO", *(f"{n:.1e}" for n in numbers)]
        return ok, cells + ["-"] * (8 - len(cells))


@torch.no_grad()
def main():
    binary, wanted = sys.argv[1], sys.argv[2:]
    unknown = set(wanted) - {name for name, *_ in MODELS}
    if unknown:
        sys.exit(f"not in the table of this script: {', '.join(sorted(unknown))}")
    print("| model | timm | tensors | copy has timm's names, shapes, bits | from timm's safetensors | from timm's .pth "
          "| ours in timm | from torchvision |")
    print("| --- " * 8 + "|")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(binary, folder)
        for names in MODELS:
            if not wanted or names[0] in wanted:
                ok, cells = comparison.row(*names)
                failed += [] if ok else [names[0]]
                print("| " + " | ".join(cells) + " |", flush=True)
    if failed:
        sys.exit(f"no agreement within {TOLERANCE}: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Writes names.json: how timm and torchvision call what the authors' models call by other names.

The pairs of authors' and timm's names come from timm's own conversion of the authors' checkpoints, run on tensors that
are filled with their position. Blocks from the third of a stage on are left out.
"""

import json
import pathlib
import re
import sys

import timm
import torch
import torchvision
from timm.models import convnext, metaformer, swin_transformer

MODELS = {
    "swin_tiny": ("swin_tiny_patch4_window7_224", swin_transformer, "swin_t"),
    "convnext_tiny": ("convnext_tiny", convnext, "convnext_tiny"),
    "convnext_atto": ("convnext_atto", convnext, None),
    "caformer_s18": ("caformer_s18", metaformer, None),
    "convformer_s18": ("convformer_s18", metaformer, None),
}
LATER_BLOCK = r"(stages\.\d|layers\.\d\.blocks|stages\.\d\.blocks|features\.[1357])\.([2-9]|\d\d)\."


def names(model, lists):
    timm_name, module, torchvision_name = MODELS[model]
    theirs = timm.create_model(timm_name)
    own = authors(model, lists)
    filled = {n: torch.full(shape, float(i)) for i, (n, shape) in enumerate(own)}
    converted = module.checkpoint_filter_fn(filled, theirs)
    state = theirs.state_dict()
    assert converted.keys() == state.keys()
    rows = []
    for name, tensor in converted.items():
        native, shape = own[int(tensor.flatten()[0])]
        assert list(tensor.shape) == list(state[name].shape)
        if not re.match(LATER_BLOCK, native):
            rows.append([native, shape, name, list(tensor.shape)])
    out = {"timm": rows}
    if torchvision_name:
        other = getattr(torchvision.models, torchvision_name)().state_dict()
        out["torchvision"] = [[n, list(t.shape)] for n, t in other.items() if not re.match(LATER_BLOCK, n)]
    return out


def authors(model, lists):
    if model == "convformer_s18":  # the same as CAFormer, but for the mixers of the last two stages
        return convformer(authors("caformer_s18", lists))
    if model == "convnext_atto":  # as ConvNeXt-T, but for widths and depths
        return atto(authors("convnext_tiny", lists))
    return [(p[0], p[1]) for p in json.loads((lists / f"{model}.json").read_text())["params"]]


def atto(tiny):
    kept = [(name, shape) for name, shape in tiny if not re.match(r"stages\.([013]\.2|2\.[678])\.", name)]
    return [(name, [d * 40 // 96 if d % 96 == 0 else d for d in shape]) for name, shape in kept]


def convformer(caformer):
    out = []
    for name, shape in caformer:
        late = re.match(r"stages\.[23]\.\d+\.", name)
        width = shape[-1]
        if late and "qkv" in name:
            p = late.group() + "token_mixer."
            out += [(p + "pwconv1.weight", [2 * width, width]), (p + "act1.scale", [1]), (p + "act1.bias", [1])]
            out += [(p + "dwconv.weight", [2 * width, 1, 7, 7]), (p + "pwconv2.weight", [width, 2 * width])]
        elif not (late and "token_mixer.proj" in name):
            out.append((name, shape))
    return out


if __name__ == "__main__":
    lists = pathlib.Path(sys.argv[1])  # the reference's parameter lists, one JSON file a model
    text = json.dumps({model: names(model, lists) for model in MODELS})
    text = text.replace("]], ", "]],\n").replace("], [\"", "],\n[\"").replace("[[\"", "[\n[\"")
    (pathlib.Path(__file__).parent / "names.json").write_text(text + "\n")

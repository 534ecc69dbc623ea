"""Writes the small files beside it. Needs PyTorch (made with 2.15) and the safetensors package; no weights of anyone."""

import argparse
import collections
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


def numbers(*shape, start=0.0):
    count = int(np.prod(shape))
    return (torch.arange(count, dtype=torch.float32) * 0.25 + start).reshape(shape)


def state(start=0.0):
    return collections.OrderedDict(
        [("fc.weight", numbers(3, 4, start=start)), ("fc.bias", numbers(3, start=start - 7))]
    )


class Odd(dict):
    """A class that a reader cannot know."""


base = numbers(4, 6)
kinds = {
    "f16": base.half(),
    "bf16": base.bfloat16(),
    "f64": base.double() / 3,
    "i64": torch.tensor([-(2**40), 0, 2**62]),
    "i32": torch.tensor([-7, 2**31 - 1], dtype=torch.int32),
    "i16": torch.tensor([-7, 2**15 - 1], dtype=torch.int16),
    "u8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "transposed": base.t(),
    "every_other": base[::2, 1::2],
    "permuted": numbers(2, 3, 4).permute(2, 0, 1),
    "row": base[1],
    "row_again": base[1],
    "expanded": numbers(3).expand(2, 3),
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(numbers(2, 2)),
}
torch.save(kinds, HERE / "kinds.pth")
# The safetensors package stores dense tensors of their own and no expanded or shared ones.
save_file({name: t.detach().clone().contiguous() for name, t in kinds.items()}, HERE / "kinds.safetensors")

args = argparse.Namespace(lr=1e-3, model="resnet10", betas=(0.9, 0.999), note=None, best=np.float64(0.5))
wrapped = {
    "epoch": 7,
    "args": args,
    "odd": Odd(a=1),
    "history": [[0.1, 0.2], {"deep": ({"er": {1, 2}},)}, b"bytes", 2**80],
    "optimizer": {"state": {0: {"exp_avg": numbers(3, 4), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
    "model": collections.OrderedDict(("module." + name, t) for name, t in state().items()),
    "model_ema": state(start=100),
}
torch.save(wrapped, HERE / "wrapped.pth")
torch.save({"state_dict": state(), "state_dict_ema": state(start=100)}, HERE / "timm.pth")
torch.save({"ema": {"module": state(start=100)}, "model": state()}, HERE / "nested.pth")
average = {"n_averaged": torch.tensor(5), **{"module." + name: t for name, t in state(start=100).items()}}
torch.save({"model": state(), "model_ema": average, "epoch": 1}, HERE / "averaged.pth")
torch.save(state(), HERE / "plain.pth")
torch.save(state(), HERE / "protocol4.pth", pickle_protocol=4)
torch.save(state(), HERE / "legacy.pth", _use_new_zipfile_serialization=False)
torch.save(torch.nn.Linear(1, 1), HERE / "module.pth")
torch.save({"a": torch.eye(2).to_sparse()}, HERE / "sparse.pth")
for file in HERE.glob("*.pth"):
    print(file.name, file.stat().st_size)

"""Runs each NAME.onnx of a folder on the images of NAME.BATCH.input, and compares with NAME.BATCH.output."""
import pathlib
import sys

import numpy
import onnx
import onnxruntime

# Largest difference of a logit.
TOLERANCE = 1e-4
folder = pathlib.Path(sys.argv[1])
files = sorted(folder.glob("*.onnx"))
failed = not files
for file in files:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, target.name) == ("input", "output"), (source.name, target.name)
    assert source.shape[0] == target.shape[0] == "batch", (source.shape, target.shape)
    assert session.get_modelmeta().custom_metadata_map["model"] == file.name.split("-")[0]
    cases = sorted(folder.glob(f"{file.stem}.*.input"))
    failed |= not cases
    for case in cases:
        images = numpy.fromfile(case, "<f4").reshape(-1, *source.shape[1:])
        expected = numpy.fromfile(case.with_suffix(".output"), "<f4").reshape(len(images), -1)
        (got,) = session.run(None, {"input": images})
        difference = numpy.abs(got - expected).max()
        wrong = got.shape != expected.shape or not difference <= TOLERANCE or numpy.abs(expected).max() < 0.01
        failed |= bool(wrong)
        size = numpy.abs(expected).max()
        print(f"{case.stem}: {len(model.graph.node)} nodes, difference {difference:.1e} of {size:.1f}{' WRONG' if wrong else ''}")
sys.exit(failed)

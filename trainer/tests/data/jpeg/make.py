"""Makes layouts.safetensors: JPEGs of many layouts (keys `jpeg/NAME`), and libjpeg-turbo's pixels of them as Pillow gives them
(keys `rgb/SAMPLING`, `[H, W, 3]`). Layouts with the same sampling hold the same coefficients, so they share their pixels.

Needs Pillow, numpy, safetensors, and cjpeg and jpegtran (Debian: libjpeg-turbo-progs).
"""
import io
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 25, 19
y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
color = np.stack([127 + 100 * np.sin(x / 9 + y / 23), 60 + 5 * x + y, 200 - 5 * y + 30 * np.cos(x / 4)], -1)
noise = np.random.default_rng(0).normal(0, 4, color.shape)
picture = Image.fromarray(np.clip(color + noise, 0, 255).astype(np.uint8))
inks = Image.fromarray(np.clip(np.dstack([color + noise, 40 + 3 * x]), 0, 255).astype(np.uint8), "CMYK")

SCANS = {"interleaved": "", "separate": "0;1;2;", "luma-then-chroma": "0;1 2;", "chroma-last": "0 1;2;", "reversed": "2;1;0;"}
SAMPLING = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "3x1", "2x2,2x1,2x1", "1x1,2x2,2x2", "1x1,1x2,1x2", "2x1,1x2,1x2"]
INK_SCANS = {"interleaved": "", "separate": "0;1;2;3;", "pairs": "0 1;2 3;"}


def run(command, data, scans=""):
    with tempfile.NamedTemporaryFile("w") as script:
        if scans:
            script.write(scans)
            script.flush()
            command = [*command, "-scans", script.name]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def pixels(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


found = {}


def add(name, sampling, jpeg):
    expected = found.setdefault(f"rgb/{sampling}", pixels(jpeg))
    assert (pixels(jpeg) == expected).all(), name
    found[f"jpeg/{sampling}/{name}"] = np.frombuffer(jpeg, np.uint8)


ppm = io.BytesIO()
picture.save(ppm, "PPM")
for sampling in SAMPLING:
    base = ["cjpeg", "-quality", "80", "-sample", sampling]
    for name, scans in SCANS.items():
        for restart in ([], ["-restart", "1"]) if sampling in ("1x1", "1x2", "2x2") else ([],):
            add(name + "-restart" * bool(restart), sampling, run(base + restart, ppm.getvalue(), scans))
    add("progressive", sampling, run([*base, "-progressive"], ppm.getvalue()))
    add("arithmetic", sampling, run([*base, "-arithmetic"], ppm.getvalue()))

gray = io.BytesIO()
picture.convert("L").save(gray, "PPM")
for name, options in {"baseline": [], "sampled": ["-sample", "2x2"], "progressive": ["-progressive"], "arithmetic": ["-arithmetic"]}.items():
    add(name, "gray", run(["cjpeg", "-quality", "80", "-grayscale", *options], gray.getvalue()))

for sampling, subsampling in {"inks": 0, "inks-2x2": 2}.items():
    first = io.BytesIO()
    inks.save(first, "JPEG", quality=80, subsampling=subsampling)
    for name, scans in INK_SCANS.items():
        for restart in ([], ["-restart", "1"]):
            add(name + "-restart" * bool(restart), sampling, run(["jpegtran", *restart], first.getvalue(), scans))
    add("progressive", sampling, run(["jpegtran", "-progressive"], first.getvalue()))

save_file(found, HERE / "layouts.safetensors")
print(len(found), "tensors")

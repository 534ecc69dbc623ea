"""Makes the shards of this folder with webdataset's own writer, compressed to keep them small.

Each has six samples; sample `i` is an image of the single color (40 i, 100, 200) and of class `i % 3`."""

import gzip
import io
import sys
from pathlib import Path

import PIL
import webdataset
from PIL import Image

HERE = Path(__file__).parent
COUNT = 6


def image(i):
    return Image.new("RGB", (8, 8), (40 * i, 100, 200))


def encoded(i, format):
    file = io.BytesIO()
    image(i).save(file, format)
    return file.getvalue()


def write(name, sample, **options):
    """Writes the samples that `sample` gives for each number."""
    shard = io.BytesIO()
    with webdataset.TarWriter(shard, mtime=0, **options) as writer:
        for i in range(COUNT):
            writer.write(sample(i))
    (HERE / f"{name}.tar.gz").write_bytes(gzip.compress(shard.getvalue(), mtime=0))


def main():
    write("cls", lambda i: {"__key__": f"{i:06d}", "png": image(i), "cls": i % 3})
    write("folders", lambda i: {"__key__": f"train/part{i}/{i:06d}", "png": image(i), "cls": i % 3})
    write("class-folders", lambda i: {"__key__": f"{i % 3}/{i:06d}", "png": image(i)})
    write("json", lambda i: {"__key__": f"{i:06d}", "png": image(i), "json": {"width": 8, "label": i % 3}})
    write("cls-json", lambda i: {"__key__": f"{i:06d}", "png": image(i), "cls.json": i % 3})
    write("cls-txt", lambda i: {"__key__": f"{i:06d}", "png": image(i), "cls.txt": str(i % 3)})
    write("dots", lambda i: {"__key__": f"a/{i:06d}", "image.png": image(i), "cls": i % 3})
    write("two-images", lambda i: {"__key__": f"{i:06d}", "mask.png": image(5), "png": image(i), "cls": i % 3})
    upper = lambda i: {"__key__": f"{i:06d}", "PNG": encoded(i, "PNG"), "CLS": b"%d" % (i % 3)}
    write("upper", upper, encoder=False)
    write("long", lambda i: {"__key__": f"{'d' * 120}/é{'e' * 150}{i}", "png": image(i), "cls": i % 3})
    write("ppm", lambda i: {"__key__": f"{i:06d}", "ppm": image(i), "cls": i % 3})
    webp = lambda i: {"__key__": f"{i:06d}", "webp": encoded(i, "WEBP"), "cls": b"%d" % (i % 3)}
    write("webp", webp, encoder=False)
    # The names of label and image differ before the last dot, so they do not belong together here.
    write("other-name", lambda i: {"__key__": f"part{i % 2}/{i:06d}", "image.png": image(i), "target.cls": i % 3})
    print(f"Python {sys.version.split()[0]}, webdataset {webdataset.__version__}, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()

"""Makes the pictures of this folder and, beside each, the pixels that Pillow reads from it."""

import io
import struct
import sys
import zlib
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent
SIZE = (31, 22)


def picture():
    image = Image.new("RGB", SIZE)
    for x in range(SIZE[0]):
        for y in range(SIZE[1]):
            image.putpixel((x, y), (8 * x, 11 * y, 255 - 4 * x - 5 * y))
    return image


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def keep(name, image, **options):
    keep_bytes(name, encoded(image, format=Path(name).suffix[1:].replace("jpg", "jpeg"), **options))


def keep_bytes(name, content):
    path = HERE / name
    path.write_bytes(content)
    upright = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    upright.save(path.with_name(name + ".pixels.png"), optimize=True)


def exif(orientation=6, kind=3):
    """EXIF data with an orientation stored as SHORT (3), LONG (4) or another type of two or four bytes."""
    value = struct.pack("<HH" if kind in (3, 8) else "<I", *((orientation, 0) if kind in (3, 8) else (orientation,)))
    return b"II" + struct.pack("<HIHHHI", 42, 8, 1, 0x112, kind, 1) + value + bytes(4)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def segment(content):
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def oriented(rgb):
    """The ways in which a file may say that it lies on its side."""
    jpeg, png = encoded(rgb, format="jpeg", quality=90, subsampling=0), encoded(rgb, format="png")
    named = b"Exif\0\0"
    for name, segments in {
        "long": [named + exif(kind=4)],
        "prefix-twice": [named + named + exif()],
        "in-two-segments": [named + exif()[:15], named + exif()[15:]],
        "xmp": [b"http://ns.adobe.com/xap/1.0/\0" + XMP],
        "xmp-beside-exif": [named + exif(3), b"http://ns.adobe.com/xap/1.0/\0" + XMP],
    }.items():
        keep_bytes(f"oriented-{name}.jpg", jpeg[:2] + b"".join(map(segment, segments)) + jpeg[2:])
    end = png.rindex(b"IEND") - 4
    digits = f"\nexif\n{len(exif()):8}\n{exif().hex()}\n".encode()
    for name, added in {
        "after-pixels": chunk(b"eXIf", exif()),
        "long": chunk(b"eXIf", exif(kind=4)),
        "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        "xmp-compressed": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        "raw-profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits)),
    }.items():
        # What follows the pixels counts as what precedes them.
        at = end if name == "after-pixels" else png.index(b"IDAT") - 4
        keep_bytes(f"oriented-{name}.png", png[:at] + added + png[at:])
    keep("oriented.webp", rgb, lossless=True, exif=named + exif())
    keep("oriented-long.webp", rgb, lossless=True, exif=named + exif(kind=4))
    keep("oriented-xmp.webp", rgb, lossless=True, xmp=XMP)


def main():
    rgb = picture()
    keep("baseline.jpg", rgb, quality=90, subsampling=0)
    keep("subsampled.jpg", rgb, quality=90, subsampling=2)
    keep("progressive.jpg", rgb, quality=90, progressive=True, subsampling=0)
    keep("grey.jpg", rgb.convert("L"), quality=90)
    black = rgb.convert("L").point(lambda level: level // 2)
    keep("cmyk.jpg", Image.merge("CMYK", (*rgb.split(), black)), quality=95)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        keep(f"orientation{orientation}.jpg", rgb, quality=90, subsampling=0, exif=exif)
    keep("rgb.png", rgb)
    keep("palette.png", rgb.quantize(32))
    keep("transparent.png", Image.merge("RGBA", (*rgb.split(), rgb.convert("L"))))
    keep("lossless.webp", rgb, lossless=True)
    keep("lossy.webp", rgb, quality=90)
    keep("rgb.bmp", rgb)
    oriented(rgb)
    print(f"Python {sys.version.split()[0]}, Pillow {Image.__version__}")


if __name__ == "__main__":
    main()

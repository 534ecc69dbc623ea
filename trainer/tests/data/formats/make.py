"""Makes the images of this folder, of less usual formats, and beside each the pixels that Pillow reads from it."""

import struct
import sys
from pathlib import Path

import PIL
from PIL import Image

HERE = Path(__file__).parent
SIZE = (13, 9)


def picture(shift=0):
    image = Image.new("RGB", SIZE)
    for x in range(SIZE[0]):
        for y in range(SIZE[1]):
            image.putpixel((x, y), ((19 * x + shift) % 256, 27 * y, 255 - 9 * x - 11 * y))
    return image


def keep(name, image, **options):
    path = HERE / name
    image.save(path, **options)
    # A GIF of several frames is its first.
    Image.open(path).convert("RGB").save(path.with_name(name + ".pixels.png"), optimize=True)


def with_tag(path, tag, old, new):
    """Changes the value of a SHORT tag of a little-endian TIFF."""
    entry = struct.pack("<HHI", tag, 3, 1)
    content = path.read_bytes()
    assert content.count(entry + struct.pack("<H", old)) == 1
    path.write_bytes(content.replace(entry + struct.pack("<H", old), entry + struct.pack("<H", new)))


def tiffs(rgb):
    """Colors that are multiplied by their alpha; bits in reverse order, which is refused."""
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(SIZE))
    path = HERE / "associated.tif"
    rgba.save(path)
    with_tag(path, 338, 2, 1)
    Image.open(path).convert("RGB").save(path.with_name(path.name + ".pixels.png"), optimize=True)
    reversed_bits = HERE / "reversed-bits.tif"
    rgb.convert("L").save(reversed_bits, tiffinfo={266: 1})
    with_tag(reversed_bits, 266, 1, 2)


def main():
    rgb = picture()
    tiffs(rgb)
    frames = [picture(shift).quantize(64) for shift in (0, 90)]
    keep("frames.gif", frames[0], save_all=True, append_images=frames[1:])
    keep("plain.tif", rgb)
    keep("lzw.tiff", rgb, compression="tiff_lzw")
    keep("deflate.tif", rgb, compression="tiff_adobe_deflate")
    keep("gray.tif", rgb.convert("L"))
    keep("rgb.ppm", rgb)
    keep("gray.pgm", rgb.convert("L"))
    keep("bits.pbm", rgb.convert("1"))
    keep("any.pnm", rgb, format="PPM")
    keep("photo.jfif", rgb, format="JPEG", quality=95, subsampling=0)
    keep("photo.jpe", rgb, format="JPEG", quality=95, subsampling=0)
    print(f"Python {sys.version.split()[0]}, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()

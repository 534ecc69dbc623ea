"""Makes the images of this folder, of less usual formats, and beside each the pixels that Pillow reads from it."""

import random
import struct
import sys
import zlib
from pathlib import Path

import PIL
from PIL import Image, ImageCms, ImageOps

HERE = Path(__file__).parent
SIZE = (13, 9)


def picture(shift=0):
    image = Image.new("RGB", SIZE)
    for x in range(SIZE[0]):
        for y in range(SIZE[1]):
            image.putpixel((x, y), ((19 * x + shift) % 256, 27 * y, 255 - 9 * x - 11 * y))
    return image


def keep(name, image, **options):
    image.save(HERE / name, **options)
    keep_pixels(name)


def keep_bytes(name, content):
    (HERE / name).write_bytes(content)
    keep_pixels(name)


def keep_pixels(name):
    # A file of several images is its first.
    pixels = ImageOps.exif_transpose(Image.open(HERE / name)).convert("RGB")
    pixels.save(HERE / (name + ".pixels.png"), optimize=True)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png(color, channels, values):
    """A PNG of 16 bits per channel."""
    width, height = SIZE
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    row = 2 * channels * width
    rows = b"".join(b"\0" + values[row * y : row * (y + 1)] for y in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(channels, values, extra=None):
    """A little-endian TIFF of 16 bits per channel in one strip."""
    width, height = SIZE
    tags = [(256, 4, width), (257, 4, height), (259, 3, 1), (262, 3, 2), (277, 3, channels), (278, 4, height)]
    tags += [(279, 4, len(values))] + ([(338, 3, extra)] if extra else [])
    behind = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags]
    entries.append(struct.pack("<HHII", 258, 3, channels, behind))
    entries.append(struct.pack("<HHII", 273, 4, 1, behind + 2 * channels))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2]))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<H", 16) * channels + values


def deep():
    """Sixteen bits per channel: random values, since many of them round up to the next of eight bits."""
    rng = random.Random(0)
    values = rng.randbytes(2 * 4 * SIZE[0] * SIZE[1])
    part = lambda channels: values[: len(values) * channels // 4]
    keep_bytes("rgb16.png", deep_png(2, 3, part(3)))
    keep_bytes("rgba16.png", deep_png(6, 4, values))
    keep_bytes("gray-alpha16.png", deep_png(4, 2, part(2)))
    keep_bytes("rgb16.tif", deep_tiff(3, part(3)))
    keep_bytes("rgba16.tif", deep_tiff(4, values, extra=2))
    keep_bytes("associated16.tif", deep_tiff(4, values, extra=1))


def gifs(rgb):
    """A transparent color, interlaced rows, a frame smaller than the screen and beside its corner."""
    few = rgb.quantize(16)
    keep("transparent.gif", few, transparency=few.getpixel((3, 3)))
    keep("interlaced.gif", few, interlace=1)
    content = bytearray((HERE / "transparent.gif").read_bytes())
    content[6:10] = struct.pack("<HH", 20, 15)
    frame = content.index(b"\x2c" + struct.pack("<HHHH", 0, 0, *SIZE))
    content[frame + 1 : frame + 5] = struct.pack("<HH", 4, 3)
    keep_bytes("offset.gif", bytes(content))


def several(rgb):
    """Files of two images, as phones and stereo cameras write them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options = dict(save_all=True, append_images=[picture(90)], quality=95, subsampling=0)
    keep("two.mpo", rgb, **options)
    keep("turned.mpo", rgb, exif=exif, **options)
    keep("pages.tif", rgb, save_all=True, append_images=[picture(90)])


def profiles(rgb):
    """A color profile that gives the numbers another meaning: Pillow and torchvision keep the numbers."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    keep("profile.jpg", rgb, quality=95, subsampling=0, icc_profile=profile)
    keep("profile.png", rgb, icc_profile=profile)
    keep("profile.webp", rgb, lossless=True, icc_profile=profile)
    keep("profile.tif", rgb, icc_profile=profile)


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
    keep_pixels(path.name)
    reversed_bits = HERE / "reversed-bits.tif"
    rgb.convert("L").save(reversed_bits, tiffinfo={266: 1})
    with_tag(reversed_bits, 266, 1, 2)


def main():
    rgb = picture()
    tiffs(rgb)
    deep()
    gifs(rgb)
    several(rgb)
    profiles(rgb)
    rgb.save(HERE / "photo.avif")
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

"""Makes the pictures of this folder and, beside each, the pixels that Pillow reads from it."""

import sys
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


def keep(name, image, **options):
    path = HERE / name
    image.save(path, **options)
    upright = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    upright.save(path.with_name(name + ".pixels.png"), optimize=True)


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
    print(f"Python {sys.version.split()[0]}, Pillow {Image.__version__}")


if __name__ == "__main__":
    main()

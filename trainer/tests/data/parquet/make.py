"""Makes the Parquet files of this folder with pyarrow, and the pictures in them with Pillow."""

import io
import json
import random
import sys
from pathlib import Path

import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent
COUNT, SIZE = 8, (12, 10)
NAMES = ["zebra", "ant", "mole"]
LABELS = [row % len(NAMES) for row in range(COUNT)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
DESCRIBED = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}}}
# Groups of three rows, pages of two or one. Statistics would hold half of the pictures again.
PAGES = {"row_group_size": 3, "data_page_size": 1, "write_batch_size": 2, "write_statistics": False}


def picture(number):
    """Noise, so that it hardly compresses and no two are alike."""
    noise = random.Random(number)
    image = Image.frombytes("RGB", SIZE, noise.randbytes(SIZE[0] * SIZE[1] * 3))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def in_structs(pictures):
    return pa.array([p and {"bytes": p, "path": "a.png"} for p in pictures], STRUCT)


def keep(name, columns, described=None, **options):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if described:
        table = table.replace_schema_metadata({"huggingface": json.dumps(described)})
    path = HERE / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **{**PAGES, **options})


def main():
    pictures = [picture(number) for number in range(COUNT)]
    (HERE / "pictures").mkdir(exist_ok=True)
    for number, data in enumerate(pictures):
        (HERE / f"pictures/{number}.png").write_bytes(data)
    hub = {"image": in_structs(pictures), "label": pa.array(LABELS, pa.int64())}

    # As the hub has it: two files of one split, one of another.
    for file, rows in enumerate([slice(0, 5), slice(5, 8)]):
        part = {"image": in_structs(pictures[rows]), "label": LABELS[rows]}
        keep(f"hub/data/train-{file:05}-of-00002", part, DESCRIBED)
    keep("hub/data/validation-00000-of-00001", {"image": in_structs(pictures[:2]), "label": LABELS[:2]}, DESCRIBED)

    for codec in ["none", "snappy", "zstd"]:
        for version in ["1.0", "2.0"]:
            for dictionary in [True, False]:
                name = f"coded/{codec}-v{version[0]}-{'dictionary' if dictionary else 'plain'}"
                options = {"compression": codec, "data_page_version": version, "use_dictionary": dictionary}
                keep(name, hub, DESCRIBED, **options)
    keep("coded/dictionary-then-plain", hub, DESCRIBED, dictionary_pagesize_limit=500, row_group_size=8)
    keep("coded/one-page", hub, DESCRIBED, row_group_size=8, data_page_size=1 << 20, write_batch_size=100)
    keep("coded/page-index", hub, DESCRIBED, write_page_index=True, write_statistics=True)
    encodings = {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY", "label": "DELTA_BINARY_PACKED"}
    keep("coded/delta", hub, DESCRIBED, use_dictionary=False, column_encoding=encodings)

    binary = pa.array(pictures, pa.binary())
    keep("columns/binary", {"id": LABELS, "image": binary, "labels": pa.array(LABELS, pa.int8())})
    fields = [pa.field("img", pa.binary(), nullable=False), pa.field("fine_label", pa.int32(), nullable=False)]
    keep("columns/required", pa.Table.from_arrays([binary, pa.array(LABELS, pa.int32())], schema=pa.schema(fields)))
    keep("columns/strings", {"image": binary, "label": [NAMES[label] for label in LABELS]})
    odd = {"info": {"features": {"x": {"_type": "Image"}, "kind": {"names": NAMES, "_type": "ClassLabel"}}}}
    keep("columns/described", {"x": in_structs(pictures), "kind": LABELS}, odd)
    keep("columns/decimals", {"image": binary, "label": pa.array([float(label) for label in LABELS])})
    large = {"image": pa.array(pictures, pa.large_binary()), "class": pa.array([NAMES[n] for n in LABELS], pa.large_string())}
    keep("columns/large", large)
    keep("columns/categories", {"image": binary, "label": pa.array([NAMES[n] for n in LABELS]).dictionary_encode()})
    keep("columns/repeated", {"image": binary.take(pa.array([0, 1, 0, 0, 1, 0, 2, 0])), "label": LABELS})

    lacking = [{"bytes": p, "path": "a.png"} for p in pictures]
    lacking[2], lacking[5]["bytes"] = None, None
    keep("refused/nulls", {"image": pa.array(lacking, STRUCT), "label": LABELS}, DESCRIBED)
    keep("refused/unlabeled", {"image": binary, "label": [0, 1, 2, 0, None, 1, 2, 0]})
    keep("refused/negative", {"image": binary, "label": [0, 1, 2, 0, -1, 1, 2, 0]})
    keep("refused/beyond", {"image": in_structs(pictures), "label": [0, 1, 2, 3, 0, 1, 2, 0]}, DESCRIBED)
    keep("refused/decimal", {"image": binary, "label": [0.0, 1.0, 2.0, 0.5, 0.0, 1.0, 2.0, 0.0]})
    keep("refused/gap", {"image": binary, "label": [0.0, 1.0, float("nan"), 0.0, 0.0, 1.0, 2.0, 0.0]})
    keep("refused/list-label", {"image": binary, "label": [[label] for label in LABELS]})
    paths = pa.array([{"path": f"{row}.png"} for row in range(COUNT)], pa.struct([("path", pa.string())]))
    keep("refused/paths", {"image": paths, "label": LABELS})
    keep("refused/gzip", hub, DESCRIBED, compression="gzip")
    keep("refused/no-image", {"text": ["a"], "label": [0]})
    keep("refused/no-label", {"image": binary, "score": pa.array([0.5] * COUNT)})
    keep("refused/lists", {"image": pa.array([[p] for p in pictures]), "label": LABELS})
    keep("refused/empty", {"image": binary[:0], "label": pa.array([], pa.int64())})
    print(f"Python {sys.version.split()[0]}, pyarrow {pa.__version__}, Pillow {PIL.__version__}")


if __name__ == "__main__":
    main()

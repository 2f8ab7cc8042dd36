"""Makes ``src/likewise_demo_data`` from a folder of Tux Paint stamps: the photographs listed in ``tools/demo_ids.txt``, and a shop.

    python tools/make_demo_data.py FOLDER      # FOLDER has stamps.json, images/ and COPYRIGHT

The same input gives the same output, byte for byte. ``texts.jsonl`` and ``README.md`` there are written by hand and left alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "src" / "likewise_demo_data"
LANGUAGES = ("en", "de", "fr", "es", "it", "ja", "zh_CN")
BRANDS = ("Alder & Finch", "Blue Kite", "Corvina", "Dovetail", "Eastwick", "Fernhill", "Great Auk", "Halcyon")
#: Price ranges in whole euros by the first part of the category: postcards of animals are cheap, instruments are not.
PRICES = {
    "animals": (4, 35),
    "food": (2, 12),
    "plants": (5, 40),
    "hobbies": (30, 90),
    "household": (6, 60),
    "vehicles": (15, 90),
}


def pick(key: str, count: int) -> int:
    """A number from 0 to count - 1 that depends on the key only."""
    return zlib.crc32(key.encode()) % count


def name_of(caption: str) -> str:
    """A product's name from its caption: 'A great blue heron.' is 'Great blue heron'."""
    name = re.split(r"[.!]| is | lets | has ", caption)[0].strip()
    for article in ("A ", "An ", "The ", "Some "):
        name = name.removeprefix(article)
    return name[:1].upper() + name[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    source: Path = parser.parse_args().folder
    wanted = (ROOT / "tools" / "demo_ids.txt").read_text("utf-8").split()
    stamps = {stamp["id"]: stamp for stamp in json.loads((source / "stamps.json").read_text("utf-8"))}
    images = TARGET / "images"
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    catalog, products = [], []
    for stamp_id in sorted(wanted):
        stamp = stamps[stamp_id]
        file = f"{stamp_id}.jpg"
        shutil.copyfile(source / stamp["image"], images / file)
        captions = {language: stamp["captions"][language] for language in LANGUAGES if language in stamp["captions"]}
        catalog.append(
            {
                "id": stamp_id,
                "image": f"images/{file}",
                "category": stamp["category"],
                "caption": captions["en"],
                "captions": captions,
            }
        )
        low, high = PRICES.get(stamp["category"].split("/")[0], (5, 50))
        products.append(
            {
                "id": stamp_id,
                "name": name_of(captions["en"]),
                "category": stamp["category"],
                "brand": BRANDS[pick("brand" + stamp_id, len(BRANDS))],
                "price": f"{low + pick('price' + stamp_id, high - low)}.{('00', '50', '90', '95')[pick('cents' + stamp_id, 4)]}",
                "stock": max(0, pick("stock" + stamp_id, 60) - 9),
            }
        )
    (TARGET / "catalog.json").write_text(json.dumps(catalog, ensure_ascii=False, indent=1) + "\n", "utf-8")
    with (TARGET / "products.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(products[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(products)
    shutil.copyfile(source / "COPYRIGHT", TARGET / "COPYRIGHT")
    print(f"{len(catalog)} photographs, {sum(f.stat().st_size for f in images.iterdir()):,} bytes")


if __name__ == "__main__":
    main()

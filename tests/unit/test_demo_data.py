"""The demo's data is whole: what the catalogue names is there, is a picture, and is for sale."""

from __future__ import annotations

import csv
import json

from likewise.embedding.images import decode_image
from likewise_demo_data import DIRECTORY


def test_every_photograph_of_the_catalogue_is_a_small_picture_and_nothing_else_is_there() -> None:
    catalog = json.loads((DIRECTORY / "catalog.json").read_text("utf-8"))
    assert 250 <= len(catalog) <= 300
    ids = [entry["id"] for entry in catalog]
    assert ids == sorted(set(ids))
    assert {entry["image"] for entry in catalog} == {f"images/{path.name}" for path in (DIRECTORY / "images").iterdir()}
    for entry in catalog:
        image = decode_image(DIRECTORY / entry["image"])
        assert max(image.size) <= 320
        assert entry["caption"] == entry["captions"]["en"]
    assert sum(path.stat().st_size for path in (DIRECTORY / "images").iterdir()) < 5_000_000


def test_every_photograph_is_a_product_with_a_price() -> None:
    catalog = json.loads((DIRECTORY / "catalog.json").read_text("utf-8"))
    with (DIRECTORY / "products.csv").open(encoding="utf-8", newline="") as file:
        products = list(csv.DictReader(file))
    assert [p["id"] for p in products] == [entry["id"] for entry in catalog]
    assert all(2 <= float(p["price"]) <= 91 and int(p["stock"]) >= 0 and p["name"] and p["brand"] for p in products)
    assert {int(p["stock"]) > 0 for p in products} == {True, False}


def test_texts_have_ids_of_their_own_and_licences_lie_beside_the_data() -> None:
    texts = [json.loads(line) for line in (DIRECTORY / "texts.jsonl").read_text("utf-8").splitlines()]
    assert len({text["id"] for text in texts}) == len(texts) == 24
    assert all(text["id"].startswith("text-") and text["title"] and text["text"] and text["category"] for text in texts)
    assert "GPL-2" in (DIRECTORY / "COPYRIGHT").read_text("utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in (DIRECTORY / "LICENSE.GPL-2").read_text("utf-8")

"""The demo's data as it lies in the package ``likewise_demo_data``: photographs, the products they show, and texts."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from likewise.errors import NotFound

__all__ = ["Catalog", "Product", "load_catalog"]


@dataclass(frozen=True, slots=True)
class Product:
    """A row of the table ``products``."""

    id: str
    name: str
    category: str
    brand: str
    price: Decimal
    stock: int


@dataclass(frozen=True)
class Catalog:
    """All of it, in the order of the files."""

    directory: Path
    photographs: Sequence[Mapping[str, Any]]
    products: Sequence[Product]
    texts: Sequence[Mapping[str, Any]]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of the data: a database filled from other data is filled again."""
        digest = hashlib.sha256()
        for name in ("catalog.json", "products.csv", "texts.jsonl"):
            digest.update((self.directory / name).read_bytes())
        return digest.hexdigest()[:16]

    @cached_property
    def _images(self) -> dict[str, Path]:
        return {str(photo["id"]): self._image(str(photo["image"])) for photo in self.photographs}

    def _image(self, name: str) -> Path:
        path = self.directory / name
        return path if path.exists() else self.directory / "images" / name

    def image(self, photograph_id: str) -> Path | None:
        """The file of a photograph."""
        return self._images.get(photograph_id)


def load_catalog() -> Catalog:
    """The data; ``NotFound`` if it was not installed along."""
    try:
        import likewise_demo_data
    except ImportError as error:
        raise NotFound("the demo's photographs are not installed: the package likewise_demo_data is missing") from error
    directory = Path(likewise_demo_data.DIRECTORY)
    photographs = json.loads((directory / "catalog.json").read_text("utf-8"))
    with (directory / "products.csv").open(encoding="utf-8", newline="") as file:
        products = [
            Product(row["id"], row["name"], row["category"], row["brand"], Decimal(row["price"]), int(row["stock"]))
            for row in csv.DictReader(file)
        ]
    lines = (directory / "texts.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line) for line in lines if line.strip()]
    return Catalog(directory, photographs, products, texts)

"""Scores of pairs that match and of pairs that do not, of real texts and pictures, for ``similarity.py``; no data of the project.

What ``mini`` embeds is kept in a folder. Of CLIP there are vectors only: of class names and of thumbnails of products.
"""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from likewise.calibration import Pair
from likewise.embedding import load_embedder

__all__ = ["Pool", "Sample", "Two", "banking", "clip", "fashion", "flickr", "stamps"]

Vectors = NDArray[np.float32]
Labels = NDArray[np.str_]
#: Cosines of matched and of unmatched pairs.
Two = tuple[NDArray[np.float64], NDArray[np.float64]]
#: More pairs than this are drawn from.
MOST = 50_000

#: Class names of CLIP's texts that name the same thing; a name may stand in one group only. Chosen by meaning, without a look at cosines.
SYNONYMS = """
couch/sofa|tv/television set/television|cellular telephone/mobile phone/cell phone|trash can/trash bin can/waste container
hair dryer/hair drier|remote control/remote|laptop computer/laptop|potted plant/houseplant|streetlight/street light/street lights
kettle/teakettle|donut/doughnut|cup/mug|boat/ship|spectacles/glasses|necktie/tie|underwear/underdrawers|soccer ball/soccer|pan/frying pan
filing cabinet/file cabinet|cupboard/cabinet|dining table/kitchen table|tap/faucet|toilet tissue/toilet paper|street sign/traffic sign
baby buggy/stroller|fire hydrant/fireplug|pig/hog|cow/cattle|mandarin orange/clementine|shrimp/prawn|candy bar/chocolate bar
earphone/headphones/headset|keyboard/computer keyboard|wall socket/power outlet/power plugs and sockets|scissors/shears|hammer/mallet
ladder/stepladder|lifesaver/life buoy|glove/mitten|sun hat/sunhat|sneakers/shoe|tote bag/handbag|suitcase/luggage|barrel/keg|plate/dish
wine glass/wineglass|pitcher/jug|oven/stove/gas stove/cooker|microwave oven/microwave|washing machine/automatic washer|fan/mechanical fan
mat/doormat|pillow/cushion|blanket/bedspread|crib/infant bed|poster/billboard|flag/banner|tank/army tank|fire truck/fire engine|taxi/cab
raft/dinghy|parakeet/parrot|crow/raven|tortoise/turtle|bandage/band aid|hairbrush/comb|tights/legging|short pants/shorts|sweater/cardigan
coat/jacket|dress suit/suit|bandanna/headscarf|swimsuit/swimwear|nightshirt/pajamas|robe/bathrobe
"""

#: Which class names stand for which article types of the thumbnails, as "names: types".
CONCEPTS = """
watch: Watches|handbag, handbag/satchel, tote bag, shoulder bag: Handbags|wallet, wallet/purse: Wallets|shirt: Shirts
sneakers: Casual Shoes, Sports Shoes|high heels: Heels|flip flop: Flip Flops|sandal, sandals: Sandals|sunglasses: Sunglasses
underwear, underdrawers: Briefs, Trunk, Boxers|sock: Socks|jean, jeans: Jeans|belt: Belts|perfume: Perfume and Body Mist
backpack: Backpacks|lipstick: Lipstick|shorts, short pants: Shorts|brassiere: Bra|earring, earrings: Earrings|sweater: Sweaters
dress: Dresses|trousers: Trousers|clutch bag: Clutches|sweatshirt: Sweatshirts|necklace: Necklace and Chains|tie, necktie: Ties
cap, baseball cap: Caps|legging, tights: Leggings|cufflink: Cufflinks|ring: Ring|jacket: Jackets|scarf: Scarves, Stoles, Mufflers
bracelet: Bracelet, Bangle|skirt: Skirts|suspenders: Suspenders|duffel bag: Duffel Bag|leather shoes: Formal Shoes
"""


@dataclass(frozen=True)
class Sample:
    """Cosines of one pair of modalities: ``fit`` of one half of the labels, ``test`` of the other; no text or picture is in both."""

    data: str
    model: str
    pair: Pair
    what: str
    fit: Two
    test: Two


@dataclass(frozen=True)
class Pool:
    """A collection of texts and pictures, and queries with what is relevant to them, all of the labels not fitted on.

    ``queries`` (q, d) are of one ``modality``; ``relevant_texts`` (q, n) and ``relevant_images`` (q, m) are true where relevant. ``fit`` are
    cosines of such queries with what is relevant to them and what is not, of the other half of the labels.
    """

    data: str
    model: str
    modality: str
    queries: Vectors
    texts: Vectors
    images: Vectors
    relevant_texts: NDArray[np.bool_]
    relevant_images: NDArray[np.bool_]
    fit: dict[Pair, Two]


def embedded(cache: Path, name: str, texts: Sequence[str], images: Sequence[Path]) -> tuple[Vectors, Vectors]:
    """Vectors of texts and pictures by ``mini``, made once."""
    path = cache / f"{name}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        model = load_embedder("mini")
        np.savez(path, texts=model.embed_texts(texts), images=model.embed_images(list(images)))
    with np.load(path) as kept:
        return kept["texts"], kept["images"]


def in_fit(labels: Labels) -> NDArray[np.bool_]:
    """Whether a label is of the half that maps are fitted on: by a checksum of the label."""
    return np.array([zlib.crc32(label.encode()) % 2 == 0 for label in labels.tolist()])


def two(cosines: NDArray[np.float32], same: NDArray[np.bool_], different: NDArray[np.bool_]) -> Two:
    rng = np.random.default_rng(3)
    matched, unmatched = (
        each if len(each) <= MOST else rng.choice(each, MOST, replace=False)
        for each in (cosines[same], cosines[different])
    )
    return np.asarray(matched, np.float64), np.asarray(unmatched, np.float64)


def within(
    vectors: Vectors, labels: Labels, half: NDArray[np.bool_], distinct: Labels | None = None
) -> tuple[Two, Two]:
    """(fit, test) of pairs of one modality: they match by ``labels``; two that are alike in ``distinct`` are left out."""
    found: list[Two] = []
    for mine in (half, ~half):
        upper = np.triu(np.ones((mine.sum(), mine.sum()), bool), 1)
        if distinct is not None:
            upper &= distinct[mine][:, None] != distinct[mine]
        same = labels[mine][:, None] == labels[mine]
        found.append(two(vectors[mine] @ vectors[mine].T, same & upper, ~same & upper))
    return found[0], found[1]


def across(
    a: Vectors, a_labels: Labels, a_half: NDArray[np.bool_], b: Vectors, b_labels: Labels, b_half: NDArray[np.bool_]
) -> tuple[Two, Two]:
    """(fit, test) of pairs of one of ``a`` and one of ``b``."""
    found: list[Two] = []
    for mine, other in ((a_half, b_half), (~a_half, ~b_half)):
        same = a_labels[mine][:, None] == b_labels[other]
        found.append(two(a[mine] @ b[other].T, same, ~same))
    return found[0], found[1]


def fits(samples: Sequence[Sample]) -> dict[Pair, Two]:
    return {sample.pair: sample.fit for sample in samples}


def flickr(data: Path, cache: Path) -> tuple[list[Sample], list[Pool]]:
    """1,000 photographs with five captions each, as the test split lists them."""
    with (data / "flickr8k-test" / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    files = list(dict.fromkeys(row["image"] for row in rows))
    paths = [data / "flickr8k-test" / "images" / name for name in files]
    texts, images = embedded(cache, "flickr", [row["caption"] for row in rows], paths)
    names, of = np.array(files), np.array([row["image"] for row in rows])
    fit_text, fit_image = in_fit(of), in_fit(names)
    name = "Flickr8k"
    # Photographs match where their captions agree: a weak label, by the text model alone.
    grouped = texts[np.argsort(np.array([files.index(each) for each in of]), kind="stable")].reshape(len(files), 5, -1)
    means = grouped.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    agreeing: list[Two] = []
    for i in (fit_image, ~fit_image):
        upper = np.triu(np.ones((i.sum(), i.sum()), bool), 1)
        agree = means[i] @ means[i].T > 0.6
        agreeing.append(two(images[i] @ images[i].T, agree & upper, ~agree & upper))
    samples = [
        Sample(name, "mini", "text-text", "captions of one photograph", *within(texts, of, fit_text)),
        Sample(
            name,
            "mini",
            "text-image",
            "a caption and its photograph",
            *across(texts, of, fit_text, images, names, fit_image),
        ),
        Sample(name, "mini", "image-image", "photographs whose captions agree", agreeing[0], agreeing[1]),
    ]
    rest = ~fit_image
    first, second, pictures = grouped[rest, 0], grouped[rest, 1], images[rest]
    own = np.eye(len(first), dtype=bool)
    # In the second pool every other thing is there as a text only, and the rest as a picture only.
    odd = np.arange(len(first)) % 2 == 1
    return samples, [
        Pool(f"{name}: caption and photograph", "mini", "text", second, first, pictures, own, own, fits(samples)),
        Pool(
            f"{name}: caption or photograph",
            "mini",
            "text",
            second,
            first[odd],
            pictures[~odd],
            own[:, odd],
            own[:, ~odd],
            fits(samples),
        ),
        Pool(
            f"{name}: by photograph", "mini", "image", pictures, first, pictures, own, np.zeros_like(own), fits(samples)
        ),
    ]


def stamps(data: Path, cache: Path) -> tuple[list[Sample], list[Pool]]:
    """538 pictures on white with a short English caption and a category each. Nothing of them was seen in training the picture head."""
    entries = json.loads((data / "stamps" / "stamps.json").read_text("utf-8"))
    captions = [entry["captions"].get("en") or entry["captions"].get("en_GB") or entry["id"] for entry in entries]
    kinds = np.array([entry["category"] for entry in entries])
    known = sorted(set(kinds))
    said = [kind.split("/")[-1].replace("-", " ").replace("_", " ") for kind in known]
    paths = [data / "stamps" / entry["image"] for entry in entries]
    texts, images = embedded(cache, "stamps", [*captions, *said], paths)
    queries, texts = texts[len(captions) :], texts[: len(captions)]
    half, titles, name = in_fit(kinds), np.array(captions), "stamps"
    own: list[Two] = []
    for mine in (half, ~half):
        same = titles[mine][:, None] == titles[mine]
        own.append(two(texts[mine] @ images[mine].T, same, kinds[mine][:, None] != kinds[mine]))
    samples = [
        Sample(name, "mini", "text-text", "captions of one category", *within(texts, kinds, half, titles)),
        Sample(name, "mini", "text-image", "a caption and its picture", own[0], own[1]),
        Sample(name, "mini", "image-image", "pictures of one category", *within(images, kinds, half, titles)),
    ]
    words = np.array(known)
    asked = in_fit(words)
    relevant = words[~asked][:, None] == kinds[~half]
    fit: dict[Pair, Two] = {
        "text-text": across(queries, words, asked, texts, kinds, half)[0],
        "text-image": across(queries, words, asked, images, kinds, half)[0],
    }
    return samples, [
        Pool(
            f"{name}: by category",
            "mini",
            "text",
            queries[~asked],
            texts[~half],
            images[~half],
            relevant,
            relevant,
            fit,
        ),
    ]


def banking(data: Path, cache: Path) -> tuple[list[Sample], list[Pool]]:
    """Every third question of BANKING77's test set; two of one intent match."""
    with (data / "support" / "banking77_test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::3]
    texts, _ = embedded(cache, "banking", [row["text"] for row in rows], [])
    intents = np.array([row["category"] for row in rows])
    return [
        Sample("BANKING77", "mini", "text-text", "questions of one intent", *within(texts, intents, in_fit(intents)))
    ], []


def products(data: Path, models: Path) -> tuple[list[str], list[str], Labels]:
    """(files, names, article types) of the 2,000 thumbnails, in the order of CLIP's vectors."""
    with (data / "fashion" / "styles.csv").open(encoding="utf-8", newline="") as file:
        styles = {row["id"]: row for row in csv.DictReader(file)}
    files = json.loads((models / "clip-vit-b32-vectors" / "clip_vitb32_image_files.json").read_text("utf-8"))
    mine = [styles[name.removesuffix(".jpg")] for name in files]
    return files, [row["productDisplayName"] for row in mine], np.array([row["articleType"] for row in mine])


def fashion(data: Path, cache: Path, models: Path) -> tuple[list[Sample], list[Pool]]:
    """2,000 thumbnails of products with their names, by article type."""
    files, titles, types = products(data, models)
    known = sorted(set(types))
    texts, images = embedded(
        cache, "fashion", [*titles, *known], [data / "fashion" / "images" / each for each in files]
    )
    queries, texts = texts[len(titles) :], texts[: len(titles)]
    half, words, name = in_fit(types), np.array(known), "fashion"
    asked = in_fit(words)
    samples = [
        Sample(
            name,
            "mini",
            "text-text",
            "an article type and its names",
            *across(queries, words, asked, texts, types, half),
        ),
        Sample(
            name,
            "mini",
            "text-image",
            "an article type and its thumbnails",
            *across(queries, words, asked, images, types, half),
        ),
        Sample(name, "mini", "image-image", "thumbnails of one article type", *within(images, types, half)),
    ]
    # Half of the products are there by name, the other half as a picture.
    odd = np.arange(len(types)) % 2 == 1
    rest, often = ~half, np.isin(np.array(known), [kind for kind in known if (types == kind).sum() >= 10])
    wanted = np.array(known)[~asked & often]
    relevant = wanted[:, None] == types
    return samples, [
        Pool(
            f"{name}: by article type",
            "mini",
            "text",
            queries[~asked & often],
            texts[rest & odd],
            images[rest & ~odd],
            relevant[:, rest & odd],
            relevant[:, rest & ~odd],
            fits(samples),
        ),
    ]


def clip(data: Path, models: Path) -> tuple[list[Sample], list[Pool]]:
    """CLIP ViT-B/32: class names as "a NAME", each name once, and the thumbnails."""
    folder = models / "clip-vit-b32-vectors"
    names = [plain(each["name"]) for each in json.loads((folder / "clip_vitb32_text_names.json").read_text("utf-8"))]
    _, once = np.unique(np.array(names), return_index=True)
    once.sort()
    with np.load(folder / "clip_vitb32_text_vectors.npz") as kept:
        texts = unit(kept["vectors"][once])
    with np.load(folder / "clip_vitb32_image_vectors_fashion2000.npz") as kept:
        images = unit(kept["vectors"])
    types = products(data, models)[2]
    names = [names[place] for place in once]
    synonyms = {name: f"= {group}" for group in SYNONYMS.replace("\n", "|").split("|") for name in group.split("/")}
    meaning = np.array([synonyms.get(name, name) for name in names])
    concepts: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for line in CONCEPTS.strip().replace("\n", "|").split("|"):
        said, kept_types = line.split(": ")
        concepts |= dict.fromkeys(said.split(", "), line)
        kinds |= dict.fromkeys(kept_types.split(", "), line)
    text_labels = np.array([concepts.get(name, name) for name in names])
    image_labels = np.array([kinds.get(kind, kind) for kind in types])
    fit_text, fit_image = in_fit(text_labels), in_fit(image_labels)
    name, model = "class names, thumbnails", "clip"
    samples = [
        Sample(name, model, "text-text", "class names of one meaning", *within(texts, meaning, in_fit(meaning))),
        Sample(
            name,
            model,
            "text-image",
            "a class name and its thumbnails",
            *across(texts, text_labels, fit_text, images, image_labels, fit_image),
        ),
        Sample(name, model, "image-image", "thumbnails of one article type", *within(images, types, in_fit(types))),
    ]
    asked = np.flatnonzero(~fit_text & np.isin(text_labels, image_labels))
    rest = ~fit_image
    pictures = np.flatnonzero(rest & np.isin(image_labels, text_labels))[::4]
    others = np.ones(len(texts), bool)
    by_name = Pool(
        f"{name}: by name",
        model,
        "text",
        texts[asked],
        texts,
        images[rest],
        (text_labels[asked][:, None] == text_labels) & (asked[:, None] != np.arange(len(texts))),
        text_labels[asked][:, None] == image_labels[rest],
        fits(samples),
    )
    return samples, [
        by_name,
        Pool(
            f"{name}: by picture",
            model,
            "image",
            images[pictures],
            texts[others],
            images[rest],
            image_labels[pictures][:, None] == text_labels,
            (image_labels[pictures][:, None] == image_labels[rest]) & (pictures[:, None] != np.flatnonzero(rest)),
            fits(samples),
        ),
    ]


def plain(name: str) -> str:
    """A class name without case, underscores, hyphens and what stands in brackets."""
    return re.sub(r"\s*\(.*?\)", "", name.lower().replace("_", " ").replace("-", " ")).strip()


def unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

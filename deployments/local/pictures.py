"""The demo's small DAM: real photographs and edited copies of them, made on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

#: Photographs that come with scikit-image (see its data/README.txt for their licences and authors).
_PHOTOS = {
    "people": ["astronaut", "camera"],
    "animals": ["chelsea"],
    "food": ["coffee"],
    "vehicles": ["motorcycle_left", "motorcycle_right", "rocket"],
    "science": ["hubble_deep_field", "ihc", "moon", "retina", "cell"],
    "objects": ["coins", "clock_motion"],
    "textures": ["brick", "grass", "gravel"],
    "documents": ["page", "text"],
}
_AGENCIES = ("north", "south", "west")


@dataclass(frozen=True, slots=True)
class Upload:
    """One object to put into the bucket."""

    key: str
    body: bytes = field(repr=False)
    content_type: str = "image/jpeg"
    tags: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def demo_uploads() -> Iterator[Upload]:
    """About 150 assets: each photograph with seven copies, and other files of a real bucket."""
    for label, names in _PHOTOS.items():
        for number, name in enumerate(names):
            image = _photo(name)
            for copy, (where, make) in enumerate(_COPIES.items()):
                yield _upload(
                    where.format(label=label, name=name), make(image), label, number + copy
                )
    yield from _oddities()


def later_uploads() -> Iterator[Upload]:
    """Five assets that come after the first scan: four copies and one new picture."""
    again: tuple[tuple[str, str, Callable[[Image.Image], bytes]], ...] = (
        ("chelsea", "animals", lambda image: _jpeg(_half(image), 80)),
        ("coffee", "food", lambda image: _jpeg(_logo(image))),
        ("rocket", "vehicles", lambda image: _jpeg(image, 45)),
        ("coins", "objects", _png),
    )
    for name, label, make in again:
        yield _upload(f"inbox/{name}-again.jpg", make(_photo(name)), label, 1)
    yield _upload("inbox/new-picture.jpg", _jpeg(_photo("logo").resize((500, 500))), "brands", 0)


def folder_uploads(folder: Path) -> Iterator[Upload]:
    """The files of a folder of the user's own."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            key = path.relative_to(folder).as_posix()
            yield Upload(key, path.read_bytes(), "application/octet-stream")


def _upload(key: str, body: bytes, label: str, number: int) -> Upload:
    kind = "image/png" if body.startswith(b"\x89PNG") else "image/jpeg"
    return Upload(
        key,
        body,
        kind,
        {"label": label, "agency": _AGENCIES[number % 3], "project": f"p{number % 5}"},
        {"uploader": f"user{number % 4}", "licence": "demo"},
    )


def _photo(name: str) -> Image.Image:
    import skimage

    folder = Path(str(skimage.__file__)).parent / "data"
    path = next(p for p in (folder / f"{name}.png", folder / f"{name}.jpg") if p.exists())
    with Image.open(path) as image:
        return image.convert("RGB")


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def _crop(image: Image.Image) -> Image.Image:
    dx, dy = image.width // 20, image.height // 20
    return image.crop((dx, dy, image.width - dx, image.height - dy))


def _logo(image: Image.Image) -> Image.Image:
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    width, height = image.size
    box = (int(width * 0.7), int(height * 0.86), int(width * 0.97), int(height * 0.96))
    draw.rectangle(box, fill=(190, 30, 40))
    draw.text((box[0] + 6, box[1] + 4), "AGENCY", fill="white")
    return marked


_COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "masters/{label}/{name}.png": _png,
    "web/{label}/{name}.jpg": lambda image: _jpeg(image, 70),
    "web/{label}/{name} (1).jpg": lambda image: _jpeg(image, 70),
    "thumbs/{name}+small.jpg": lambda image: _jpeg(_half(image), 85),
    "agency/{name} 100% final.jpg": lambda image: _jpeg(_logo(image)),
    "social/{name}_crop.jpg": lambda image: _jpeg(_crop(image)),
    "social/{name}_bright.jpg": lambda image: _jpeg(ImageEnhance.Brightness(image).enhance(1.2)),
}


def _oddities() -> Iterator[Upload]:
    """Files that every real bucket holds besides pictures; none of them may stop a scan."""
    yield Upload("archive/", b"", "application/x-directory")
    yield Upload("web/empty.jpg", b"")
    yield Upload("web/not-really.jpg", b"This is a letter, not a picture.\n")
    yield Upload("web/cut-off.jpg", _jpeg(_photo("coffee"))[:9000])
    yield Upload("documents/brochure.pdf", b"%PDF-1.7\n%demo\n", "application/pdf")
    yield Upload("masters/people/astronaut.xmp", _SIDECAR.encode(), "application/rdf+xml")
    yield Upload("übersicht/Straße ☂ naïve.jpg", _jpeg(_photo("moon"), 60))


_SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"><rdf:Description
 xmpMM:OriginalDocumentID="xmp.did:demo-astronaut"><dc:title><rdf:Alt><rdf:li>An astronaut</rdf:li>
</rdf:Alt></dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"""

"""Analyze: everything a check or an update needs to know of an image, once.

An analysis travels as a JSON document, so that an image that was analysed where it came in is not
sent again. A document says in which space and by which reader it was made, and carries a seal: an
HMAC-SHA256 under the key of :mod:`tasks.intake.seal`. A sealed document proves that we analysed
some bytes once, and nothing about any object: what an object shows is read from the object.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tasks.embedding.base import Embedder
from tasks.embedding.decoder import DecoderPool
from tasks.embedding.images import READER_VERSION
from tasks.embedding.sniff import PILLOW_FORMATS
from tasks.errors import AnalysisError, ImageError
from tasks.intake.seal import sealing_key
from tasks.queries.readings import NO_PIXELS
from tasks.records import THUMBNAIL_SIDE, Analysis, Picture, Space
from tasks.session import open_embedder
from tasks.settings import Settings

#: The version of the document's form.
VERSION = 1
#: The largest thumbnail and the largest text in a document: far above what a JPEG of 384 px, or the
#: metadata that a reading keeps, ever takes.
_THUMBNAIL_BYTES = 1024**2
_TEXT_BYTES = 256 * 1024
_MOST_FLAGS = 16
#: By how much the length of a unit vector may differ from 1 after rounding to float16.
_LENGTH_ERROR = 0.02
_HEX = {
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "content": re.compile(r"[0-9a-f]{32}"),
    "phash": re.compile(r"[0-9a-f]{16}"),
}


class Analyzer:
    """Bytes to analyses; a context manager that many threads may share.

    The model and the decoder processes are started at the first use, once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._model = threading.Lock()
        self._embedder: Embedder | None = None
        self._pool: DecoderPool | None = None

    @property
    def space(self) -> Space:
        """Where the vectors live; loads the model.

        Raises:
            ModelError: when it cannot be loaded.
        """
        return self._open()[0].space

    def analyze(self, files: Sequence[bytes]) -> list[Analysis | ImageError]:
        """Analyse images; the model runs once over all of them.

        Returns:
            For each file its analysis, or why it has none.
        """
        embedder, pool = self._open()
        with ThreadPoolExecutor(min(pool.workers, len(files)) or 1, "analyze") as threads:
            pictures = list(threads.map(lambda data: self._decode(pool, data), files))
        good = [picture for picture in pictures if isinstance(picture, Picture)]
        vectors = self._embed(embedder, [picture.pixels for picture in good])
        return [
            picture
            if isinstance(picture, ImageError)
            else _analysis(picture, next(vectors), embedder.space, data)
            for picture, data in zip(pictures, files, strict=True)
        ]

    def render(self, data: bytes, side: int) -> bytes:
        """A file as a JPEG of at most so many pixels a side, made by a decoder process.

        Raises:
            ImageError: with the reason.
        """
        return self._open()[1].render(data, side)

    def __enter__(self) -> Analyzer:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
            self._embedder = None
        if pool is not None:
            pool.__exit__()

    def _open(self) -> tuple[Embedder, DecoderPool]:
        with self._lock:
            if self._embedder is None or self._pool is None:
                self._embedder = open_embedder(self._settings)
                self._pool = DecoderPool(
                    self._settings.limits, self._embedder.side, self._settings.embedding.decoders
                )
            return self._embedder, self._pool

    def _decode(self, pool: DecoderPool, data: bytes) -> Picture | ImageError:
        limit = self._settings.limits.bytes
        if len(data) > limit:
            text = f"{len(data)} bytes; raise DAM_DEDUP_LIMITS__BYTES"
            return ImageError("too_many_bytes", text)
        try:
            return pool.decode(data)
        except ImageError as error:
            return error

    def _embed(
        self, embedder: Embedder, pixels: list[npt.NDArray[np.uint8]]
    ) -> Iterator[npt.NDArray[np.float32]]:
        size = self._settings.embedding.batch_size
        for start in range(0, len(pixels), size):
            with self._model:  # one run at a time: two would only share the same cores
                vectors = embedder.embed(np.stack(pixels[start : start + size]))
            yield from vectors


def _analysis(
    picture: Picture, vector: npt.NDArray[np.float32], space: Space, data: bytes
) -> Analysis | ImageError:
    if not np.isfinite(vector).all():
        return ImageError(
            "no_vector", "the model gives no vector for it; another DAM_DEDUP_EMBEDDING__DTYPE may"
        )
    shown = replace(picture, pixels=NO_PIXELS)
    return Analysis(shown, vector.astype(np.float16), space, len(data), data)


# ---- as a document ---------------------------------------------------------------------------


def analysis_json(analysis: Analysis, settings: Settings) -> dict[str, Any]:
    """An analysis as a sealed JSON document of texts, whole numbers, lists and objects.

    The perceptual hash is written in hex, because many JSON libraries round 64-bit numbers.
    """
    picture, space = analysis.picture, analysis.space
    document: dict[str, Any] = {
        "version": VERSION,
        "reader": READER_VERSION,
        "space": {
            "model": space.model,
            "revision": space.revision,
            "preprocessing": space.preprocessing,
            "dim": space.dim,
        },
        "size": analysis.size,
        "picture": {
            "sha256": picture.sha256,
            "content": picture.content,
            "phash": f"{picture.phash:016x}",
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            "format": picture.format,
            "quality": picture.quality,
            "flags": list(picture.flags),
            "exif": picture.exif,
            "xmp": picture.xmp,
        },
        "thumbnail": base64.b64encode(picture.thumbnail).decode(),
        "vector": base64.b64encode(analysis.vector.astype("<f2").tobytes()).decode(),
    }
    return document | {"seal": _seal(document, settings)}


def read_analysis(document: Any, settings: Settings, space: Space) -> Analysis:
    """The analysis in a document, which is hostile until its seal and every value are checked.

    Args:
        document: as :func:`analysis_json` made it, and whoever kept it since.
        settings: with the secret of the seal, if there is one.
        space: the only one whose vectors can be compared here.

    Raises:
        AnalysisError: when it is of another space, was changed, is damaged, or is none at all.
    """
    if not isinstance(document, dict):
        raise AnalysisError(f"an analysis is a JSON object, not a {type(document).__name__}")
    if document.get("version") != VERSION:
        raise AnalysisError(
            f"an analysis of version {document.get('version')!r:.40}; this program reads version "
            f"{VERSION}. Analyse the image again"
        )
    _check_seal(document, settings)
    try:
        found = Space(**document["space"])
        reader = document["reader"]
    except (KeyError, TypeError) as error:
        raise AnalysisError(f"the analysis is incomplete: {error}"[:200]) from None
    if found != space or reader != READER_VERSION:
        raise AnalysisError(
            f"the analysis is of another space: {_named(found)}, reader {reader!r:.20}; here it is "
            f"{_named(space)}, reader {READER_VERSION}. Analyse the image again"
        )
    try:
        return _read(document, settings, space)
    except (KeyError, TypeError, ValueError) as error:
        raise AnalysisError(f"the analysis is damaged: {error}"[:300]) from None


def _seal(document: dict[str, Any], settings: Settings) -> str:
    body = {name: value for name, value in document.items() if name != "seal"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    text = f"dam-dedup analysis {VERSION}\n".encode() + text
    return "hmac:" + hmac.new(sealing_key(settings), text, "sha256").hexdigest()


def _check_seal(document: dict[str, Any], settings: Settings) -> None:
    try:
        expected = _seal(document, settings)
    except (TypeError, ValueError, RecursionError):
        raise AnalysisError("the analysis is damaged: it holds what no analysis holds") from None
    given = document.get("seal")
    if isinstance(given, str) and hmac.compare_digest(
        given.encode("utf-8", "replace"), expected.encode()
    ):
        return
    raise AnalysisError(
        "the analysis was changed after it was made, or sealed with another secret "
        "(DAM_DEDUP_GATE__SECRET, or the key kept beside the catalog); analyse the image again"
    )


def _read(document: dict[str, Any], settings: Settings, space: Space) -> Analysis:
    given = document["picture"]
    if not isinstance(given, dict):
        raise TypeError("picture is no object")
    for name, pattern in _HEX.items():
        if not isinstance(given[name], str) or not pattern.fullmatch(given[name]):
            raise ValueError(f"{name} is no digest")
    if given["format"] not in PILLOW_FORMATS:
        raise ValueError("format is none that is read")
    limits = settings.limits
    width, height = (_whole(given[name], name, limits.side) for name in ("width", "height"))
    quality = given["quality"]
    picture = Picture(
        sha256=given["sha256"],
        content=given["content"],
        phash=int(given["phash"], 16),
        width=width,
        height=height,
        mode=_text(given["mode"], "mode"),
        format=given["format"],
        thumbnail=_thumbnail(document["thumbnail"]),
        pixels=NO_PIXELS,
        quality=None if quality is None else _whole(quality, "quality", 100),
        flags=_flags(given["flags"]),
        exif=_texts(given["exif"], "exif"),
        xmp=_texts(given["xmp"], "xmp"),
    )
    size = _whole(document["size"], "size", limits.bytes)
    return Analysis(picture, _vector(document["vector"], space), space, size)


def _bytes(text: Any, name: str, most: int) -> bytes:
    if not isinstance(text, str) or len(text) > most * 4 // 3 + 4:
        raise ValueError(f"{name} is no base64 text, or too long")
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"{name} is no base64 text") from None


def _thumbnail(text: Any) -> bytes:
    """A JPEG thumbnail, checked for its size, since this process decodes its pixels later."""
    jpeg = _bytes(text, "thumbnail", _THUMBNAIL_BYTES)
    size = (0, 0)
    with suppress(Exception), Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        size = image.size
    if not 1 <= max(size) <= THUMBNAIL_SIDE:
        raise ValueError(f"the thumbnail is no JPEG of at most {THUMBNAIL_SIDE} pixels")
    return jpeg


def _vector(text: Any, space: Space) -> npt.NDArray[np.float16]:
    data = _bytes(text, "vector", space.dim * 2)
    if len(data) != space.dim * 2:
        raise ValueError(f"the vector has not {space.dim} dimensions")
    vector = np.frombuffer(data, "<f2").astype(np.float16)
    length = float(np.linalg.norm(vector.astype(np.float32)))
    if not abs(length - 1) <= _LENGTH_ERROR:  # NaN as well
        raise ValueError("the vector is not of unit length")
    return vector


def _whole(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"{name} is no number from 1 to {most}")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_BYTES or "\x00" in value:
        raise ValueError(f"{name} is no text, or too long")
    value.encode()  # lone surrogates raise, as a ValueError
    return value


def _texts(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or len(json.dumps(value)) > _TEXT_BYTES:
        raise ValueError(f"{name} is no object, or too long")
    return {_text(key, name): _text(inner, name) for key, inner in value.items()}


def _flags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_FLAGS:
        raise ValueError("flags is no list")
    return tuple(_text(flag, "flags")[:40] for flag in value)


def _named(space: Space) -> str:
    return f"{str(space.model)[:80]} ({str(space.revision)[:12]}, {str(space.preprocessing)[:80]})"

"""Formats by their first bytes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tasks.embedding.sniff import PILLOW_FORMATS, sniff


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("JPEG", "jpeg"),
        ("PNG", "png"),
        ("GIF", "gif"),
        ("WEBP", "webp"),
        ("TIFF", "tiff"),
        ("BMP", "bmp"),
        ("AVIF", "avif"),
        ("HEIF", "heif"),
        ("JPEG2000", "jpeg2000"),
    ],
)
def test_what_pillow_writes_is_named(encode, scene, kind, name):
    data = encode(scene, kind)
    assert sniff(data[:512]) == name
    assert name in PILLOW_FORMATS


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"8BPS\0\1" + bytes(20), "psd"),
        (b"\xff\x4f\xff\x51\0\x29", "jpeg2000"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"MM\0*\0\0\0\x08", "tiff"),
        (b"II*\0\x10\0\0\0CR\2\0", "raw"),
        (b"IIU\0\x18\0\0\0", "raw"),
        (b"FUJIFILMCCD-RAW 0201", "raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mp41", "video"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "avif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\xff\x0a\xfa", "jxl"),
        (b"8BPS\0\2" + bytes(20), "psb"),
        (b"v/1\x01\2\0\0\0", "exr"),
        (b"gimp xcf v011", "xcf"),
        (bytes(128) + b"DICM", "dicom"),
        (bytes.fromhex("0606edf5d81d46e5bd31efe7fe74b71d") + b"DOCUMENT", "indd"),
        (b"FOVb\1\0", "raw"),
        (b"Paint Shop Pro Image File\n\x1a", "psp"),
        (b"\0\0\2\0\1\0", "ico"),
        (b"\0\xffKA\x0b", "affinity"),
        (b"AT&TFORM\0\0", "djvu"),
        (b"\0\0\2" + bytes(15), None),
        (b"\x0a\5\1\x08", "pcx"),
        (b"P6 640 480 255", "pnm"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"%PDF-1.7", "pdf"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "eps"),
        (b"\xc5\xd0\xd3\xc6", "eps"),
        (b"<svg xmlns='x'>", "svg"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- x --><SVG>", "svg"),
        (b"<?xml version='1.0'?><html>", None),
        (b"<html><svg></html>", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"GIF88a", None),
        (b"", None),
        (b"\0", None),
        (b"\0\0\0\0ftyp", "video"),
    ],
)
def test_heads(head, name):
    assert sniff(head) == name


def test_every_prefix_of_every_format_is_survived(encode, scene):
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        data = encode(scene, kind)
        answers = {sniff(data[:end]) for end in range(40)}
        assert None in answers, "an empty head names nothing"
        assert {kind.lower()} <= answers


def test_what_executes_or_fetches_is_never_read():
    assert not {"svg", "pdf", "eps", "raw", "jxl", "video"} & set(PILLOW_FORMATS)
    opened = {plugin for plugins in PILLOW_FORMATS.values() for plugin in plugins}
    Image.init()
    assert not {"EPS", "PDF", "BLP", "FITS", "WMF", "FPX"} & opened


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("packed", [None, "tga_rle"])
def test_a_tga_is_named_though_it_has_no_signature(encode, scene, mode, packed):
    image = scene.quantize(16) if mode == "P" else scene.convert(mode)
    assert sniff(encode(image, "TGA", compression=packed)[:512]) == "tga"


@pytest.mark.parametrize("kind", ["PCX", "SGI", "DDS", "ICO", "PPM"])
def test_other_formats_that_pillow_writes_are_named_and_not_read(encode, scene, kind):
    name = sniff(encode(scene, kind)[:512])
    assert name
    assert name not in PILLOW_FORMATS


def test_other_bytes_are_no_tga():
    random = np.random.default_rng(1)
    heads = random.integers(0, 256, (20_000, 32), dtype=np.uint8)
    heads[:, :3] = 0, 0, 2  # as a TGA begins
    assert not {sniff(head.tobytes()) for head in heads} & {"tga"}

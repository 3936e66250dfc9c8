"""Image formats by content: what the first bytes say, never the name.

The list is an allow-list. Formats that run programs or fetch things when opened (EPS through
Ghostscript, SVG, PDF) and obscure ones whose decoders are attack surface are recognised, to be
named in the report, and skipped. Signatures: Wikipedia, "List of file signatures"; the ISO base
media file format brands of HEIF and AVIF.
"""

from __future__ import annotations

#: Formats that are read, as the catalog names them, and the Pillow plug-ins that may open them.
PILLOW_FORMATS: dict[str, tuple[str, ...]] = {
    "jpeg": ("JPEG", "MPO"),
    "png": ("PNG",),
    "gif": ("GIF",),
    "webp": ("WEBP",),
    "tiff": ("TIFF",),
    "bmp": ("BMP",),
    "avif": ("AVIF",),
    "heif": ("HEIF",),
    "jpeg2000": ("JPEG2000",),
    "psd": ("PSD",),
}

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_RAW_BRANDS = {b"crx "}


def sniff(head: bytes) -> str | None:
    """The format of an object by its first bytes.

    Returns:
        A key of :data:`PILLOW_FORMATS`; the name of a format that is known and not read, such as
        ``"svg"``, ``"pdf"``, ``"raw"``, ``"psb"``, ``"indd"`` or ``"video"``; None for anything
        else.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"CDRv", b"CDR9"):
        return "video" if head[8:12] == b"AVI " else "cdr"
    if head[128:132] == b"DICM":
        return "dicom"
    if head[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7") and head[2:3].isspace():
        return "pnm"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "raw" if head[8:10] == b"CR" else "tiff"
    if head[4:8] == b"ftyp":
        return _brand(head)
    if _is_tga(head):
        return "tga"
    if head[:4] == b"\0\0\x02\0" and any(head[4:6]):  # a cursor, and how many
        return "ico"
    if head[:2] in (b"\x0a\x02", b"\x0a\x03", b"\x0a\x05") and head[2:3] == b"\x01":
        return "pcx"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if start.startswith((b"<svg", b"<?xml")) and (b"<svg" in head.lower()):
        return "svg"
    return None


_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"8BPS\x00\x01", "psd"),
    (b"%PDF", "pdf"),
    (b"%!PS", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"IIRO", "raw"),
    (b"IIU\0", "raw"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"FOVb", "raw"),  # Sigma X3F
    (b"\0MRM", "raw"),  # Minolta MRW
    (b"II\x1a\0\0\0HEAPCCDR", "raw"),  # Canon CRW
    (b"8BPS\x00\x02", "psb"),
    (b"\x06\x06\xed\xf5\xd8\x1d\x46\xe5\xbd\x31\xef\xe7\xfe\x74\xb7\x1d", "indd"),
    (b"v/1\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"gimp xcf", "xcf"),
    (b"SIMPLE  =", "fits"),
    (b"SDPX", "dpx"),
    (b"XPDS", "dpx"),
    (b"\x80\x2a\x5f\xd7", "cineon"),
    (b"II\xbc\x01", "jpeg_xr"),
    (b"BPG\xfb", "bpg"),
    (b"qoif", "qoi"),
    (b"FLIF", "flif"),
    (b"DDS ", "dds"),
    (b"icns", "icns"),
    (b"\0\0\x01\0", "ico"),
    (b"\xd7\xcd\xc6\x9a", "wmf"),
    (b"AC10", "dwg"),
    (b"\x1aE\xdf\xa3", "video"),  # Matroska, WebM
    (b"\x01\xda", "sgi"),
    (b"\x59\xa6\x6a\x95", "sun_raster"),
    (b"Paint Shop Pro Image File", "psp"),
    (b"\0\xffKA", "affinity"),
    (b"CSFCHUNK", "clip_studio"),
    (b"AT&TFORM", "djvu"),
    (b"NITF", "nitf"),
    (b"\x8aMNG\r\n\x1a\n", "mng"),
    (b"\x8bJNG\r\n\x1a\n", "jng"),
    (b"farbfeld", "farbfeld"),
    (b"\x13\xab\xa1\x5c", "astc"),
    (b"\xabKTX ", "ktx"),
    (b"\x01\0\0\0\x58\0\0\0", "emf"),
    (b"\xff\x0a", "jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
)


def _is_tga(head: bytes) -> bool:
    """Whether the 18 bytes of a TGA's header fit together, for it has no signature.

    Truevision, "TGA File Format Specification", 2.0, 1991: kind, palette, size, depth and the bits
    of the descriptor. Of a picture without a palette the five bytes of the palette are 0.
    """
    if len(head) < 18:
        return False
    palette, kind, depth, descriptor = head[1], head[2], head[16], head[17]
    entries, entry = int.from_bytes(head[5:7], "little"), head[7]
    depths = {1: (8, 16), 9: (8, 16), 2: (15, 16, 24, 32), 10: (15, 16, 24, 32), 3: (8, 16)}
    if depth not in depths.get(kind, (8, 16) if kind == 11 else ()) or not (
        head[12:14].strip(b"\0")
    ):
        return False
    if descriptor & 0xC0 or (descriptor & 15) not in (0, 1, 8) or not head[14:16].strip(b"\0"):
        return False
    if palette == 0:
        return kind not in (1, 9) and not any(head[3:8])
    return palette == 1 and 0 < entries <= 65535 and entry in (15, 16, 24, 32)


def _brand(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head), 256), 4)}
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIF_BRANDS:
        return "heif"
    return "raw" if brands & _RAW_BRANDS else "video"

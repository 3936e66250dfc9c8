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
        else. A file without a signature of its own (TGA) is anything else.
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
    (b"\xff\x0a", "jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
)


def _brand(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head), 256), 4)}
    if brands & _AVIF_BRANDS:
        return "avif"
    if brands & _HEIF_BRANDS:
        return "heif"
    return "raw" if brands & _RAW_BRANDS else "video"

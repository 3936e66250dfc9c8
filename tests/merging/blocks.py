"""Real metadata blocks for drawn pictures: EXIF, IPTC-IIM, XMP and comments."""

from __future__ import annotations

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

REGIONS = (
    "<lr:hierarchicalSubject><rdf:Bag><rdf:li>Places|Hamburg</rdf:li></rdf:Bag>"
    '</lr:hierarchicalSubject><mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList>'
    '<rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="Person A" mwg-rs:Type="Face">'
    '<mwg-rs:Area stArea:x="0.5" stArea:y="0.4" stArea:w="0.1" stArea:h="0.1"/>'
    "</rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
)


def packet(attributes: str = "", inside: str = "") -> bytes:
    """An XMP packet as an editor writes it."""
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
 xmlns:lr="http://ns.adobe.com/lightroom/1.0/" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#"
 xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()


def exif_of(*, full: bool = False, **texts: str) -> Image.Exif:
    """EXIF with some texts of the first directory; with ``full`` of every directory."""
    found = Image.Exif()
    for name, text in texts.items():
        found[ExifTags.Base[name]] = text
    if not full:
        return found
    base, gps = ExifTags.Base, ExifTags.GPS
    found[base.Copyright] = "(c) Studio"
    found[base.Artist] = "Kim Adler"
    found[base.ImageDescription] = "Opening of the hall"
    found[base.Make], found[base.Model] = "NIKON", "Z 9"
    inner = found.get_ifd(ExifTags.IFD.Exif)
    inner[base.DateTimeOriginal] = "2026:03:03 10:11:12"
    inner[base.OffsetTimeOriginal], inner[0x9291] = "+01:00", "50"
    inner[base.LensModel] = "NIKKOR 85mm"
    inner[base.ExposureTime] = IFDRational(1, 250)
    inner[base.ISOSpeedRatings] = 400
    inner[base.Flash] = 0x19
    inner[base.UserComment] = b"ASCII\0\0\0near the gate"
    inner[base.MakerNote] = b"Nikon\0\x02\x10\0"
    place = found.get_ifd(ExifTags.IFD.GPSInfo)
    place[gps.GPSLatitudeRef], place[gps.GPSLatitude] = "S", (53.0, 33.0, 7.2)
    place[gps.GPSLongitudeRef], place[gps.GPSLongitude] = "E", (9.0, 59.0, 36.0)
    place[gps.GPSAltitude] = 8.5
    return found


def with_iptc(jpeg: bytes) -> bytes:
    """A JPEG with IPTC-IIM keywords, caption, city, date, copyright, and a contact."""
    body = b"\x1c\x01\x5a\0\x03\x1b%G"
    for number, text in (
        (25, "harbour"),
        (25, "2026"),
        (55, "20260303"),
        (60, "101112+0100"),
        (90, "Kiel"),
        (116, "(c) Norda"),
        (118, "desk@example.com"),
        (120, "The mayor opens the hall"),
    ):
        data = text.encode()
        body += b"\x1c\x02" + bytes([number]) + len(data).to_bytes(2, "big") + data
    body += b"\0" * (len(body) % 2)
    part = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(body).to_bytes(4, "big") + body
    return jpeg[:2] + b"\xff\xed" + (len(part) + 2).to_bytes(2, "big") + part + jpeg[2:]


def jpeg_comment(jpeg: bytes, text: str) -> bytes:
    """A JPEG with a comment."""
    data = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(data) + 2).to_bytes(2, "big") + data + jpeg[2:]

"""What lies in quarantine is no asset, and what belongs to another file does not leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.errors import SourceError
from tasks.intake.update import read_object
from tasks.merging.quarantine import list_quarantine
from tasks.session import open_source
from tasks.sources.places import PLACES_KEY, note_places, read_places
from tests.conftest import first_of
from tests.merging.conftest import other_catalog, png

POLICY = """
version: 1
name: places
minimum_age_hours: 0
caps: {share: 1.0}
quarantine: {prefix: %s}
rules:
  - {name: all, keeper: [{prefix: [k/]}, oldest], action: quarantine}
"""
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Exposure2012="+1.2"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


@pytest.mark.long
@pytest.mark.parametrize("prefix", first_of("trash/", ".dam-dedup/quarantine/"))
def test_what_was_merged_is_not_merged_again(make_site: Any, tmp_path: Path, prefix: str) -> None:
    """Of a custom prefix the copies were scanned as assets, and became the last of their kind."""
    site = make_site("plain")
    site.put("k/a.png", png(1), ContentType="image/png")
    site.put("d/a.png", png(1), ContentType="image/png")
    site.put("trash/own.png", png(2), ContentType="image/png")
    before = site.snapshot()
    site.list()
    first = site.plan(policy=POLICY % prefix)
    site.approve(first)
    assert site.merge(first).complete
    (entry,) = list_quarantine(site.settings)
    for where, policy in (
        (site, prefix),
        (site, "elsewhere/"),  # the policy names another place by now
        (other_catalog(site, tmp_path / "other"), prefix),  # which knows nothing of the merge
    ):
        where.list()
        assert where.plan(policy=POLICY % policy).groups == ()
    place = open_source(f"s3://{site.bucket}", site.settings)
    with pytest.raises(SourceError, match="quarantine"):
        read_object(site.settings, place, entry.at)
    # The keeper is taken down by people, and the picture comes again: it is alone.
    site.s3.client.delete_object(Bucket=site.bucket, Key="k/a.png")
    site.put("new/a.png", png(1), ContentType="image/png")
    site.list()
    assert site.plan(policy=POLICY % prefix).groups == ()
    site.put("k/a.png", png(1), ContentType="image/png")
    site.s3.client.delete_object(Bucket=site.bucket, Key="new/a.png")
    site.undo(first.id)
    assert site.snapshot().keys() - {PLACES_KEY} == before.keys()


def test_the_list_of_places_grows_and_is_written_once(make_site: Any) -> None:
    site = make_site("plain")
    client, bucket = site.s3.client, site.bucket
    assert read_places(client, bucket) == ()
    note_places(client, bucket, [".dam-dedup/quarantine/1/"])
    assert read_places(client, bucket) == (), "that is excluded anyway"
    note_places(client, bucket, ["b/2/", "a/1/"])
    etag = client.head_object(Bucket=bucket, Key=PLACES_KEY)["ETag"]
    note_places(client, bucket, ["a/1/"])
    assert client.head_object(Bucket=bucket, Key=PLACES_KEY)["ETag"] == etag
    note_places(client, bucket, ["c/"])
    assert read_places(client, bucket) == ("a/1/", "b/2/", "c/")


def test_the_sidecar_of_a_raw_file_that_no_scan_looks_at_stays(make_site: Any) -> None:
    site = make_site("plain")
    source = site.settings.source.model_copy(update={"exclude": ["*.cr2"]})
    site.settings = site.settings.model_copy(update={"source": source})
    site.put("k/a.png", png(1), ContentType="image/png")
    for name in ("IMG_1", "IMG_2"):
        site.put(f"d/{name}.png", png(1), ContentType="image/png")
        site.put(f"d/{name}.xmp", XMP, ContentType="application/rdf+xml")
    site.put("d/IMG_1.cr2", b"II*\0\x10\0\0\0CR\2\0raw")
    site.list()
    plan = site.plan(policy=POLICY % ".dam-dedup/quarantine/")
    site.approve(plan)
    assert site.merge(plan).complete
    live = site.keys()
    left = {key for key in live if key.startswith("d/")}
    assert left == {"d/IMG_1.cr2", "d/IMG_1.xmp"}

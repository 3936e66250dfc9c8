"""The file of collections: what it says reaches the runs, and what is wrong in it is named."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from deployments.collection_file import read_collections
from tasks.errors import SettingsError
from tasks.settings import load_settings, title_of

GOOD = """version: 1
collections:
  - name: photos
    source: s3://dam/photos
    catalog: s3://catalogs/photos
    policy: policies/photos.yaml
    filter: size > 1000
    exclude: "*.gif"
    owners: [anna@example.org, ben@example.org]
    reviewers:
      carl@example.org: {prefixes: [shoes/]}
    mail: digest
    schedules: {time_zone: Europe/Berlin, scan: ["7 6 * * *", "7 18 * * *"], merge: []}
    delivery: {bucket: s3://reports/photos, link_days: 3}
    notifications: {to: ops@example.org, coverage: 0.9, webhook: $DAM_OPS}
  - name: shots
    source: [/mnt/shots, s3://dam/shots]
    catalog: var/shots
"""


@pytest.fixture
def write(tmp_path: Path):
    def put(text: str) -> Path:
        path = tmp_path / "collections.yaml"
        path.write_text(text)
        return path

    return put


def test_what_the_file_says_are_the_settings_of_its_runs(write, monkeypatch):
    photos, shots = read_collections(write(GOOD))
    for name, value in photos.variables().items():
        monkeypatch.setenv(name, value)
    found = load_settings()
    assert found.collection == "photos"
    assert found.source.uri == "s3://dam/photos"
    assert found.source.exclude == ["*.gif"]
    assert found.mail.to == ["anna@example.org", "ben@example.org"]
    assert found.mail.reviewers["carl@example.org"].prefixes == ("shoes/",)
    assert found.mail.when == "digest"
    assert (found.delivery.bucket, found.delivery.link_days) == ("s3://reports/photos", 3)
    assert found.alarms.coverage == 0.9
    assert found.merge.policy == Path("policies/photos.yaml")
    assert photos.schedules.scan == ("7 6 * * *", "7 18 * * *")
    assert shots.source == ("/mnt/shots", "s3://dam/shots")
    assert not any("WEBHOOK" in name for name in photos.variables()), "it is a secret"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    policy:", "    polcy:", r":6: collections\[0\].polcy: no such key; did you mean pol"),
        ("size > 1000", "sise > 1000", r":7: collections\[0\].filter: .*did you mean size\?"),
        ("Europe/Berlin", "Berlin", r":13: .*time_zone: 'Berlin': no time zone; write one like"),
        ("7 18 * * *", "soon", r":13: .*scan\[1\]: 'soon': no cron line"),
        ("ben@example.org]", '"a, b"]', r":9: .*owners\[1\]: .*is not one plain mail address"),
        ("[/mnt/shots, s3://dam/shots]", "ftp://x", r":17: .*source: .*write s3://bucket"),
        ("name: shots", "name: Photos", "two collections are called Photos"),
        ("var/shots", "s3://catalogs/photos/", "photos and shots share the catalog"),
        ("version: 1", "version: 2", ":1: version: "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(write, before, after, said):
    assert before in GOOD
    with pytest.raises(SettingsError, match=said):
        read_collections(write(GOOD.replace(before, after)))


def test_two_collections_that_merge_in_one_place_are_refused(write):
    with pytest.raises(SettingsError, match="photos and shots both merge in s3://dam/photos/new"):
        read_collections(
            write(
                GOOD.replace(
                    "[/mnt/shots, s3://dam/shots]", "s3://dam/photos/new\n    policy: other.yaml"
                )
            )
        )
    # A name that only begins like another is another place.
    read_collections(
        write(GOOD.replace("[/mnt/shots, s3://dam/shots]", "s3://dam/photos2\n    policy: o.yaml"))
    )


def test_no_file_is_no_crash(tmp_path):
    with pytest.raises(SettingsError, match="cannot read the collections"):
        read_collections(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("name", "title"),
    [("photos", "Photos"), ("product-shots", "Product shots"), ("RAW_2026", "RAW 2026")],
)
def test_a_collection_has_a_name_for_people(name, title):
    assert title_of(name) == title


def test_a_command_takes_the_settings_of_a_collection(write, monkeypatch):
    write(GOOD)
    monkeypatch.chdir(write(GOOD).parent)
    with patch.dict(os.environ):
        done = CliRunner().invoke(app, ["--collection", "photos", "settings", "--effective"])
        assert "DAM_DEDUP_SOURCE__URI=s3://dam/photos    # environment" in done.output
        wrong = CliRunner().invoke(app, ["--collection", "photo", "settings"])
        assert "did you mean photos?" in str(wrong.exception)

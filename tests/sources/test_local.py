from __future__ import annotations

import errno
import os
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import AssetChangedError, AssetGoneError, SourceError
from tasks.records import Listing
from tasks.session import open_source
from tasks.settings import Settings
from tasks.sources.base import HEAD_BYTES
from tasks.sources.local import LocalSource

NAMES = [
    "a b.jpg",
    "100%25+plus.jpg",
    "new\nline.jpg",
    "quo'te\".jpg",
    "what?#.jpg",
    unicodedata.normalize("NFC", "Zoë.jpg"),
    unicodedata.normalize("NFD", "Zoë.jpg"),
    "\\x41.jpg",
    "-rf",
    ".hidden",
]


def listed(source: LocalSource) -> dict[str, Listing]:
    items = [item for page in source.list_pages() for item in page]
    assert len({item.key for item in items}) == len(items)
    return {item.key: item for item in items}


def test_odd_names_are_listed_probed_and_read(tmp_path: Path) -> None:
    deep = tmp_path / "ä" / "b"
    deep.mkdir(parents=True)
    for name in NAMES:
        (deep / name).write_bytes(name.encode() * 99)
    source = LocalSource(str(tmp_path))
    found = listed(source)
    assert set(found) == {f"ä/b/{name}" for name in NAMES}
    for key, item in found.items():
        data = key.removeprefix("ä/b/").encode() * 99
        probe = source.probe(key)
        assert probe.head == data[:HEAD_BYTES]
        assert (probe.etag, probe.size) == (item.etag, item.size) == (item.etag, len(data))
        assert probe.last_modified == item.last_modified
        assert source.read(key, item.etag, len(data)) == data


def test_a_name_that_is_not_utf8_has_a_key_that_leads_to_it(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    source = LocalSource(str(tmp_path))
    (key, item), *others = listed(source).items()
    assert (key, others) == ("caf\\xe9.jpg", [])
    assert source.read(key, item.etag, 1) == b"x"


def test_pages(tmp_path: Path) -> None:
    for n in range(2001):
        (tmp_path / f"{n}.jpg").touch()
    pages = list(LocalSource(str(tmp_path)).list_pages())
    assert [len(page) for page in pages] == [1000, 1000, 1]


def test_links_and_keys_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"s")
    (root / "in" / "a").write_bytes(b"a")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "alias").symlink_to(root / "in" / "a")
    (root / "broken").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe")  # reading it would wait for ever
    source = LocalSource(str(root))
    assert set(listed(source)) == {"in/a", "alias"}
    for key in ("../secret", "out", "/etc/passwd"):
        with pytest.raises(SourceError, match="leads out"):
            source.read(key, "", 10)
        with pytest.raises(SourceError, match="leads out"):
            source.probe(key)


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    source = LocalSource(str(tmp_path))
    etag = listed(source)["a"].etag
    (tmp_path / "b").write_bytes(b"new")  # as an atomic save does: same size, another inode
    os.utime(tmp_path / "b", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    (tmp_path / "b").replace(path)
    with pytest.raises(AssetChangedError, match="'a' changed"):
        source.read("a", etag, 10)


def test_a_missing_file_is_gone(tmp_path: Path) -> None:
    source = LocalSource(str(tmp_path))
    with pytest.raises(AssetGoneError, match="'a'"):
        source.probe("a")
    with pytest.raises(AssetGoneError, match="'a'"):
        source.read("a", "", 10)


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    source = LocalSource(str(tmp_path))
    etag = listed(source)["a"].etag
    assert source.read("a", etag, 5) == b"12345"
    with pytest.raises(SourceError, match="more than 4 bytes"):
        source.read("a", etag, 4)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        LocalSource(str(tmp_path / "nowhere"))


def test_a_folder_that_goes_away_is_not_an_empty_one(tmp_path: Path) -> None:
    source = LocalSource(str(tmp_path / "."))
    source.root = tmp_path / "unmounted"
    with pytest.raises(SourceError, match=r"cannot list .*unmounted"):
        list(source.list_pages())


def test_what_a_scan_remembers_leads_back_to_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a b %41 ü?#"
    folder.mkdir()
    source = open_source(str(folder), Settings())
    assert open_source(source.id, Settings()).id == source.id


def test_what_is_replaced_in_place_has_another_etag(tmp_path: Path) -> None:
    """As `rsync --inplace --times` and `exiftool -P -overwrite_original_in_place` do."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    source = LocalSource(str(tmp_path))
    before, times = listed(source)["a"], path.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    with path.open("r+b") as file:
        file.write(b"new")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = listed(source)["a"]
    assert (after.size, after.last_modified) == (before.size, before.last_modified)
    assert after.etag != before.etag
    with pytest.raises(AssetChangedError):
        source.read("a", before.etag, 10)


def test_what_cannot_be_listed_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    for name, to in (("self", "self"), ("one", "two"), ("two", "one"), ("nowhere", "none")):
        (tmp_path / name).symlink_to(tmp_path / to)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "b.jpg").write_bytes(b"b")
    scandir = os.scandir

    def guarded(path: str) -> Any:  # whoever runs the tests may be root, who may enter everything
        if os.fspath(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    source = LocalSource(str(tmp_path))
    assert set(listed(source)) == {"a.jpg"}
    assert source.unlisted == ["closed/"]
    assert "the folder 'closed' cannot be listed (Permission denied)" in caplog.text
    assert "3 files or links are left out: Too many levels of symbolic links" in caplog.text
    assert "1 files or links are left out: they lead to nothing" in caplog.text


def test_a_path_that_is_too_long_ends_no_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):  # 20 x 251 characters: more than Linux takes at once
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    Path("b.jpg").write_bytes(b"b")
    os.chdir(tmp_path)
    source = LocalSource(str(tmp_path))
    assert set(listed(source)) == {"a.jpg"}
    assert len(source.unlisted) == 1

"""The commands analyze, check and update, as people type them."""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner, Result

from deployments.cli.main import app
from tasks.errors import AnalysisError, AssetGoneError, ImageError, SettingsError, SourceError
from tasks.records import Kind
from tests.conftest import blobs


@pytest.fixture(scope="module")
def stock(make_stock):
    def fill(library):
        library.add("a.png", 1)
        library.write("a.jpg", blobs(1), quality=60)
        library.add("a small.jpg", 1, width=96)
        library.add("b.png", 2)
        library.scan(Kind.FULL)

    return make_stock(fill)


@pytest.fixture
def shop(stock, library, tmp_path, monkeypatch):
    """A library that was scanned, and an environment that leads to it."""
    library = stock.lend(tmp_path)
    for name, value in {
        "CATALOG__URI": str(tmp_path / "catalog"),
        "SOURCE__URI": str(library.folder),
        "EMBEDDING__MODEL": str(library.model),
        "EMBEDDING__POOLING": "cls",
        "EMBEDDING__DEVICE": "cpu",
        "EMBEDDING__DECODERS": "1",
        "GATE__ALLOW_PRIVATE_ADDRESSES": "true",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", value)
    return library


@pytest.fixture
def new(shop):
    """A folder of images that the catalog does not have."""
    folder = shop.place / "new"
    folder.mkdir()
    blobs(1).save(folder / "copy.webp", quality=70)
    blobs(9).save(folder / "other.png")
    (folder / "page.html").write_text("<html>no image</html>")
    return folder


@pytest.fixture
def site(new) -> Iterator[str]:
    """The same folder on the web."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(new)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(*words: object, **options) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def keys(*words: object, **options) -> list[str]:
    found = json.loads(run("check", *words, "--json", **options).stdout)
    return sorted(one["key"] for one in found["found"])


COPIES = ["a small.jpg", "a.jpg", "a.png"]


def test_every_kind_of_target_finds_the_same(shop, new, site, monkeypatch):
    copy = new / "copy.webp"
    assert keys(copy) == COPIES
    assert keys("-", input=copy.read_bytes()) == COPIES
    assert keys(f"{site}/copy.webp") == COPIES
    (new / "copy.json").write_text(run("analyze", copy).stdout)
    assert keys(new / "copy.json") == COPIES
    asset = {
        row["key"]: row["asset_id"]
        for row in json.loads(run("check", copy, "--json", "--fields", "key,asset_id").stdout)[
            "found"
        ]
    }
    assert keys("a.png") == keys(asset["a.png"]) == ["a small.jpg", "a.jpg"]
    monkeypatch.chdir(shop.folder)
    assert keys("a.png") == COPIES, "a file that exists is a file"
    assert keys("a.png", "--asset") == ["a small.jpg", "a.jpg"]


def test_people_read_score_tier_and_evidence_in_words(new):
    shown = run("check", new / "copy.webp")
    assert shown.exit_code == 0
    assert "copy.webp: 3 matches, the best exact" in shown.stdout
    assert "160 x 120" in shown.stdout
    assert "webp instead of" in shown.stdout
    assert "scaled" in shown.stdout
    nothing = run("check", new / "other.png")
    assert nothing.exit_code == 0
    assert "other.png: nothing found" in nothing.stdout
    page = run("check", new / "copy.webp", "--limit", "1", "--offset", "1")
    assert "shown: 2 to 2 of 3; the next: --offset 2" in page.stdout


def test_options_of_a_check(new):
    copy = new / "copy.webp"
    assert keys(copy, "--where", "format = 'png'") == ["a.png"]
    assert keys(copy, "--fq", "format:png", "--fq", "-name:b*") == ["a.png"]
    assert keys(copy, "--where", "format = 'png'", "--fq", "-format:png") == []
    assert keys(copy, "--exclude", "a.png", "--exclude", "a.jpg") == ["a small.jpg"]
    assert keys(copy, "--threshold", "1") == []
    whole = json.loads(run("check", copy, "--json", "--limit", "2").stdout)
    assert (whole["total"], whole["next"], len(whole["found"])) == (3, 2, 2)
    assert whole["found"][0].keys() >= {"score", "tier", "changes", "evidence", "width", "tags"}
    fields = json.loads(run("check", copy, "--json", "--fields", "key, score").stdout)
    assert all(one.keys() == {"key", "score"} for one in fields["found"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["check", "nobody.png"], AssetGoneError),
        (["check", "{new}/page.html"], ImageError),
        (["check", "{site}/page.html"], ImageError),
        (["check", "{site}/nothing"], SourceError),
        (["check", "s3://"], SettingsError),
        (["check", "{new}/none.json"], AssetGoneError),
        (["check", "{new}/page.json"], AnalysisError),
        (["check", "a.png", "--mode", "guess"], SettingsError),
        (["analyze", "{new}/page.html"], ImageError),
        (["analyze", "{new}/nothing"], SourceError),
        (["update", "k", "{new}/copy.webp", "--source", "gate://x", "--tag", "a"], SettingsError),
        (["update", "k", "{new}/copy.webp"], AssetGoneError),
    ],
)
def test_mistakes_are_errors_that_say_so(new, site, words, error):
    (new / "page.json").write_text("{}")
    with pytest.raises(error) as told:
        run(*(word.format(new=new, site=site) for word in words))
    assert str(told.value)


def test_private_addresses_need_a_word(new, site, monkeypatch):
    monkeypatch.setenv("DAM_DEDUP_GATE__ALLOW_PRIVATE_ADDRESSES", "false")
    with pytest.raises(SourceError, match="private network"):
        run("check", f"{site}/copy.webp")


def test_many_images_are_lines_of_json_and_one_bad_one_does_not_hide_the_others(new):
    result = run("analyze", new / "copy.webp", new / "page.html", new / "other.png")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [("analysis" in line, "error" in line) for line in lines] == [
        (True, False),
        (False, True),
        (True, False),
    ]
    (new / "one.json").write_text(json.dumps(lines[0]))
    assert keys(new / "one.json") == COPIES


def test_a_document_under_another_secret_is_refused(new, monkeypatch):
    (new / "copy.json").write_text(run("analyze", new / "copy.webp").stdout)
    monkeypatch.setenv("DAM_DEDUP_GATE__SECRET", "s" * 40)
    with pytest.raises(AnalysisError, match="secret"):
        run("check", new / "copy.json")


def test_an_update_is_found_by_the_next_check(new):
    shown = run(
        "update",
        "77",
        new / "other.png",
        "--source",
        "gate://shop",
        "--name",
        "Other",
        "--tag",
        "label=shoes",
        "--metadata",
        "agency=north",
        "--json",
    )
    asset = json.loads(shown.stdout)["asset_id"]
    found = json.loads(run("check", new / "other.png", "--source", "gate://shop", "--json").stdout)[
        "found"
    ]
    assert [(one["asset_id"], one["relation"], one["label"]) for one in found] == [
        (asset, "equal bytes", "shoes")
    ]
    assert keys(new / "other.png") == [], "the default source is another"


@pytest.mark.parametrize("command", ["check", "analyze", "update"])
def test_help_teaches(command):
    shown = run(command, "--help").stdout
    assert f"dam-dedup {command}" in " ".join(shown.split())


def test_an_object_of_a_bucket_that_is_no_asset_yet(shop, s3, monkeypatch):
    for name in ("access_key_id", "secret_access_key"):
        monkeypatch.setenv(f"AWS_{name.upper()}", getattr(s3.settings, name).get_secret_value())
    monkeypatch.setenv("DAM_DEDUP_S3__ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("DAM_DEDUP_S3__PATH_STYLE", "true")
    monkeypatch.setenv("DAM_DEDUP_S3__REGION", "us-east-1")
    bucket, body = s3.bucket(), io.BytesIO()
    blobs(1).save(body, "BMP")
    s3.client.put_object(Bucket=bucket, Key="in/x y?.bmp", Body=body.getvalue())
    target = f"s3://{bucket}/in/x y?.bmp"
    assert keys(target) == COPIES
    run("update", "in/x y?.bmp", "-", "--source", f"s3://{bucket}", input=body.getvalue())
    assert keys(target, "--source", shop.folder) == COPIES, "now by the asset"
    assert keys(target) == [], "against its own bucket"
    with pytest.raises(AssetGoneError):
        run("check", f"s3://{bucket}/none")

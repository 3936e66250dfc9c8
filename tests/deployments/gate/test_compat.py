"""What a client of another image search service does, against a real server."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from deployments.bench.client import DupeScanner
from deployments.gate.app import create_app
from tasks.session import open_catalog
from tasks.settings import Settings, load_settings
from tests.conftest import Library, first_of, undisturbed


def file_of(image: Image.Image, kind: str = "JPEG") -> bytes:
    found = io.BytesIO()
    image.convert("RGB").save(found, kind)
    return found.getvalue()


class Scanner(DupeScanner):
    """The client, with what it does with the answers."""

    def scan(self, folder: Path) -> list[set[str]]:
        """Index a folder and group what is found."""
        assert self.check_connection()
        known = set(self.ids())
        for path in sorted(folder.iterdir()):
            if path.stem not in known:
                self.index(path)
        self.commit()
        groups: list[set[str]] = []
        for name in self.ids():
            docs = self.duplicates(name)
            assert docs[0] | {"score": 1.0} == docs[0]
            assert docs[0]["id"] == name
            group = {one["id"] for one in docs}
            if len(group) > 1 and group not in groups:
                groups.append(group)
        return groups


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """A gate on a port of its own."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        place.listen()  # who asks before it has started waits
        running = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [place]})
        thread.start()
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def settings_of(library: Library) -> Settings:
    return load_settings(
        catalog={"uri": str(library.place / "catalog"), "busy_seconds": 10},
        collection="photos",
        source={"uri": str(library.folder)},
        embedding={"model": str(library.model), "pooling": "cls", "device": "cpu", "decoders": 1},
    )


@pytest.fixture
def server(library) -> Iterator[str]:
    with serving(settings_of(library)) as address:
        yield address


def picture_of(seed: int) -> Image.Image:
    """Pictures with enough in them to be recognised by."""
    draw = np.random.default_rng(seed)
    image = Image.fromarray(draw.integers(60, 200, (5, 6, 3)).astype(np.uint8))
    image = image.resize((400, 300), Image.Resampling.BICUBIC)
    for _ in range(60):
        size = tuple(int(n) for n in draw.integers(8, 60, 2))
        place = (int(draw.integers(0, 380)), int(draw.integers(0, 280)))
        colour = tuple(int(n) for n in draw.integers(0, 256, 3))
        image.paste(Image.new("RGB", size, colour), place)
    return image


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """Eight pictures, of which two are there again: smaller, and cropped."""
    folder = tmp_path_factory.mktemp("incoming")
    for seed in range(8):
        (folder / f"img-{seed}.jpg").write_bytes(file_of(picture_of(seed)))
    (folder / "small of 2.jpg").write_bytes(file_of(picture_of(2).resize((200, 150))))
    (folder / "cropped 5.jpg").write_bytes(file_of(picture_of(5).crop((20, 20, 380, 280))))
    return folder


def filled_core(server: str, planted: Path) -> httpx.Client:
    """A client of a core that holds the planted pictures."""
    scanner = Scanner(server, "incoming")
    for path in sorted(planted.iterdir()):
        scanner.index(path)
    return httpx.Client(base_url=f"{server}/api/cores/incoming", timeout=60)


@pytest.fixture(scope="module")
def core(tmp_path_factory, tiny_model, planted) -> Iterator[httpx.Client]:
    """For those that only ask."""
    place = tmp_path_factory.mktemp("core")
    with (
        undisturbed(place),
        serving(settings_of(Library(place, tiny_model))) as server,
        filled_core(server, planted) as client,
    ):
        yield client


@pytest.mark.long
def test_the_scanner_finds_planted_duplicates(server, planted):
    scanner = Scanner(server, "incoming")
    assert scanner.count() == 0
    assert scanner.ids() == []
    groups = scanner.scan(planted)
    assert sorted(map(sorted, groups)) == [["cropped 5", "img-5"], ["img-2", "small of 2"]]
    assert scanner.count() == 10
    assert scanner.ids(rows=3) == sorted(path.stem for path in planted.iterdir())
    docs = scanner.duplicates("img-2")
    assert docs[0] == {
        "id": "img-2",
        "score": 1.0,
        "filename": "img-2.jpg",
        "image": "/srv/images/img-2.jpg",
    }
    assert docs[1]["filename"] == "small of 2.jpg"
    assert 0.9 < docs[1]["score"] <= 1
    assert scanner.scan(planted) == groups  # everything is known now, and found again
    scanner.clear()
    assert (scanner.count(), scanner.ids()) == (0, [])
    other = Scanner(server, "other")
    assert other.count() == 0


@pytest.mark.parametrize(
    "said",
    first_of(("?softCommit=true", None), ("", {"commit": {}}), ("?commit=false", None)),
)
def test_a_commit_tidies_what_single_updates_scattered(library, tmp_path, monkeypatch, said):
    monkeypatch.setattr("tasks.catalog.catalog._FRAGMENTS", 2)
    query, body = said
    settings = settings_of(library)
    with serving(settings) as address:
        scanner = Scanner(address, "incoming")
        for seed in range(3):
            path = tmp_path / f"img-{seed}.jpg"
            path.write_bytes(file_of(picture_of(seed)))
            scanner.index(path)
        scanner.http.post(f"{scanner.core}/update{query}", json=body).raise_for_status()
    catalog = open_catalog(settings)
    stats = catalog.table("assets").stats()["fragment_stats"]
    assert stats["num_fragments"] == (3 if "false" in query else 1)
    assert catalog.count("assets") == 3
    assert catalog.version("spaces") <= 2, "the space is known, and not written each time"


@pytest.mark.long
def test_ranked_by_anything(core, planted):
    image = (planted / "img-2.jpg").read_bytes()
    uri = "data:image/jpeg;base64," + base64.b64encode(image).decode()
    outputs = core.post("/analyze", data={"input.data": uri}).json()["outputs"]
    text = json.dumps(outputs)
    for answer in (
        core.post("/duplicate", data={"rank.by.preprocessed": text, "fl": "id,score"}),
        core.post("/duplicate", data={"rank.by.data": uri, "fl": "id,score"}),
    ):
        found = answer.json()["response"]
        assert (found["numFound"], found["start"], found["maxScore"]) == (2, 0, 1.0)
        assert [one["id"] for one in found["docs"]] == ["img-2", "small of 2"]
    assert core.post("/analyze", files={"file": ("a", image)}).json()["outputs"] == outputs


def test_filters_pages_and_order(core):
    def ids(path: str) -> list[str]:
        answer = core.get(path)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["response"]["docs"]]

    both = "/duplicate?rank.by.id=img-2&rank.threshold=0.6"
    assert ids(both) == ["img-2", "small of 2"]
    assert ids(f"{both}&rows=1") == ["img-2"]
    assert ids(f"{both}&rows=1&start=1") == ["small of 2"]
    assert ids(f"{both}&start=2") == []
    assert ids(f"{both}&rows=0") == []
    assert ids(f"{both}&fq=-id:img-2") == ["small of 2"]
    assert ids(f'{both}&fq=-id:"small of 2"&fq=id:img-*') == ["img-2"]
    assert core.get(f"{both}&rows=1").json()["response"]["numFound"] == 2
    assert core.get(f"{both}&fq=-id:img-2").json()["response"]["numFound"] == 1
    assert ids("/select?q=id:img-*&sort=id desc&rows=2") == ["img-7", "img-6"]
    assert ids("/select?q=*:*&start=9&sort=id asc") == ["small of 2"]
    assert ids("/select?rows=2&sort=width asc&fl=id,width")[0] == "small of 2"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/duplicate", 400),
        ("/duplicate?rank.by.id=none", 404),
        ("/duplicate?rank.by.id=img-2&rank.by.url=http://x", 400),
        ("/duplicate?rank.by.id=img-2&rank.threshold=2", 400),
        ("/duplicate?rank.by.id=img-2&rows=-1", 400),
        ("/duplicate?rank.by.id=img-2&fq=nothing:1", 400),
        ("/duplicate?rank.by.id=img-2&rank.approximate=perhaps", 400),
        ("/select?rows=9999999", 400),
        ("/select?cursorMark=%00&sort=id asc", 400),
        ("/select?cursorMark=*&sort=size asc", 400),
        ("/select?sort=vector asc", 400),
        ("/../x%20y/select", 404),
    ],
)
def test_wrong_requests(core, path, status):
    answer = core.get(path)
    assert answer.status_code == status, answer.text
    said = answer.json()
    if path.startswith(("/duplicate", "/select")):
        assert said["responseHeader"]["status"] == said["error"]["code"] == status
        assert said["error"]["msg"]
        assert said["remedy"]


def test_the_settings_source_is_read_and_never_emptied(library):
    for seed in range(4):
        library.add(f"p{seed}.png", seed)
    library.add("again.jpg", 2, width=120)
    library.scan()
    with TestClient(create_app(settings_of(library)), base_url="http://127.0.0.1") as client:
        assert client.get("/api/cores/photos/select?rows=0").json()["response"]["numFound"] == 5
        docs = client.get("/api/cores/photos/duplicate?rank.by.id=p2.png&fl=id").json()["response"]
        assert [one["id"] for one in docs["docs"]] == ["p2.png", "again.jpg"]
        for body in ({"query": "*:*"}, {"id": "p2.png"}, "p2.png", ["p2.png"]):
            answer = client.post("/solr/photos/update?commit=true", json={"delete": body})
            assert answer.status_code == 403
            assert "not deleted" in answer.json()["error"]["msg"]
        assert client.get("/api/cores/photos/select?rows=0").json()["response"]["numFound"] == 5


def test_single_documents_are_deleted(server, planted):
    core = filled_core(server, planted)
    place = f"{server}/solr/incoming/update"
    for body, left in (({"id": "img-0"}, 9), (["img-1"], 8), ({"query": "id:img-3"}, 7)):
        assert httpx.post(place, json={"delete": body}).status_code == 200
        assert core.get("/select?rows=0").json()["response"]["numFound"] == left
    for body in ({}, {"query": ""}, {"query": "x:y"}, 5, None, {"id": 5}):
        assert httpx.post(place, json={"delete": body}).status_code == 400, body
    assert core.get("/select?rows=0").json()["response"]["numFound"] == 7


def ids_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["response"]["docs"]]


def test_the_threshold_as_the_other_documentation_spells_it(core):
    place = "/duplicate?rank.by.id=img-5&fl=id"
    assert len(ids_of(core.get(f"{place}&rank.threshold=0.6"))) == 2
    assert ids_of(core.get(f"{place}&rank.treshold=1")) == ["img-5"]
    assert core.get(f"{place}&rank.treshold=2").status_code == 400


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/duplicate?rank.by.id=img-5&rank.treshhold=1", "rank.treshold"),
        ("/duplicate?rank.by.id=img-5&row=1", "rows"),
        ("/select?filter=id:img-1", "Known"),
        ("/analyze?input.uri=http://x", "input.url"),
    ],
)
def test_a_parameter_that_is_not_known_is_refused(core, path, meant):
    answer = core.get(path)
    assert answer.status_code == 400
    assert "no parameter" in answer.json()["error"]["msg"]
    assert meant in answer.json()["remedy"]


def test_an_image_is_ranked_as_a_file_and_as_a_body(core, planted):
    image = (planted / "img-2.jpg").read_bytes()
    for answer in (
        core.post("/duplicate?fl=id", files={"file": ("a.jpg", image, "image/jpeg")}),
        core.post("/duplicate", files={"image": ("a", image)}, data={"rank.threshold": "0.6"}),
        core.post("/duplicate", content=image, headers={"Content-Type": "image/jpeg"}),
        core.post("/duplicate", content=image),
    ):
        assert ids_of(answer) == ["img-2", "small of 2"]
    both = core.post("/duplicate?rank.by.id=img-1", files={"file": ("a", image)})
    assert both.status_code == 400
    assert core.post("/duplicate", json={"rank.by.id": "img-1"}).status_code == 400


def test_pages_are_selected_by_post_and_sorted_by_several(core):
    form = {"q": "id:img-*", "sort": "height asc, id desc", "rows": "2", "fl": "id"}
    assert ids_of(core.post("/select", data=form)) == ["img-7", "img-6"]
    assert ids_of(core.get("/select?sort=score desc, id asc&rows=1")) == ["cropped 5"]
    found = core.get("/duplicate?rank.by.id=img-2&sort=score desc, id asc&fl=id")
    assert ids_of(found) == ["img-2", "small of 2"]
    assert core.get("/duplicate?rank.by.id=img-2&sort=id asc").status_code == 400
    assert core.post("/select", json={"query": "*:*"}).status_code == 400


def test_fields_of_the_clients_own(server, planted):
    scanner = Scanner(server, "incoming")
    own = [
        {"project": "spring", "Colours": ["red", 'say "blue"', "10%"], "shot": 7},
        {"project": "autumn", "Colours": ["dark red"]},
        {},
    ]
    for number, fields in enumerate(own):
        uri = (planted / f"img-{number}.jpg").read_bytes()
        analysed = scanner.http.post(f"{scanner.core}/analyze", files={"file": ("a", uri)}).json()[
            "outputs"
        ]
        document = {"id": f"{number}", "import": analysed, **fields}
        assert scanner.http.post(f"{scanner.core}/update", json=document).status_code == 200

    def ids(fq: str) -> list[str]:
        return ids_of(scanner.http.get(f"{scanner.core}/select", params={"fq": fq, "fl": "id"}))

    assert ids("project:spring") == ["0"]
    assert ids("-project:spring") == ["1", "2"]
    assert ids("project:*") == ["0", "1"]
    assert ids("Colours:red") == ids("colours:red") == ids('Colours:"10%"') == ["0"]
    assert ids('Colours:"say \\"blue\\""') == ["0"]
    assert ids('Colours:"1_%"') == []
    assert ids("-Colours:red") == ["1", "2"]
    assert ids("shot:7") == ["0"]
    place = f"{scanner.core}/duplicate?rank.by.id=0&rows=1&fl=id,project,Colours&fq=project:spring"
    assert scanner.http.get(place).json()["response"]["docs"] == [
        {"id": "0", "project": "spring", "Colours": own[0]["Colours"]}
    ]
    whole = scanner.http.get(f"{scanner.core}/select?fq=id:0").json()["response"]["docs"][0]
    assert "colours" not in whole
    assert scanner.http.get(f"{scanner.core}/select?fq=projekt:spring").status_code == 400

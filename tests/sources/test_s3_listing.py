"""A listing holds every key once, however its folders are listed, and asks no more than it must."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.sources.s3_listing import list_objects

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 1000


class Bucket:
    """``list_objects_v2`` as S3 documents it, of keys in memory."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803
        Prefix: str,  # noqa: N803
        OptionalObjectAttributes: list[str],  # noqa: ARG002, N803
        Delimiter: str = "",  # noqa: N803
        ContinuationToken: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        with self._lock:
            self.asked.append({"prefix": Prefix, "delimiter": Delimiter})
        names: dict[str, bool] = {}
        for key in self.keys:
            if not key.startswith(Prefix) or key <= ContinuationToken:
                continue
            rest = key.removeprefix(Prefix)
            if Delimiter and Delimiter in rest:
                names[Prefix + rest.split(Delimiter)[0] + Delimiter] = True
            else:
                names[key] = False
        page = list(names.items())[:PAGE]
        more = len(names) > len(page)
        return {
            "Contents": [
                {"Key": name, "ETag": "e", "Size": 1, "LastModified": WHEN}
                for name, folder in page
                if not folder
            ],
            "CommonPrefixes": [{"Prefix": name} for name, folder in page if folder],
            "IsTruncated": more,
            **({"NextContinuationToken": page[-1][0]} if more else {}),
        }


def listed(bucket: Bucket, prefix: str = "", workers: int = 8) -> list[str]:
    pages = list_objects(bucket, "b", prefix, workers)  # type: ignore[arg-type]
    return [item.key for page in pages for item in page]


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["one"],
        [f"{n:05}" for n in range(2500)],
        [f"{n % 7}/{n:05}" for n in range(2500)],
        [f"{n % 7}/{n:05}" for n in range(2500)] + [f"loose {n}" for n in range(30)],
        ["deep/", *(f"deep/er/{n % 3}/{n:05}" for n in range(1500)), "deep/er/note", "deep/a"],
        [f"only/{n:05}" for n in range(1500)],
        [f"{n // 4:04}/{n:05}" for n in range(1500)],
        [f"//{n % 3}//{n:05}" for n in range(1500)],
    ],
)
def test_every_key_is_listed_once(keys):
    for workers in (1, 8):
        assert sorted(listed(Bucket(keys), workers=workers)) == sorted(keys)
    assert sorted(listed(Bucket(keys), prefix="deep/e")) == sorted(
        key for key in keys if key.startswith("deep/e")
    )


def test_a_small_bucket_costs_one_request():
    bucket = Bucket([f"{n % 50}/{n:05}" for n in range(900)])
    listed(bucket)
    assert len(bucket.asked) == 1


def test_many_small_folders_are_not_asked_one_by_one():
    bucket = Bucket([f"{n:05}/photo" for n in range(5000)])
    listed(bucket)
    assert len(bucket.asked) == 6, "five pages, and one look at the folders"


def test_folders_are_listed_beside_one_another():
    bucket = Bucket([f"{n % 4}/{n:05}" for n in range(8000)])
    together = threading.Barrier(4, timeout=20)
    real = bucket.list_objects_v2

    def ask(**given: Any) -> dict[str, Any]:
        if given["Prefix"] and "ContinuationToken" not in given:
            together.wait()  # fails unless the first pages of all four are asked at once
        return real(**given)

    bucket.list_objects_v2 = ask  # type: ignore[method-assign]
    assert len(listed(bucket)) == 8000
    assert len(bucket.asked) == 2 + 8


def test_an_error_of_one_folder_is_raised():
    bucket = Bucket([f"{n % 4}/{n:05}" for n in range(8000)])
    real = bucket.list_objects_v2

    def ask(**given: Any) -> dict[str, Any]:
        if given["Prefix"] == "2/":
            raise PermissionError("2/")
        return real(**given)

    bucket.list_objects_v2 = ask  # type: ignore[method-assign]
    with pytest.raises(PermissionError):
        listed(bucket)

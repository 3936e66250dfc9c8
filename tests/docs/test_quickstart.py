"""The quickstart, as somebody follows it: its commands in their order, on a folder of pictures."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli.main import app
from tests.conftest import S3, blobs

PAGE = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text("utf-8")


def run(line: str) -> str:
    done = CliRunner().invoke(app, shlex.split(line)[1:])
    assert done.exit_code == 0, (line, done.output, done.exception)
    return done.stdout


def objects(s3: S3, bucket: str) -> dict[str, str]:
    listed = s3.client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {one["Key"]: one["ETag"] for one in listed if not one["Key"].startswith(".dam-dedup/")}


@pytest.mark.long
@pytest.mark.usefixtures("library")
def test_it_leads_from_a_folder_to_a_merge_that_is_undone(
    s3: S3, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket = s3.bucket()
    for name, value in {
        "EMBEDDING__MODEL": str(tiny_model),
        "EMBEDDING__POOLING": "cls",
        "S3__ENDPOINT_URL": s3.endpoint,
        "S3__PATH_STYLE": "true",
        "S3__REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"DAM_DEDUP_{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret)
    Path("pictures").mkdir()
    for seed, names in ((1, ("a.jpg", "copy of a.png")), (2, ("b.jpg",))):
        for name in names:
            blobs(seed).resize((640, 480)).save(Path("pictures", name))
            s3.client.upload_file(f"pictures/{name}", bucket, f"photos/{name}")
    Path("policy.yaml").write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    lines = re.findall(r"^    (dam-dedup .+)$", PAGE, re.MULTILINE)
    assert len(lines) > 10
    before, plan, told = objects(s3, bucket), "", {}
    for line in lines:
        told[line] = run(line.replace("PLAN", plan).replace("s3://dam/", f"s3://{bucket}/"))
        if "plan show" in line:
            plan = re.search(r"plan (\w+)", told[line])[1]
        if "merge PLAN --by" in line:
            assert len(objects(s3, bucket)) == len(before) - 1, "the copy is in quarantine"
    assert Path("var/out/report.html").stat().st_size > 10_000
    assert len(json.loads(Path("var/out/groups.json").read_text())["groups"]) == 1
    assert "copy of a.png" in told["dam-dedup check pictures/a.jpg --source ./pictures"]
    assert "anna" in told["dam-dedup audit"]
    assert objects(s3, bucket) == before

"""The policies in deployments/iam allow what the code calls, and nothing else."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

ROOT = Path(__file__).parents[2]
#: Operation to the permission it needs. Source: "Actions, resources, and condition keys for Amazon
#: S3" and "for Amazon SQS" of the Service Authorization Reference.
NEEDS = {
    "list_objects_v2": "s3:ListBucket",
    "list_object_versions": "s3:ListBucketVersions",
    "head_object": "s3:GetObject",
    "get_object": "s3:GetObject",
    "get_object_tagging": "s3:GetObjectTagging",
    "get_object_acl": "s3:GetObjectAcl",
    "get_object_legal_hold": "s3:GetObjectLegalHold",
    "get_object_retention": "s3:GetObjectRetention",
    "get_object_lock_configuration": "s3:GetBucketObjectLockConfiguration",
    "get_bucket_versioning": "s3:GetBucketVersioning",
    "get_bucket_ownership_controls": "s3:GetBucketOwnershipControls",
    "put_object": "s3:PutObject",
    "copy_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part_copy": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "put_object_tagging": "s3:PutObjectTagging",
    "put_object_acl": "s3:PutObjectAcl",
    "delete_object": "s3:DeleteObject",
    "receive_message": "sqs:ReceiveMessage",
    "delete_message": "sqs:DeleteMessage",
}
#: With a VersionId these need another permission.
VERSIONED = {"get_object": "s3:GetObjectVersion", "delete_object": "s3:DeleteObjectVersion"}
#: Called like an operation, and none: smtplib's method.
NO_AWS = {"send_message"}


@cache
def operations() -> frozenset[str]:
    """Every operation of S3 and SQS, as boto3 names its methods."""
    session = botocore.session.get_session()
    return frozenset(
        xform_name(name)
        for service in ("s3", "sqs")
        for name in session.get_service_model(service).operation_names
    )


def calls(path: Path) -> set[tuple[str, bool]]:
    """Operations that a file names, as a method or in a string, and whether of one version."""
    found = set()
    tree = ast.parse(path.read_text("utf-8"))
    versioned = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(keyword.arg == "VersionId" for keyword in node.keywords)
        for part in (node.func, *node.args)
    }
    for node in ast.walk(tree):
        name = node.attr if isinstance(node, ast.Attribute) else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value  # get_paginator("..."), generate_presigned_url("...")
        if name in operations() - NO_AWS:
            found.add((name, id(node) in versioned))
    return found


def needed(*places: str) -> set[str]:
    """The permissions that the calls of files and folders need."""
    paths = [path for place in places for path in (ROOT / place).rglob("*.py")]
    paths += [ROOT / place for place in places if place.endswith(".py")]
    assert paths
    return {
        VERSIONED[name] if one_version and name in VERSIONED else NEEDS[name]
        for path in paths
        for name, one_version in calls(path)
    }


def statements(name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        (ROOT / "deployments" / "iam" / f"{name}.json").read_text("utf-8")
    )["Statement"]
    return found


def allowed(*names: str, bucket: str = "") -> set[str]:
    """What policies allow, on one bucket or on all."""
    return {
        action
        for name in names
        for one in statements(name)
        if not bucket or re.search(rf":{bucket}(/|$)", str(one["Resource"]))
        for action in one["Action"]
    }


def test_every_call_of_the_product_is_allowed_and_nothing_else_is():
    assert allowed("scan", "merge", "reports") == needed("tasks", "flows", "deployments/gate")


def test_merging_may_do_what_its_code_calls_on_the_source():
    calls_s3 = {one for one in needed("tasks/sources", "tasks/merging") if one.startswith("s3:")}
    assert allowed("merge", bucket="dam") == calls_s3


def test_a_scan_cannot_write_to_its_source():
    reads = needed("tasks/sources/s3.py") | {"s3:ListBucket"}
    assert allowed("scan", bucket="dam") == reads
    assert not any(re.search("Put|Delete|Abort", one) for one in allowed("scan", bucket="dam"))


def test_reports_are_written_and_linked_to():
    assert allowed("reports") == needed("tasks/delivery")


@pytest.mark.parametrize("name", ["scan", "merge"])
def test_the_catalog_s_lease_can_be_kept(name):
    assert needed("tasks/catalog/lease.py") <= allowed(name, bucket="dam-catalogs")


def test_permissions_that_messages_name_are_in_the_policies():
    """A message that says what is missing must not name what no policy here would give."""
    named = {
        permission
        for path in (ROOT / "tasks").rglob("*.py")
        for permission in re.findall(r"\bs3:(?:Get|Put|Delete|List|Abort)\w+", path.read_text())
    }
    assert named
    assert named <= allowed("scan", "merge", "reports")


@pytest.mark.parametrize("name", ["scan", "merge", "reports"])
def test_no_wildcard_is_allowed(name):
    for one in statements(name):
        assert one["Effect"] == "Allow"
        assert not any("*" in action for action in one["Action"])
        assert str(one["Resource"]).rstrip("*") != ""
        assert "*" not in str(one["Resource"]).removesuffix("/*")

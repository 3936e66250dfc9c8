"""Make the bucket of a first try, and put the pictures of a folder into it. May be run again.

Only for the S3 server of compose.yaml: a bucket that is there keeps what is in it, and a key that
is there is not written again.

    python first_bucket.py dam /pictures
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def fill(client: S3Client, bucket: str, folder: Path) -> int:
    """Make the bucket and copy the folder's files to it.

    Returns:
        How many files were new.

    Raises:
        ClientError: when the server refuses.
    """
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"].get("Code") not in {
            "BucketAlreadyOwnedByYou",
            "BucketAlreadyExists",
        }:
            raise
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    known = {item["Key"] for page in pages for item in page.get("Contents", [])}
    new = 0
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and key not in known:
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
            new += 1
    return new


if __name__ == "__main__":
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    name, pictures = sys.argv[1:]
    sys.stdout.write(f"{fill(s3, name, Path(pictures))} new files in s3://{name}\n")

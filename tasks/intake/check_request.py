"""One check as a request asks for it: fetch the image, analyse it, compare it."""

from __future__ import annotations

from tasks.catalog.filters import join_filters
from tasks.catalog.fq import fq_to_sql
from tasks.errors import ImageError, SettingsError, SourceError
from tasks.intake.analyze import Analyzer
from tasks.intake.check import Checker
from tasks.records import Analysis, Checked, CheckQuestion, asset_id
from tasks.requests import CheckRequest
from tasks.session import open_catalog, open_source
from tasks.settings import Settings
from tasks.sources.web import fetch_url

_WEB = ("http://", "https://")


def check_image(request: CheckRequest, settings: Settings) -> Checked:
    """Compare the image that a request names; an image that is no asset is not entered.

    Raises:
        AssetGoneError: when there is no such asset.
        ImageError: when it gives no picture.
        SourceError: when it cannot be fetched.
        FilterError: when the filter is wrong.
        SettingsError: when the source is.
    """
    question = question_of(request, settings)
    checker = Checker(settings)
    if request.asset.strip():
        return checker.check_asset(request.asset.strip(), question)
    url = request.url.strip()
    known = known_asset(url, settings)
    if known:
        return checker.check_asset(known, question)
    return checker.check(analyze_one(read_image(url, settings), settings), question)


def question_of(request: CheckRequest, settings: Settings) -> CheckQuestion:
    """What a request asks for besides its image."""
    return CheckQuestion(
        source=request.source.strip(),
        where=join_filters(request.where, fq_to_sql(request.fq)),
        threshold=request.threshold or settings.match.threshold,
        limit=request.limit,
        offset=request.offset,
        exclude=tuple(request.exclude),
        mode=request.mode,
    )


def known_asset(url: str, settings: Settings) -> str:
    """The id of the asset at an ``s3://`` address; empty where the catalog has none there."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not key:
        return ""
    found = asset_id(f"s3://{bucket}", key)
    live = f"asset_id = '{found}' AND removed_at IS NULL AND content IS NOT NULL"
    return found if open_catalog(settings).count("assets", live) else ""


def read_image(url: str, settings: Settings) -> bytes:
    """The bytes at an address of the web or of a bucket.

    Raises:
        SourceError: when they cannot be had.
        SettingsError: when it is no such address.
    """
    if url.startswith(_WEB):
        return fetch_url(url, settings)
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not key:
        raise SettingsError(f"{url!r:.300}: give s3://bucket/key, or http(s)://...")
    source = open_source(f"s3://{bucket}", settings)
    found = source.probe(key)
    if found.size > settings.limits.bytes:
        raise SourceError(f"{url!r:.300} holds {found.size} bytes; raise DAM_DEDUP_LIMITS__BYTES")
    return source.read(key, found.etag, settings.limits.bytes)


def analyze_one(data: bytes, settings: Settings) -> Analysis:
    """The analysis of one image, with a model loaded for it alone.

    Raises:
        ImageError: when it gives no picture.
    """
    with Analyzer(settings) as analyzer:
        (found,) = analyzer.analyze([data])
    if isinstance(found, ImageError):
        raise found
    return found

"""The commands of single images: analyze, check, update."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from deployments.cli.help_pages import FIND, INTAKE, add
from deployments.cli.options import CatalogUri, Json, SourceUri, check_filters, pairs, read_settings

if TYPE_CHECKING:
    from tasks.intake.analyze import Analyzer
    from tasks.records import Analysis, Checked, CheckQuestion
    from tasks.settings import Settings

NamedValues = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be given more than once.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    add(app, FIND, check, analyze)
    add(app, INTAKE, update)


def check(
    target: Annotated[str, typer.Argument(help="What to look for; see above.")],
    source: SourceUri = "",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare only with assets that pass, e.g. \"label = 'shoes'\". May be "
            "given more than once: all must hold."
        ),
    ] = None,
    fq: Annotated[
        list[str] | None,
        typer.Option(help="The same as field:value or -field:value; see docs/filters.md."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Lowest score found, 0.5 to 1 (default 0.7).")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Findings on one page.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Findings before the page.")] = 0,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Key or asset id to leave out; may be repeated.")
    ] = None,
    mode: Annotated[
        str, typer.Option(help="How neighbours are searched: auto, balanced, speed or exact.")
    ] = "auto",
    fields: Annotated[
        str, typer.Option(help="Only these fields of a finding, comma-separated; with --json.")
    ] = "",
    asset: Annotated[
        bool, typer.Option("--asset", help="TARGET is a key or an asset id, never a file.")
    ] = False,
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Is this image already there? Compare one image with the catalog, without a scan.

    TARGET is a file, an analysis (*.json, by `dam-dedup analyze`), - for an image on standard
    input, http(s)://..., s3://bucket/key, or the key or id of an asset of the catalog. A check
    adds no image to the catalog. Every match was verified, as in a scan.

        dam-dedup check new.jpg

        dam-dedup check photos/summer.jpg --where "tags.agency = 'north'" --threshold 0.5

        curl -s https://example.com/a.jpg | dam-dedup check - --json --fields key,score

    Exits with 0, whether something was found or not; --json tells by "total".
    """
    settings = read_settings(catalog)
    filtered = check_filters(*where or [], fq=fq)

    from deployments.cli.output import print_json
    from reports.check import check_lines, checked_data
    from tasks.records import CheckQuestion

    question = CheckQuestion(
        source=source,
        where=filtered,
        threshold=settings.match.threshold if threshold is None else threshold,
        limit=limit,
        offset=offset,
        exclude=tuple(exclude or ()),
        mode=mode,
    )
    checked = _checked(settings, target, question, only_asset=asset)
    if as_json:
        chosen = [name.strip() for name in fields.split(",") if name.strip()]
        print_json(checked_data(checked, question, chosen))
        return
    for line in check_lines("standard input" if target == "-" else target, checked, question):
        typer.echo(line)


def analyze(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Images; - for stdin.")],
    catalog: CatalogUri = None,
) -> None:
    """Analyse images once: hashes, vector, thumbnail and facts as JSON, for check and update.

    One image gives one JSON document. Several give a line each, {"file": ..., "analysis": ...},
    or "error" where an image gives no picture.

        dam-dedup analyze a.jpg > a.json && dam-dedup check a.json

        dam-dedup analyze *.jpg > all.jsonl

    The document is sealed with DAM_DEDUP_GATE__SECRET, or with a key kept beside the catalog. It
    is good for as long as the key, the model and its settings stay what they are.
    """
    settings = read_settings(catalog)
    for name in files:
        if name != "-":
            _open(name).close()

    from tasks.errors import ImageError
    from tasks.intake.analyze import Analyzer, analysis_json

    failed = False
    with Analyzer(settings) as analyzer:
        size = settings.embedding.batch_size
        for start in range(0, len(files), size):
            names = files[start : start + size]
            found = analyzer.analyze([_read(name, settings) for name in names])
            for name, one in zip(names, found, strict=True):
                if isinstance(one, ImageError):
                    failed = True
                    if len(files) == 1:
                        raise one
                    typer.echo(json.dumps({"file": name, "error": f"{one.reason}: {one}"}))
                    continue
                document = analysis_json(one, settings)
                several = {"file": name, "analysis": document}
                typer.echo(json.dumps(document if len(files) == 1 else several))
    if failed:
        raise typer.Exit(1)


def update(
    key: Annotated[str, typer.Argument(help="The object's key; in gate://NAME, an id of yours.")],
    image: Annotated[str, typer.Argument(help="The image, or its analysis (*.json); - for stdin.")],
    source: SourceUri = "",
    name: Annotated[str, typer.Option(help="What people call it (gate:// only).")] = "",
    tag: NamedValues = None,
    metadata: NamedValues = None,
    etag: Annotated[str, typer.Option(help="The ETag that the object must have.")] = "",
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Put one analysed image into the catalog, so that checks find it and no scan reads it again.

    In a bucket or a folder the object must be there, and be the one that was analysed. A
    collection gate://NAME lives in the catalog alone: any key makes an asset.

        dam-dedup update photos/a.jpg a.json --etag 9b2cf535f27731c974343645a3985328

        dam-dedup update 4711 a.jpg --source gate://shop --tag label=shoes
    """
    settings = read_settings(catalog)
    tags, texts = pairs(tag, "--tag"), pairs(metadata, "--metadata")
    if image != "-":
        _open(image).close()

    from deployments.cli.output import print_json
    from tasks.intake.analyze import Analyzer
    from tasks.intake.update import update_asset

    with Analyzer(settings) as analyzer:
        analysis = _analysis(image, settings, analyzer)
        asset = update_asset(
            settings,
            analysis,
            key,
            source=source,
            tags=tags,
            metadata=texts,
            name=name,
            etag=etag,
            analyzer=analyzer,
        )
    if as_json:
        print_json({"asset_id": asset, "key": key})
    else:
        typer.echo(f"{key}: asset {asset}")


def _checked(
    settings: Settings, target: str, question: CheckQuestion, *, only_asset: bool
) -> Checked:
    from tasks.intake.analyze import Analyzer
    from tasks.intake.check import Checker
    from tasks.intake.check_request import analyze_one, known_asset, read_image

    checker = Checker(settings)
    if only_asset:
        return checker.check_asset(target, question)
    if target.startswith(("http://", "https://", "s3://")):
        known = known_asset(target, settings)
        if known:
            return checker.check_asset(known, question)
        return checker.check(analyze_one(read_image(target, settings), settings), question)
    if target == "-" or _is_file(target):
        with Analyzer(settings) as analyzer:
            return checker.check(_analysis(target, settings, analyzer), question)
    return checker.check_asset(target, question)


def _analysis(name: str, settings: Settings, analyzer: Analyzer) -> Analysis:
    from tasks.errors import AnalysisError, ImageError
    from tasks.intake.analyze import read_analysis

    data = _read(name, settings)
    if not name.lower().endswith(".json"):
        (found,) = analyzer.analyze([data])
        if isinstance(found, ImageError):
            raise found
        return found
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise AnalysisError(f"{name} is no JSON; write one with `dam-dedup analyze`") from None
    if isinstance(document, dict) and "analysis" in document:
        document = document["analysis"]
    return read_analysis(document, settings, analyzer.space)


def _read(name: str, settings: Settings) -> bytes:
    """The bytes of a file or of standard input, one more than allowed at most."""
    most = settings.limits.bytes + 1
    if name == "-":
        return sys.stdin.buffer.read(most)
    with _open(name) as file:
        return file.read(most)


def _open(name: str) -> BinaryIO:
    from tasks.errors import SourceError

    try:
        return Path(name).open("rb")
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"cannot read {name!r}: {text}") from None


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False

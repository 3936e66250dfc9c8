"""``dam-dedup calibrate``: the threshold that suits a collection, by pairs a person labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.help_pages import Command, Group
from deployments.cli.options import CatalogUri, Json, read_settings

if TYPE_CHECKING:
    import polars as pl

    from reports.labelling import DrawnPair
    from tasks.records import Scan
    from tasks.settings import Settings

calibrate_app = typer.Typer(
    cls=Group,
    help="Choose a collection's threshold by labelling a sample of its pairs.",
    no_args_is_help=True,
)


@calibrate_app.command("sample", cls=Command)
def sample(
    out: Annotated[Path, typer.Option("--out", help="Folder for labels.csv and label.html.")],
    catalog: CatalogUri = None,
    pairs: Annotated[int, typer.Option(help="How many pairs to label.", min=7)] = 120,
    seed: Annotated[int, typer.Option(help="Another seed draws other pairs.", min=0)] = 0,
) -> None:
    """Draw pairs of the last scan to be labelled; open label.html to do so.

    As many pairs are drawn from each range of scores. A low bound of 0.99 for the precision takes
    at least 381 labels above the threshold; 120 pairs show where it lies roughly.

        dam-dedup calibrate sample --out labels --pairs 400
    """
    from reports.labelling import label_page, labels_csv
    from tasks.delivery.folder import write_documents
    from tasks.errors import SettingsError
    from tasks.session import open_catalog

    if (out / "labels.csv").exists():  # it may hold an afternoon's verdicts
        raise SettingsError(f"{out / 'labels.csv'} is there already; choose another --out")
    settings = read_settings(catalog)
    drawn = draw_pairs(_last_pairs(settings)[1], pairs, seed)
    contents = {name for pair in drawn for name in (pair.left_content, pair.right_content)}
    found = open_catalog(settings).read_keys("thumbnails", ["content", "jpeg"], contents)
    documents = [labels_csv(drawn), label_page(drawn, dict(found.iter_rows()))]
    for receipt in write_documents(out, documents):
        typer.echo(receipt.place)
    typer.echo(
        f"{len(drawn)} pairs drawn. Open label.html in a browser, label, export, and then: "
        "dam-dedup calibrate read labels.csv"
    )


@calibrate_app.command("read", cls=Command)
def read(
    labels: Annotated[Path, typer.Argument(help="labels.csv with verdicts.", dir_okay=False)],
    catalog: CatalogUri = None,
    as_json: Json = False,
) -> None:
    """Read verdicts back: precision and recall at each threshold, and which one to set.

    The result is kept in the catalog.

        dam-dedup calibrate read labels/labels.csv
    """
    from deployments.bench.labels import assess, read_labels
    from tasks.catalog import schema
    from tasks.dedup.verify import rule_id
    from tasks.records import digest, now
    from tasks.session import open_catalog, pa_table

    rows = read_labels(labels)
    settings = read_settings(catalog)
    scan, pairs = _last_pairs(settings)
    result = assess(rows, pairs)
    verdicts = sorted(f"{row.pair_id} {row.verdict}" for row in rows)
    stored = {
        # The same verdicts read twice are one calibration.
        "calibration_id": digest(scan.scope, rule_id(), *verdicts),
        "scope": scan.scope,
        "rule": rule_id(),
        "made": now(),
        "labelled": result["labelled"],
    }
    kept = open_catalog(settings)
    with kept.writing(settings.catalog.busy_seconds):
        kept.upsert(
            "calibrations",
            pa_table([stored | {"result": json.dumps(result)}], schema.TABLES["calibrations"]),
        )
    if as_json:
        typer.echo(json.dumps(stored | {"made": stored["made"].isoformat()} | result))
    else:
        for line in _words(result):
            typer.echo(line)


def draw_pairs(pairs: pl.DataFrame, wanted: int, seed: int) -> list[DrawnPair]:
    """A stratified sample, in the order in which it is to be labelled.

    Args:
        pairs: pair_id, left, right (contents), left_key, right_key, score; all of the scope.
        wanted: how many in all.
        seed: the same seed draws the same pairs in the same order.

    Raises:
        CatalogError: when there is nothing to draw from.
    """
    import numpy as np

    from reports.labelling import DrawnPair
    from tasks.dedup.estimate import EDGES, allocate, stratum_name, stratum_of
    from tasks.errors import CatalogError

    ordered = pairs.sort("pair_id")
    strata = stratum_of(ordered["score"].to_numpy())
    members = [np.flatnonzero(strata == number) for number in range(len(EDGES) - 1)]
    populations = [len(rows) for rows in members]
    if not sum(populations):
        raise CatalogError(
            f"the last scan has no pairs with a score of {EDGES[0]} or more; scan more assets"
        )
    generator = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            generator.choice(rows, size, replace=False)
            for rows, size in zip(members, allocate(populations, wanted), strict=True)
        ]
    )
    generator.shuffle(chosen)
    return [
        DrawnPair(
            pair_id=row["pair_id"],
            left=row["left_key"],
            right=row["right_key"],
            left_content=row["left"],
            right_content=row["right"],
            score=round(row["score"], 6),
            stratum=stratum_name(int(strata[at])),
            population=populations[strata[at]],
        )
        for at, row in zip(chosen, ordered[chosen].iter_rows(named=True), strict=True)
    ]


def _words(result: dict[str, Any]) -> list[str]:
    lines = [
        "{pairs} pairs: {labelled} labelled ({duplicates} duplicate, {distinct} distinct), "
        "{unsure} unsure, {unlabelled} without a verdict, {unknown} unknown to the last "
        "scan".format(**result),
        "threshold    pairs  labels  precision (95 %)        recall of verified (95 %)",
    ]
    for at in result["thresholds"]:
        spans = [
            ("-" if at[name]["estimate"] is None else f"{at[name]['estimate']:.3f}")
            + f" ({at[name]['low']:.3f} to {at[name]['high']:.3f})"
            for name in ("precision", "recall")
        ]
        lines.append(
            f"{at['threshold']:<9} {at['population']:>8,} {at['labelled']:>7,}  "
            f"{spans[0]:<22}  {spans[1]}"
        )
    return [*lines, result["advice"]]


def _last_pairs(settings: Settings) -> tuple[Scan, pl.DataFrame]:
    """The last scan, and its verified pairs with the first key of each side."""
    import polars as pl

    from tasks.queries.matches import read_pairs
    from tasks.queries.pair_answers import name_pairs
    from tasks.reporting.summarize import last_scan
    from tasks.session import open_catalog, open_source, scope_sql

    scan, space, _, _ = last_scan(settings)
    catalog = open_catalog(settings)
    where = scope_sql(scan, open_source(scan.source, settings))
    assets = catalog.read("assets", ["content", "key"], where).drop_nulls("content")
    keys = assets.group_by("content").agg(pl.col("key").min())
    pairs = (
        name_pairs(read_pairs(catalog, scan, space))
        .join(keys.rename({"content": "left", "key": "left_key"}), on="left")
        .join(keys.rename({"content": "right", "key": "right_key"}), on="right")
        .with_columns(pl.col("score").cast(pl.Float64))
    )
    return scan, pairs

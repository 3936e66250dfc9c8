"""The overview of a report: what comes before the groups, as data for the template."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from reports import charts, words
from reports.charts import Chart
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE
from tasks.records import Role
from tasks.summary import Summary

#: Keys named for each reason; coverage.csv has them all.
KEYS_PER_REASON = 20
_BIN = 0.02
_BARS = 8
#: Tags and user metadata in which DAMs keep who brought an asset.
_UPLOADERS = ("uploader", "uploaded-by", "uploaded_by", "uploadedby", "owner", "creator")


def outcomes(summary: Summary) -> list[dict[str, Any]]:
    """What was not scanned: outcome, reason, count and the first keys, failures first."""
    return (
        summary.coverage.outcomes.group_by("outcome", "reason")
        .agg(
            pl.len().alias("count"),
            pl.struct("key", "message").sort_by("key").head(KEYS_PER_REASON).alias("examples"),
        )
        .sort(pl.col("outcome") != "failed", "count", "reason", descending=[False, True, False])
        .to_dicts()
    )


def money(summary: Summary) -> str:
    """What the duplicates cost a month, where storage has a price."""
    saved = float(summary.groups["savings"].sum()) / 1e9 * summary.cost_per_gb_month
    if not summary.cost_per_gb_month or not saved:
        return ""
    if saved < 0.01:
        return words.text("money.less")
    return words.text("money", amount=words.decimal(saved, ",.2f"))


def draw_charts(summary: Summary) -> list[Chart]:
    """The charts that have something to show."""
    duplicates = summary.members.filter(pl.col("role") == Role.DUPLICATE.value)
    made: list[Chart | None] = [_scores(summary)]
    if duplicates.height:
        made += [_by_prefix(duplicates), _by_month(duplicates), _by_format(duplicates)]
        made += [_by_uploader(summary, duplicates)]
    return [chart for chart in [*made, _history(summary)] if chart is not None]


def _scores(summary: Summary) -> Chart | None:
    if summary.pairs.is_empty():
        return None
    low = min(0.5, summary.threshold)
    bins = round((1 - low) / _BIN)
    place = ((pl.col("score") - low) / _BIN + 1e-6).floor().cast(pl.Int32).clip(0, bins - 1)
    counted = dict(summary.pairs.group_by(place.alias("bin")).len().iter_rows())
    values, kinds = [], []
    for number in range(bins):
        start = low + number * _BIN
        pairs = counted.get(number, 0)
        values.append((f"{start:.2f}", float(pairs), words.counted(pairs, "pair")))
        tier = "exact" if start >= EXACT_SCORE - 1e-6 else "near"
        kinds.append(f"bar {tier if start >= NEAR_SCORE - 1e-6 else 'similar'}")
    lines = [
        (NEAR_SCORE, _from("near", NEAR_SCORE)),
        (EXACT_SCORE, _from("exact", EXACT_SCORE)),
    ]
    threshold = words.decimal(summary.threshold, "g")
    if abs(summary.threshold - NEAR_SCORE) > 1e-6:
        lines.insert(0, (summary.threshold, words.text("chart.line.threshold", score=threshold)))
    return charts.columns(
        words.text("chart.scores"),
        values,
        head=(words.text("chart.scores.from"), words.text("chart.pairs")),
        lines=[((at - low) / (1 - low), name) for at, name in lines],
        kinds=kinds,
        note=words.text("chart.scores.note", score=threshold),
    )


def _from(tier: str, score: float) -> str:
    """From which score on a pair is of a tier."""
    return words.text(
        "chart.line.from", tier=words.tier_words(tier), score=words.decimal(score, "g")
    )


def _by_prefix(duplicates: pl.DataFrame) -> Chart:
    folder = pl.col("key").str.extract(r"^(.*/)", 1).fill_null(words.text("chart.top"))
    return _bars("prefix", duplicates, folder)


def _by_format(duplicates: pl.DataFrame) -> Chart | None:
    if duplicates["format"].n_unique() < 2:
        return None
    return _bars("format", duplicates, pl.col("format").str.to_uppercase())


def _bars(by: str, duplicates: pl.DataFrame, name: pl.Expr) -> Chart:
    counted = (
        duplicates.group_by(name.alias("name"))
        .agg(pl.len().alias("n"), pl.col("size").sum())
        .sort(["n", "name"], descending=[True, False])
    )
    # One more than fit is named too: a bar for "1 others" would take the same room.
    named = counted.head(_BARS if counted.height > _BARS + 1 else counted.height)
    rest = counted.slice(named.height)
    values = [
        (label, float(number), f"{words.grouped(number)}, {words.human_bytes(size)}")
        for label, number, size in named.iter_rows()
    ]
    if rest.height:
        total = int(rest["n"].sum())
        size = words.human_bytes(int(rest["size"].sum()))
        others = words.text("chart.others", number=words.grouped(rest.height))
        values.append((others, float(total), f"{words.grouped(total)}, {size}"))
    head = (words.text(f"chart.{by}.head"), words.text("chart.duplicates"))
    return charts.bars(words.text(f"chart.{by}"), values, head=head)


def _by_month(duplicates: pl.DataFrame) -> Chart | None:
    counted = (
        duplicates.group_by(pl.col("last_modified").dt.truncate("1mo").alias("month"))
        .len()
        .sort("month")
        .drop_nulls("month")
    )
    if counted.height < 2:
        return None
    spread = counted.upsample("month", every="1mo").tail(36)  # months without any are shown too
    values = [
        (f"{month:%Y-%m}", float(number or 0), words.counted(number or 0, "duplicate"))
        for month, number in spread.iter_rows()
    ]
    head = (words.text("chart.month.head"), words.text("chart.duplicates"))
    return charts.columns(words.text("chart.month"), values, head=head)


def _by_uploader(summary: Summary, duplicates: pl.DataFrame) -> Chart | None:
    if summary.described is None:
        return None
    wanted = summary.described.join(duplicates.select("asset_id"), on="asset_id", how="semi")
    found = {}
    for asset, tags, metadata in wanted.select("asset_id", "tags", "metadata").iter_rows():
        said = json.loads(tags or "{}") | json.loads(metadata or "{}")
        lower = {str(name).lower(): value for name, value in said.items()}
        who = next((lower[name] for name in _UPLOADERS if lower.get(name)), None)
        if who is not None:
            found[asset] = str(who)
    if not found:
        return None
    named = pl.DataFrame({"asset_id": list(found), "who": list(found.values())})
    rows = duplicates.join(named, on="asset_id", how="left").with_columns(
        pl.col("who").fill_null(words.text("chart.unsaid"))
    )
    return _bars("uploader", rows, pl.col("who"))


def _history(summary: Summary) -> Chart | None:
    """What could be saved, scan by scan; of scans that kept no bytes, what was found."""
    past = summary.past
    if past is None or past.is_empty():
        return None
    now = {
        "finished": summary.finished,
        "duplicates": summary.members.height - summary.groups.height,
        "savings": int(summary.groups["savings"].sum()),
    }
    rows = [*past.tail(23).iter_rows(named=True), now]
    in_bytes = all(row["savings"] is not None for row in rows)
    values = [
        (
            f"{row['finished']:%m-%d}",
            float(row["savings"] if in_bytes else row["duplicates"]),
            words.human_bytes(row["savings"])
            if in_bytes
            else words.counted(row["duplicates"], "duplicate"),
        )
        for row in rows
    ]
    title = words.text("chart.history.bytes" if in_bytes else "chart.history")
    head = (words.text("chart.scan"), words.text("chart.saved" if in_bytes else "chart.found"))
    return charts.columns(title, values, head=head)

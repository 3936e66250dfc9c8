"""Schema 3: tables and columns are called what the field calls them."""

from __future__ import annotations

from tasks.catalog.migrations.changes import Migration, NewColumns, NewTable

_MEASURED = {
    "best": "recall_at_1",
    "sample": "sample_size",
    "ranked": "compared_share",
    "neighbours": "list_length",
}

PLAIN_NAMES = Migration(
    version=3,
    title="plain names of tables and columns",
    changes=(
        NewTable(
            "cells",
            "centroids",
            {"cells_id": "centroids_id", "count": "trained_on", "centres": "centroids"} | _MEASURED,
        ),
        NewTable("homes", "assignments", {"home_id": "assignment_id", "cells": "lists"}),
        NewTable("across", "cross_filters", {"across": "reference_filter"}),
        NewTable(
            "screened",
            "screening_progress",
            {"screen_id": "progress_id", "against": "screened_against", "upto": "up_to_entry"},
        ),
        NewTable("notices", "last_events", {"notice_id": "asset_id"}),
        NewColumns("searches", _MEASURED),
        NewColumns(
            "reports",
            {"facts": "provenance", "notes": "plan_notes", "tables": "table_versions"},
        ),
        NewColumns("decisions", {"door": "channel"}),
        NewColumns("verdicts", {"door": "channel"}),
        NewColumns("alerts", {"door": "channel"}),
        NewColumns("admissions", {"door": "channel", "answers": "answer_to"}),
        NewColumns("blocklist", {"plain": "featureless"}),
    ),
)

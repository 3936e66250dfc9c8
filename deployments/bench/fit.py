"""``dam-dedup bench fit``: make the score's coefficients anew from a planted collection."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deployments.bench.hard_pairs import document_pairs, measure_hard_pairs, template_pairs
from deployments.bench.plant import TRUTH, read_truth
from deployments.bench.quality import bench_settings
from tasks.dedup.features import extract_features, use_one_thread
from tasks.dedup.verify import calibration, copy_terms, verify_pair
from tasks.errors import SettingsError
from tasks.progress import Progress, silent
from tasks.queries.matches import read_pairs
from tasks.records import now
from tasks.reporting.summarize import last_scan
from tasks.session import open_catalog

#: Coefficients that are fitted; the others (shear, ink) are set by hand: photographs show neither.
_FITTED = ("agree", "parallax", "others", "log_inliers", "residual")
#: A typical spread of each, so that one penalty suits all.
_SPREAD = (0.3, 0.5, 0.3, 1.0, 0.5)
_PENALTY = 2e-3


def fit_calibration(work: Path, most: int = 3000, progress: Progress = silent) -> dict[str, Any]:
    """Fit the logit "copy or another shot" to the pairs of a ``bench quality --work`` folder.

    Args:
        work: the folder, with its planted files, truth and catalog.
        most: copies, and as many other pairs, that are measured.
        progress: told how far it is.

    Returns:
        The content of ``calibration.json``, with what the fit leaves wrong.

    Raises:
        SettingsError: when the folder holds no such run.
    """
    table = work / "planted" / TRUTH
    if not table.exists():
        raise SettingsError(f"{work} holds no run of `dam-dedup bench quality --work {work}`")
    terms, copies = _measure(work, _labelled(work, read_truth(table), most), progress)
    hard = measure_hard_pairs((*template_pairs(work / "planted"), *document_pairs()))
    if hard:
        terms = np.vstack([terms.reshape(-1, len(_FITTED)), _rows(hard)])
        copies = np.concatenate([copies, np.zeros(len(hard), np.bool_)])
    if len(set(copies.tolist())) < 2:
        raise SettingsError(f"{work}: too few pairs of both kinds that can be aligned")
    weights, bias = _logistic(terms, copies)
    logit = terms @ weights + bias
    known = calibration()
    wrong = {
        "others_above": int((logit[~copies] >= known.copy_at).sum()),
        "copies_below": int((logit[copies] < known.copy_at).sum()),
    }
    copy = known.copy | {
        name: round(float(value), 3) for name, value in zip(_FITTED, weights, strict=True)
    }
    return {
        "provenance": {
            "date": now().date().isoformat(),
            "data": f"{int(copies.sum())} copies and {int((~copies).sum())} other pairs, aligned, "
            f"of {work.name}; {len(hard)} of the others in one template or of one document family",
            "fit": "logistic regression of copies against other shots; tiers and prices as before",
            "wrong": wrong,
            "made_by": "dam-dedup bench fit",
        },
        "calibration": {
            "version": now().date().isoformat(),
            "copy": copy | {"bias": round(bias, 3)},
            "copy_at": known.copy_at,
            "exact": known.exact,
            "near": known.near,
            "hue_error": known.hue_error,
        },
    }


def _labelled(work: Path, truth: pl.DataFrame, most: int) -> pl.DataFrame:
    """left, right (contents), copy: the best-scored of both kinds, where the limit must lie."""
    settings = bench_settings(work, None)
    catalog = open_catalog(settings)
    scan, space, _, _ = last_scan(settings)
    groups = (
        catalog.read("assets", ["key", "content"])
        .join(truth.select(pl.col("file").alias("key"), "group"), on="key")
        .group_by("content")
        .agg(pl.col("group").unique())
    )
    pairs = read_pairs(catalog, scan, space)
    for side, name in (("left", "one"), ("right", "two")):
        pairs = pairs.join(groups.rename({"content": side, "group": name}), on=side)
    pairs = pairs.with_columns(
        (pl.col("one").list.set_intersection("two").list.len() > 0).alias("copy")
    )
    return pl.concat(
        [
            pairs.filter("copy").sample(fraction=1, shuffle=True, seed=0).head(most),
            pairs.filter(~pl.col("copy")).sort("score", descending=True).head(most),
        ]
    ).select("left", "right", "copy")


def _rows(measured: list[dict[str, float]]) -> np.ndarray[Any, Any]:
    return np.array([[terms[name] for name in _FITTED] for terms in measured], np.float64)


def _measure(
    work: Path, pairs: pl.DataFrame, progress: Progress
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    use_one_thread()
    catalog = open_catalog(bench_settings(work, None))
    names = pl.concat([pairs["left"], pairs["right"]]).unique()
    jpegs = dict(catalog.read_keys("thumbnails", ["content", "jpeg"], names).iter_rows())
    made = {name: extract_features(jpeg) for name, jpeg in jpegs.items()}
    terms, copies = [], []
    for done, (left, right, copy) in enumerate(pairs.iter_rows(), 1):
        answer = verify_pair(made[left], made[right])
        if answer.evidence is not None:
            terms.append(copy_terms(answer.evidence))
            copies.append(copy)
        progress("measure", done, pairs.height)
    return _rows(terms), np.array(copies, np.bool_)


def _logistic(
    terms: np.ndarray[Any, Any], copies: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], float]:
    """Weights and bias of a penalised logistic regression."""
    import torch

    spread = torch.tensor(_SPREAD, dtype=torch.float64)
    known, wanted = torch.from_numpy(terms) / spread, torch.from_numpy(copies.astype(np.float64))
    weights = torch.zeros(len(_FITTED) + 1, dtype=torch.float64, requires_grad=True)
    fit = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        fit.zero_grad()
        logit = known @ weights[:-1] + weights[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logit, wanted)
        value = value + _PENALTY * (weights[:-1] ** 2).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    fit.step(loss)  # type: ignore[no-untyped-call]
    found = (weights[:-1].detach() / spread).numpy()
    if not math.isfinite(float(found.sum())):
        raise SettingsError("the fit does not settle; measure more pairs")
    return found, float(weights[-1].detach())


def write_calibration(made: dict[str, Any], file: Path) -> None:
    """Write it as a file that can replace ``tasks/dedup/calibration.json``."""
    file.write_text(json.dumps(made, indent=2) + "\n")

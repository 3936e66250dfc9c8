"""Check: compare one image with a collection, without a scan.

Candidates are found as in a scan: equal bytes, equal pixels, one perceptual hash, the nearest by
the embedding; and all pairs that were ever verified with the picture. Each is verified, and what
claims to be the same picture is proven on the originals, so the result is what a scan would report
of that pair.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.catalog.search import choose_mode, nearest_contents
from tasks.dedup.origin import PictureFacts
from tasks.dedup.verdicts import VOUCHED, current
from tasks.dedup.verify import EXACT_SCORE, NEAR_SCORE, SIMILAR_SCORE
from tasks.errors import AssetGoneError, CatalogError, ImageError, SettingsError
from tasks.intake.candidate_scope import Scope, Scopes
from tasks.intake.check_proofs import CheckProver
from tasks.intake.findings import FACTS, finding
from tasks.intake.pair_verifier import ANSWERS, AskedPicture, PairVerifier
from tasks.queries.candidates import ALL_OF_ONE_HASH
from tasks.queries.readings import NO_PIXELS
from tasks.queries.scope_assets import original_document
from tasks.records import Analysis, Checked, CheckQuestion, Finding, Picture, Space
from tasks.session import default_source, live_sql, locate, open_catalog
from tasks.settings import Settings

#: For how many excluded assets further neighbours are looked up, to take their places.
_SUBSTITUTES = 200
_MODES = ("auto", "balanced", "speed", "exact")


class Checker:
    """Answers checks; threads may share it.

    Args:
        settings: with the catalog.
        patience: seconds that new answers may wait to be written to the catalog together, in a
            service; such a checker must be closed with :meth:`close`.
    """

    def __init__(self, settings: Settings, patience: float = 0.0) -> None:
        self._settings = settings
        self._answers = PairVerifier(settings.match, patience)
        self._proofs = CheckProver(settings)
        self._lock = threading.Lock()
        self._opened: Catalog | None = None
        self._scopes = Scopes()
        self._known_spaces: tuple[tuple[int, int], list[Space]] | None = None

    def check(self, analysis: Analysis, question: CheckQuestion) -> Checked:
        """What an image matches, whether the catalog has it or not.

        An image that is not in the catalog leaves no trace there.

        Raises:
            FilterError: when the filter is wrong.
            SettingsError: when the source or the threshold is.
            AnalysisError: when the analysis' thumbnail cannot be read.
        """
        return self._check(self._catalog(analysis.space), analysis, question, "")

    def check_asset(self, name: str, question: CheckQuestion) -> Checked:
        """What an asset matches; itself is not listed.

        Args:
            name: asset id or key; a key counts in the question's source.
            question: where no source is named, the asset's own is meant.

        Raises:
            AssetGoneError: when the catalog has no such asset.
            ImageError: when it gave no picture.
        """
        catalog = self._catalog()
        row = self._find(catalog, name, question.source)
        analysis = _stored(catalog, row, self._spaces(catalog))
        if not question.source and not self._is_default(row["source"]):
            question = replace(question, source=row["source"])
        return self._check(self._catalog(analysis.space), analysis, question, row["asset_id"])

    def why_not_compared(self, analysis: Analysis, match: Finding) -> str:
        """Compare the originals of an image and of a match that decides about it.

        A check compares what claims to be the same picture. Who acts on another match, as an
        upload's policy does on a ``near`` one, asks for that comparison here.

        Args:
            analysis: of the image, as it was checked.
            match: what was found.

        Returns:
            Why they cannot be compared at full size; empty where they were.
        """
        catalog = self._catalog(analysis.space)
        asked = _asked(catalog, analysis, "")
        return self._proofs.why_not_compared(catalog, analysis, asked, match)

    def close(self) -> None:
        """Write the answers that still wait to be written, and end the processes that decode."""
        with self._lock:
            catalog = self._opened
        if catalog is not None:
            self._answers.write(catalog)
        self._proofs.close()

    # ---- the order of a check ----------------------------------------------------------------

    def _check(
        self, catalog: Catalog, analysis: Analysis, question: CheckQuestion, own: str
    ) -> Checked:
        _check_question(question)
        uri = question.source or default_source(catalog, self._settings)
        where = live_sql(*locate(uri, self._settings), question.where)
        scope = self._scopes.of(catalog, where)
        asked = _asked(catalog, analysis, own)
        said = _verdicts(catalog, own)
        vouched = said.filter(verdict="duplicate")["content"]

        equal = scope.equal(analysis.picture)
        known = self._answers.known(catalog, asked)
        known = known.filter(scope.holds(known["content"]))
        near = self._near(catalog, scope, analysis, question)
        wanted = pl.concat([near, _same_hash(scope, analysis.picture)]).unique().sort()
        wanted = wanted.filter(~wanted.is_in(equal.implode()))
        new = wanted.filter(~wanted.is_in(known["content"].implode()))
        verified = self._answers.verify(catalog, asked, new.to_list())
        settled = self._proofs.settle(catalog, analysis, asked, pl.concat([known, verified]))
        answers = _vouch(settled, vouched)
        answers = answers.filter(~pl.col("content").is_in(equal.implode()))

        least = max(question.threshold, SIMILAR_SCORE)
        keep = (pl.col("score") >= least) | pl.col("content").is_in(vouched.implode())
        sure = pl.DataFrame({"content": equal, "score": 1.0, "evidence": None}, schema=ANSWERS)
        matches = pl.concat([sure, answers.filter(keep)])
        assets = _assets(catalog, where, matches["content"])
        found = assets.join(matches, on="content").join(
            said.select("asset_id", "verdict"), on="asset_id", how="left"
        )
        left_out = [own, *question.exclude]
        found = found.filter(
            ~pl.col("asset_id").is_in(left_out) & ~pl.col("key").is_in(list(question.exclude))
        )
        listed = (
            _linked(catalog, asked, found)
            .filter(pl.col("verdict").ne_missing("distinct"))
            .sort("score", "key", "asset_id", descending=[True, False, False])
        )
        page = listed.slice(question.offset, question.limit).iter_rows(named=True)
        picture, side = analysis.picture, _side(analysis)
        return Checked(
            found=tuple(finding(row, picture, side) for row in page),
            total=listed.height,
            candidates=len(equal) + answers.height,
            verified=verified.height,
            silenced=found.height - listed.height,
            mode=choose_mode(len(scope.contents), question.mode),
            space=analysis.space,
        )

    def _near(
        self, catalog: Catalog, scope: Scope, analysis: Analysis, question: CheckQuestion
    ) -> pl.Series:
        if scope.contents.is_empty():
            return scope.contents
        # The image itself and the excluded assets are among the nearest, so more are asked for.
        k = self._settings.match.check_neighbours + 1 + min(len(question.exclude), _SUBSTITUTES)
        vectors = np.asarray(analysis.vector, dtype=np.float32)[None, :]
        found = nearest_contents(
            catalog, analysis.space, vectors, k, mode=question.mode, among=scope.contents
        )
        others = found.filter(pl.col("content") != analysis.picture.content)
        return others["content"].head(k - 1)

    # ---- what is known -----------------------------------------------------------------------

    def _catalog(self, space: Space | None = None) -> Catalog:
        with self._lock:
            if self._opened is None:
                self._opened = open_catalog(self._settings)
            catalog = self._opened
        catalog.notice("assets", "thumbnails", "pairs", "proofs", "verdicts", "spaces", "scans")
        if space is not None:
            catalog.notice(f"vectors_{space.id}")
        return catalog

    def _spaces(self, catalog: Catalog) -> list[Space]:
        """The space of the last finished scan, then all others; read anew when tables change."""
        versions = (catalog.version("scans"), catalog.version("spaces"))
        with self._lock:
            held = self._known_spaces
        if held is not None and held[0] == versions:
            return held[1]
        finished = "starts_with(state, 'finished')"
        last = catalog.read("scans", ["started", "space"], finished)["space"].drop_nulls()
        newest = last[-1] if len(last) else ""
        rows = catalog.read("spaces", ["space", "model", "revision", "preprocessing", "dim"])
        ordered = rows.sort(pl.col("space") != newest, "space").drop("space")
        found = [Space(**row) for row in ordered.iter_rows(named=True)]
        with self._lock:
            self._known_spaces = (versions, found)
        return found

    def _is_default(self, source: str) -> bool:
        """Whether a source is that of the settings; then the settings' prefix applies as well."""
        uri = self._settings.source.uri
        return bool(uri) and locate(str(uri), self._settings)[0] == source

    def _find(self, catalog: Catalog, name: str, source: str) -> dict[str, Any]:
        """The asset with this id, or with this key in the source."""
        found = catalog.read("assets", _STORED, "false")
        if _ASSET_ID.fullmatch(name):
            found = catalog.read("assets", _STORED, f"asset_id = {quote(name)} AND {_LIVE}")
        if found.is_empty():
            found = catalog.read("assets", _STORED, f"key = {quote(name)} AND {_LIVE}")
            uri = source
            if found.height > 1 and not uri:
                uri = default_source(catalog, self._settings)
            if uri:
                found = found.filter(source=locate(uri, self._settings)[0])
        if found.is_empty():
            raise AssetGoneError(
                f"the catalog has no asset {name!r:.300}"
                + (f" in {source}" if source else "")
                + ": give a key of that source or an asset id, or scan the source first"
            )
        row = found.row(0, named=True)
        if row["content"] is None:
            raise ImageError(
                row["failed"] or row["skipped"] or "not_read",
                f"{row['key']!r} gave no picture: {row['message'] or 'it was not read yet'}",
            )
        return row


_ASSET_ID = re.compile(r"[0-9a-f]{32}")
_LIVE = "removed_at IS NULL"
_STORED = [
    "asset_id",
    "key",
    "source",
    "content",
    "phash",
    "sha256",
    "width",
    "height",
    "mode",
    "format",
    "quality",
    "size",
    "failed",
    "skipped",
    "message",
]


def _check_question(question: CheckQuestion) -> None:
    if not (math.isfinite(question.threshold) and question.threshold <= 1):
        raise SettingsError(f"threshold {question.threshold}: scores go from 0.5 to 1")
    if question.limit < 0 or question.offset < 0:
        raise SettingsError("limit and offset are not negative")
    if question.mode not in _MODES:
        raise SettingsError(f"mode {question.mode!r:.40}: use {', '.join(_MODES)}")


def _asked(catalog: Catalog, analysis: Analysis, own: str) -> AskedPicture:
    content = analysis.picture.content
    live = f"content = {quote(content)} AND removed_at IS NULL"
    known = bool(own) or catalog.count("assets", live) > 0
    return AskedPicture(content, known, analysis.picture.thumbnail)


def _stored(catalog: Catalog, row: dict[str, Any], spaces: Iterable[Space]) -> Analysis:
    """The analysis of an asset, as far as the catalog keeps it and a check needs it."""
    space, vector = _vector(catalog, row["content"], spaces)
    picture = Picture(
        sha256=row["sha256"],
        content=row["content"],
        phash=row["phash"],
        width=row["width"],
        height=row["height"],
        mode=row["mode"],
        format=row["format"],
        quality=row["quality"],
        thumbnail=b"",
        pixels=NO_PIXELS,
    )
    return Analysis(picture, vector, space, row["size"])


def _vector(
    catalog: Catalog, content: str, spaces: Iterable[Space]
) -> tuple[Space, np.ndarray[Any, np.dtype[np.float16]]]:
    """A content's vector in the first of the spaces that has one."""
    for space in spaces:
        name = f"vectors_{space.id}"
        catalog.notice(name)
        if not catalog.version(name):
            continue
        found = catalog.read_arrow(name, ["vector"], f"content = {quote(content)}")
        if len(found):
            return space, np.array(found["vector"][0].as_py(), dtype=np.float16)
    raise CatalogError(f"the catalog has no vector of {content}: scan its source again")


def _same_hash(scope: Scope, picture: Picture) -> pl.Series:
    """Contents of one perceptual hash that a scan would make pairs of with the picture.

    That is all of them up to :data:`ALL_OF_ONE_HASH`; of more, the first one.
    """
    names = scope.of_hash(picture)
    if len(names) < ALL_OF_ONE_HASH or picture.content < names[0]:
        return names
    return names.head(1)


def _verdicts(catalog: Catalog, own: str) -> pl.DataFrame:
    """People's verdicts on an asset and others, whose pictures have not changed since.

    Returns:
        asset_id, content (of the other asset), verdict.
    """
    empty = pl.DataFrame(schema=dict.fromkeys(("asset_id", "content", "verdict"), pl.String))
    if not own:
        return empty
    columns = ["sequence", "left_asset", "right_asset", "left", "right", "verdict"]
    where = f"left_asset = {quote(own)} OR right_asset = {quote(own)}"
    said = catalog.read("verdicts", columns, where)
    if said.is_empty():
        return empty
    names = {own, *said["left_asset"], *said["right_asset"]}
    live = catalog.read_keys("assets", ["asset_id", "content", "removed_at"], names)
    assets = live.filter(pl.col("removed_at").is_null()).select("asset_id", "content")
    first = pl.col("left_asset") == own
    return current(said, assets).select(
        pl.when(first).then("right_asset").otherwise("left_asset").alias("asset_id"),
        pl.when(first).then("right").otherwise("left").alias("content"),
        "verdict",
    )


def _linked(catalog: Catalog, asked: AskedPicture, found: pl.DataFrame) -> pl.DataFrame:
    """What was found, with the verdict ``linked`` where both come from one document.

    As in a scan, that is where both have one XMP OriginalDocumentID, unless they show no difference
    or a person gave a verdict.
    """
    others = found.filter(pl.col("content") != asked.content)["content"].unique().to_list()
    if not asked.known or not others:
        return found
    names = ", ".join(quote(name) for name in [asked.content, *others])
    rows = catalog.read(
        "assets", ["content", "xmp", "sidecar_xmp"], f"content IN ({names}) AND removed_at IS NULL"
    )
    rows = rows.select("content", original_document()).drop_nulls()
    own = rows.filter(content=asked.content)["document"]
    linked = rows.filter(pl.col("document").is_in(own.implode()))["content"]
    one_document = pl.col("content").is_in(linked.implode()) & (pl.col("content") != asked.content)
    return found.with_columns(
        pl.when(one_document & (pl.col("score") < EXACT_SCORE) & pl.col("verdict").is_null())
        .then(pl.lit("linked"))
        .otherwise("verdict")
        .alias("verdict")
    )


def _vouch(answers: pl.DataFrame, vouched: pl.Series) -> pl.DataFrame:
    """The answers, with a duplicate's score where a person called the two duplicates."""
    sworn = pl.col("content").is_in(vouched.implode())
    score = (
        pl.when(sworn & (pl.col("score") < NEAR_SCORE))
        .then(pl.lit(VOUCHED, pl.Float32))
        .otherwise("score")
    )
    missing = vouched.unique().sort().to_frame("content").join(answers, on="content", how="anti")
    added = missing.select(
        "content",
        pl.lit(VOUCHED, pl.Float32).alias("score"),
        pl.lit(None, pl.String).alias("evidence"),
    )
    return pl.concat([answers.with_columns(score.alias("score")), added])


def _assets(catalog: Catalog, where: str, contents: Iterable[str]) -> pl.DataFrame:
    """The live assets of some contents, with their facts."""
    names = sorted(set(contents))
    parts = [catalog.read("assets", FACTS, "false")]
    for start in range(0, len(names), 500):
        listed = ", ".join(quote(name) for name in names[start : start + 500])
        parts.append(catalog.read("assets", FACTS, f"({where}) AND content IN ({listed})"))
    return pl.concat(parts)


def _side(analysis: Analysis) -> PictureFacts:
    picture = analysis.picture
    return PictureFacts(
        picture.width, picture.height, analysis.size, picture.format, picture.quality
    )

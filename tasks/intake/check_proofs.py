"""Proofs of one picture's pairs: what a scan does for all, done where somebody waits.

An upload is read at full size while its bytes are at hand, an asset from where it lies, and one of
a collection ``gate://`` from the picture that was kept of it. What has none of these is not proven,
and so ``near`` at most.
"""

from __future__ import annotations

import logging
import threading
from functools import partial

import polars as pl

from tasks.catalog.catalog import Catalog, quote
from tasks.dedup.evidence import Evidence
from tasks.dedup.originals import DIFFERS, READS, SAME, UNKNOWN, UNREADABLE, claimed
from tasks.dedup.proof_job import compare_originals
from tasks.embedding.decoder import DecoderPool
from tasks.errors import CatalogBusyError, SettingsError, SourceError
from tasks.intake.pair_verifier import ANSWERS, AskedPicture
from tasks.queries.comparison import Asked, Comparer, Original
from tasks.queries.proofs import KnownProofs, proof_rows
from tasks.queries.renditions import read_renditions
from tasks.records import Analysis, Finding
from tasks.session import open_source
from tasks.settings import Settings
from tasks.sources.collection import is_collection

log = logging.getLogger(__name__)

#: The most claims that one check proves, the best first; the others stay ``near``.
_MOST = 20
#: What originals say that were compared.
_COMPARED = (SAME, DIFFERS, READS, UNKNOWN)
_COLUMNS = ["content", "source", "key", "etag", "size", "width", "height"]


class CheckProver:
    """Compares originals for checks; threads may share it.

    Args:
        settings: with the limits of one image. The decoder processes start at the first claim.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._pool: DecoderPool | None = None

    def settle(
        self, catalog: Catalog, analysis: Analysis, asked: AskedPicture, answers: pl.DataFrame
    ) -> pl.DataFrame:
        """Answers of the thumbnails (content, score, evidence) with what the originals say."""
        other, own = pl.col("content"), pl.lit(asked.content)
        sided = answers.select(
            pl.min_horizontal(other, own).alias("left"),
            pl.max_horizontal(other, own).alias("right"),
            "score",
            "evidence",
        )
        proofs = KnownProofs(catalog, [asked.content])
        missing = proofs.missing(claimed(proofs.of(sided)))
        missing = missing.sort("claim", "left", "right", descending=[True, False, False])
        if missing.height:
            self._prove(catalog, analysis, asked, missing.head(_MOST), proofs)
        content = pl.when(pl.col("left") == asked.content).then("right").otherwise("left")
        found = proofs.of(sided).select(content.alias("content"), "score", "evidence")
        return found.cast(ANSWERS)  # type: ignore[arg-type]

    def why_not_compared(
        self, catalog: Catalog, analysis: Analysis, asked: AskedPicture, match: Finding
    ) -> str:
        """Compare the originals of a match that decides; why that cannot be, or nothing.

        What they say is another question, unless another word or number is read: of a ``near``
        pair that is no page they may well differ, for its thumbnails told of that already.

        Args:
            catalog: the catalog.
            analysis: of the picture that is asked about, with its bytes where they are at hand.
            asked: the same picture.
            match: a match of it.
        """
        if match.content == asked.content or match.verdict == "duplicate":
            return ""
        if match.evidence and Evidence.from_json(match.evidence).proof in _COMPARED:
            return ""  # which this check, or one before it, found out
        left, right = sorted((match.content, asked.content))
        proofs = KnownProofs(catalog, [asked.content])
        pair = pl.DataFrame([{"left": left, "right": right, "evidence": match.evidence or None}])
        if proofs.missing(pair).height:
            self._prove(catalog, analysis, asked, pair, proofs)
        found = proofs.rows.filter(left=left, right=right)
        if found.is_empty():
            read_again = match.content in self._originals(catalog, {match.content})
            whose = "this image" if read_again else repr(match.key)
            return f"not compared at full size: the file of {whose} cannot be read again"
        verdict, message = found.select("verdict", "message").row(-1)
        if verdict == READS:
            return "at full size they differ in lettering"
        return f"not compared at full size: {message}" if verdict == UNREADABLE else ""

    def close(self) -> None:
        """End the decoder processes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.__exit__()

    def _prove(
        self,
        catalog: Catalog,
        analysis: Analysis,
        asked: AskedPicture,
        missing: pl.DataFrame,
        proofs: KnownProofs,
    ) -> None:
        names = {*missing["left"], *missing["right"]}
        originals = self._originals(catalog, names)
        if not asked.known:  # then the picture is what the analysis was made of, and nothing else
            originals.pop(asked.content, None)
            if analysis.original is not None:
                data, picture = analysis.original, analysis.picture
                originals[asked.content] = Original(
                    lambda: data, len(data), picture.width, picture.height
                )
        if asked.content not in originals:
            return
        comparer = Comparer(self._open(), originals, self._settings.limits.inflight_bytes)
        pairs = [Asked(*row) for row in missing.select("left", "right", "evidence").iter_rows()]
        rows = proof_rows(comparer.compare(pairs))
        proofs.add(rows)
        if asked.known and rows.num_rows:
            try:
                with catalog.writing(0):  # no waiting: a scan may hold the lease for hours
                    catalog.upsert("proofs", rows)
            except CatalogBusyError:
                log.info("another process writes: %d proofs are not kept", rows.num_rows)

    def _originals(self, catalog: Catalog, contents: set[str]) -> dict[str, Original]:
        """Content to its smallest file that can be read again."""
        listed = ", ".join(quote(name) for name in sorted(contents))
        where = f"content IN ({listed}) AND removed_at IS NULL AND skipped IS NULL"
        found = read_renditions(catalog, contents)
        limit, read = self._settings.limits.bytes, set[str]()
        for row in (
            catalog.read("assets", _COLUMNS, where).sort("size", "key").iter_rows(named=True)
        ):
            if row["content"] in read or is_collection(row["source"]):
                continue
            try:
                source = open_source(row["source"], self._settings)
            except (SourceError, SettingsError):  # its folder is not here
                continue
            read.add(row["content"])  # the file itself, before any picture kept of it
            found[row["content"]] = Original(
                partial(source.read, row["key"], row["etag"], limit),
                row["size"],
                row["width"],
                row["height"],
            )
        return found

    def _open(self) -> DecoderPool:
        with self._lock:
            if self._pool is None:
                self._pool = DecoderPool(
                    self._settings.limits, 1, self._settings.embedding.decoders, compare_originals
                )
            return self._pool

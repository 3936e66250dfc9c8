"""Whether a planned group's originals were compared, asked again when it is merged.

A plan refuses what was not compared. This is for a plan of a release that did not ask.
"""

from __future__ import annotations

from tasks.catalog.catalog import Catalog
from tasks.merging.rules.plans import Plan, PlannedGroup
from tasks.merging.rules.proofs import MERGING, why_unproven
from tasks.queries.pair_proofs import read_pair_proofs
from tasks.session import locate
from tasks.settings import Settings


def why_not_compared(catalog: Catalog, settings: Settings, plan: Plan, group: PlannedGroup) -> str:
    """Why a planned group may not be merged yet; empty where nothing speaks against it.

    An asset that the catalog does not hold, as after a recovery, is not judged here.
    """
    if group.action not in MERGING:
        return ""
    source, _ = locate(plan.source, settings)
    names = group.assets(source)
    assets = catalog.read_keys("assets", ["asset_id", "content", "key"], names).drop_nulls()
    proofs = read_pair_proofs(catalog, source, assets.select("asset_id", "content"))
    return why_unproven(assets.select("content", "key").sort("key").rows(), proofs)

"""What a scan costs by size: arithmetic on measured rates, from which docs/scale.md is written."""

from __future__ import annotations

from dataclasses import dataclass

#: Sizes that the page tells of.
SIZES = (100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured costs of single steps; docs/benchmarks.md says how each was measured.

    Attributes:
        read_ms: CPU of reading one image of 2000 px, features included.
        embed_ms: CPU of one image in the bundled model.
        pairs: candidate pairs of a content, lists of 30.
        look_ms: CPU of the first look at a pair.
        copies: share of the pairs that are copies.
        copy_ms: CPU of verifying a copy.
        left: share of the strangers that the first look leaves.
        stranger_ms: CPU of verifying such a pair.
        proofs: proofs of an asset: pairs that hold groups together.
        proof_ms: CPU of one proof of pictures of 3 megapixels.
        exact_ms: CPU of a content's exact list among a million, 1,280 numbers.
        exact_up_to: contents whose lists are exact.
        cells_ms: CPU of a content's list by inverted lists at a million, 1,280 numbers.
        requests: GET requests of a new asset: probe, bytes.
        listed: keys of one LIST request.
        catalog_kb: of an asset: vector, thumbnail, features, lists, pairs, facts.
    """

    read_ms: float = 64 + 13.5
    embed_ms: float = 19.8
    pairs: float = 20
    look_ms: float = 0.35
    copies: float = 0.05
    copy_ms: float = 19.5
    left: float = 0.14
    stranger_ms: float = 2.47
    proofs: float = 0.1
    proof_ms: float = 130 + (1750 - 130) * 3 / 8  # 0.1 megapixels: 130, 8: 1,750
    exact_ms: float = 41.3
    exact_up_to: int = 100_000
    cells_ms: float = 1.76 * 1280 / 384
    requests: float = 2
    listed: int = 1000
    catalog_kb: float = 2.6 + 12 + 14.5 + 1.4 + 2.0 + 1.5


@dataclass(frozen=True, slots=True)
class Prices:
    """Amazon's list prices in us-east-1, US dollars; a compute hour is one of c7i.4xlarge.

    Attributes:
        get: a thousand GET requests.
        list: a thousand LIST requests.
        store: a gigabyte and month.
        core_hour: one virtual core for an hour.
    """

    get: float = 0.0004
    list: float = 0.005
    store: float = 0.023
    core_hour: float = 0.714 / 16


@dataclass(frozen=True, slots=True)
class Cost:
    """A first full scan of so many assets.

    Attributes:
        read_h: core hours of reading and embedding.
        lists_h: of the neighbour lists.
        look_h: of the first look.
        verify_h: of verification.
        prove_h: of proof.
        hours_16: hours on one machine of 16 cores.
        hours_256: hours with 256 cores: what is sharded on all, the rest on 16.
        lists_gib: memory that the neighbour lists hold at once: halves and their bounds.
        catalog_gb: bytes of the catalog.
        requests: GET and LIST requests.
        dollars: requests and core hours; reading within one region is free.
        again_dollars: LIST requests of a scan of nothing new.
    """

    assets: int
    read_h: float
    lists_h: float
    look_h: float
    verify_h: float
    prove_h: float
    hours_16: float
    hours_256: float
    lists_gib: float
    catalog_gb: float
    requests: float
    dollars: float
    again_dollars: float


def cost(assets: int, rates: Rates | None = None, prices: Prices | None = None) -> Cost:
    """What a first full scan of so many different images costs."""
    rate, price = rates or Rates(), prices or Prices()
    hour = 3.6e6  # milliseconds
    read = assets * (rate.read_ms + rate.embed_ms) / hour
    lists = assets * _list_ms(assets, rate) / hour
    look = assets * rate.pairs * rate.look_ms / hour
    verified = rate.copies * rate.copy_ms + (1 - rate.copies) * rate.left * rate.stranger_ms
    verify = assets * rate.pairs * verified / hour
    prove = assets * rate.proofs * rate.proof_ms / hour
    spread, alone = read + verify + prove, lists + look
    listed = assets / rate.listed
    asked = assets * (rate.requests + 2 * rate.proofs)
    requests = asked * price.get / 1000 + listed * price.list / 1000
    return Cost(
        assets,
        read,
        lists,
        look,
        verify,
        prove,
        (spread + alone) / 16,
        spread / 256 + alone / 16,
        assets * 1280 * 2 * 1.5 / 2**30,
        assets * rate.catalog_kb / 1e6,
        asked + listed,
        requests + (spread + alone) * price.core_hour,
        listed * price.list / 1000,
    )


def _list_ms(assets: int, rate: Rates) -> float:
    """CPU of one content's list: exact ones grow with the size; 4,096 cells bound the others.

    With as many cells as there are, a content is compared with 160 of them, so beyond some two
    million contents the cells grow with the collection, and the cost of a list with it.
    """
    if assets <= rate.exact_up_to:
        return rate.exact_ms * assets / 1e6
    return rate.cells_ms * max(1.0, assets / 2_048_000)


def table(costs: list[Cost] | None = None) -> str:
    """The page's table, one row a size."""
    rows = [
        "| assets | read, embed | lists | first look | verify | prove | 16 cores | 256 cores | "
        "memory of lists | catalog | requests | dollars | nothing new |",
        "|" + "---|" * 13,
    ]
    for one in costs or [cost(size) for size in SIZES]:
        core_hours = (one.read_h, one.lists_h, one.look_h, one.verify_h, one.prove_h)
        cells = [
            f"{one.assets:,}",
            *(f"{_short(hours)} h" for hours in core_hours),
            _time(one.hours_16),
            _time(one.hours_256),
            f"{_short(one.lists_gib)} GiB",
            f"{_short(one.catalog_gb)} GB",
            f"{one.requests:,.0f}",
            f"{one.dollars:,.2f}",
            f"{one.again_dollars:,.2f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _time(hours: float) -> str:
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:,.0f} days"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table() + "\n")

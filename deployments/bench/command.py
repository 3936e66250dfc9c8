"""The console command ``dam-dedup bench``."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deployments.cli.help_pages import Command, Group
from deployments.cli.options import Json

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from deployments.bench.quality import Report
    from deployments.bench.serving import GateReport
    from deployments.bench.speed import SpeedReport
    from tasks.progress import Progress

bench_app = typer.Typer(
    cls=Group,
    help="Measure how well duplicates are found, on photographs of your own, and how fast.",
    no_args_is_help=True,
)

#: Wrong pairs that are named; ``--json`` names all.
_SHOWN_WRONG = 10
#: Fewer vectors than this have no use for cells.
_LEAST_VECTORS = 1000


@bench_app.callback()
def bench() -> None:
    """Measure how well duplicates are found, on photographs of your own."""


@bench_app.command("quality", cls=Command)
def quality(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    seed: Annotated[
        int, typer.Option(help="Another seed draws other photographs and edits.", min=0)
    ] = 0,
    sources: Annotated[
        int, typer.Option(help="How many photographs get edited copies.", min=1)
    ] = 200,
    edits: Annotated[
        int, typer.Option(help="How many edited copies each gets, of different kinds.", min=1)
    ] = 12,
    threshold: Annotated[
        float, typer.Option(help="Score from which a pair counts as found.", min=0.5, max=1)
    ] = 0.7,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="CSV of your own (columns file, group) that says which files of --images are "
            "copies of one another; nothing is planted then. Files are relative to --images.",
            dir_okay=False,
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Draw the figures into this .svg or .png file (needs matplotlib)."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Keep planted files, catalog and documents here; the same call goes on with "
            "them. Default: a temporary folder."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="bundled, a Hugging Face id or a local folder [DAM_DEDUP_EMBEDDING__MODEL]."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Plant edited copies among your photographs, scan, and compare with what was planted.

    The edits are exact (saved anew, scaled), near (small crops, colours, a logo or text) and hard
    (mirrored, turned, half of the picture, a screenshot). Everything else in the folder is taken
    to be no duplicate: copies that were there before count as wrong pairs, so read the list of
    wrong pairs before you trust the precision. The same scan runs as in production.

        dam-dedup bench quality --images ~/Pictures --work var/bench --plots var/bench.svg

        dam-dedup bench quality --images ./labelled --truth truth.csv --json | jq .quality.recall
    """
    from deployments.bench.quality import run_quality

    report = run_quality(
        images,
        seed=seed,
        sources=sources,
        edits=edits,
        truth=truth,
        workdir=work,
        plots=plots,
        threshold=threshold,
        model=model,
        progress=_teller(),
    )
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        show_report(report)
        if plots:
            typer.echo(f"plots: {plots}")


@bench_app.command("report", cls=Command)
def report(
    groups: Annotated[
        list[int] | None, typer.Option(help="How many groups; may be given more than once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the report page on made-up scans: size, time to open, memory. Needs Chromium.

    dam-dedup bench report --groups 100 --groups 10000
    """
    from deployments.bench.pages import measure

    found = [measure(number) for number in groups or [100, 1_000, 10_000]]
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    typer.echo(
        "groups   file MB   written s   interactive s   busy s   heap MB   next group s   "
        "graph s   with picture"
    )
    for one in found:
        typer.echo(
            f"{one.groups:>6,} {one.bytes / 1e6:>9.1f} {one.seconds:>11.1f} "
            f"{one.interactive:>15.2f} {one.busy:>8.2f} {one.heap / 1e6:>9.1f} {one.step:>14.3f} "
            f"{one.graph:>9.2f} {one.pictures:>14.0%}"
        )


@bench_app.command("fit", cls=Command)
def fit(
    work: Annotated[Path, typer.Option(help="Folder of an earlier `bench quality --work` run.")],
    write: Annotated[
        Path | None,
        typer.Option(help="Write the new calibration to this file; default: print it."),
    ] = None,
    pairs: Annotated[
        int, typer.Option(help="Copies, and as many other pairs, to measure.", min=50)
    ] = 3000,
) -> None:
    """Make the coefficients of the score anew, from a planted collection.

    Prints what would stand in tasks/dedup/calibration.json, with its provenance and with how many
    pairs it gets wrong. Putting it there makes every remembered pair be verified again.

        dam-dedup bench fit --work var/bench --write calibration.json
    """
    from deployments.bench.fit import fit_calibration, write_calibration

    made = fit_calibration(work, pairs, _teller())
    if write:
        write_calibration(made, write)
        typer.echo(f"{write}: {made['provenance']}", err=True)
    else:
        typer.echo(json.dumps(made, indent=2))


@bench_app.command("gate", cls=Command)
def gate(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    assets: Annotated[int, typer.Option(help="Size of the catalog.", min=100)] = 100_000,
    requests: Annotated[int, typer.Option(help="Requests of each round.", min=1)] = 500,
    clients: Annotated[str, typer.Option(help="How many ask at once, round by round.")] = "1,8,32",
    soak: Annotated[
        int, typer.Option(help="Requests of a last, mixed round: errors and memory.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Draws what is asked.", min=0)] = 0,
    work: Annotated[
        Path | None,
        typer.Option(help="Keep the catalog here and use it again. Default: a temporary folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how fast the gate answers /duplicate, by upload and by id.

    A catalog of the asked size is made of a few photographs: their thumbnails, each used many
    times, and vectors drawn around theirs. Searching and verifying cost what they do in
    production; what is found means nothing. Then the gate is started as it is in production, and
    asked by clients that each ask again as soon as they have their answer.

        dam-dedup bench gate --images ~/Pictures --work var/bench-gate

        dam-dedup bench gate --images ~/Pictures --assets 10000 --clients 1,4 --json
    """
    import tempfile

    from deployments.bench.serving import run_gate
    from deployments.cli.options import read_settings
    from tasks.errors import SettingsError

    parts = clients.split(",")
    if not all(part.strip().isdigit() and 0 < int(part) <= 256 for part in parts):
        raise SettingsError(f"--clients {clients}: numbers from 1 to 256 with commas between them")
    with tempfile.TemporaryDirectory(prefix="dam-dedup-bench-") as place:
        folder = work or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        report = run_gate(
            read_settings(None),
            images,
            assets=assets,
            clients=[int(part) for part in parts],
            requests=requests,
            soak=soak,
            work=folder,
            seed=seed,
            progress=_teller(),
        )
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        show_gate(report)


@bench_app.command("client", cls=Command)
def client(
    images: Annotated[
        Path, typer.Option(help="Folder of JPEG photographs, with subfolders; it is only read.")
    ],
    pictures: Annotated[int, typer.Option(help="How many of them.", min=2)] = 500,
    seed: Annotated[int, typer.Option(help="Draws which.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Measure the gate with the calls of the reference's public client.

    Pictures are entered one by one; then each one's duplicates are asked for, twice. The first
    time pairs are verified, the second time they are known.

        dam-dedup bench client --images ~/Pictures --pictures 730
    """
    import random
    import tempfile

    from rich.table import Table

    from deployments.bench.client import run_client
    from deployments.cli.options import read_settings
    from tasks.errors import SettingsError

    found = {path.stem: path for path in sorted(images.rglob("*.jpg"))}
    if len(found) < pictures:
        raise SettingsError(
            f"{images} has {len(found)} JPEG files of different names: ask for less"
        )
    names = random.Random(seed).sample(sorted(found), pictures)  # noqa: S311 - keeps no secret
    with tempfile.TemporaryDirectory(prefix="dam-dedup-bench-") as place:
        drawn = [found[name] for name in names]
        report = run_client(read_settings(None), drawn, Path(place), _teller())
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
        return
    table = Table(title=f"The reference's client, {pictures:,} pictures, {report.cores} cores")
    for column in ("round", "a second", "CPU ms each: gate", "client"):
        table.add_column(column, justify="left" if column == "round" else "right")
    for one in report.rounds:
        each = [f"{1000 * used / one.pictures:.1f}" for used in (one.server, one.client)]
        table.add_row(one.name, f"{one.pictures / one.seconds:.1f}", *each)
    _console().print(table)
    typer.echo(
        f"{report.found} matched another; the gate holds {report.memory / 2**20:.0f} MiB; "
        f"load {report.load:.1f}"
    )


@bench_app.command("zoom", cls=Command)
def zoom(
    members: Annotated[int, typer.Option(help="Files of the group.", min=2, max=12)] = 4,
    wide: Annotated[int, typer.Option(help="Of the browser's window, in pixels.", min=320)] = 1280,
    high: Annotated[int, typer.Option(help="Of the browser's window, in pixels.", min=320)] = 800,
    as_json: Json = False,
) -> None:
    """Measure how the light table moves photographs of 24 megapixels. Needs Chromium.

    The photographs are made up, scanned and served by a gate. A browser zooms and pans them; its
    trace tells what each frame cost.

        dam-dedup bench zoom --members 4
    """
    import tempfile

    from rich.table import Table

    from deployments.bench.zoom import run_zoom

    with tempfile.TemporaryDirectory(prefix="dam-dedup-bench-") as place:
        report = run_zoom(Path(place), members, (wide, high), _teller())
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    table = Table(title=f"{members} photographs of 24 megapixels, window {wide} x {high}")
    for column in ("view", "way", "frames", "median ms", "p95 ms", "in time", "dropped"):
        table.add_column(column, justify="left" if column in ("view", "way") else "right")
    for column in ("painted", "main thread, CPU ms", "p95", "other threads"):
        table.add_column(column, justify="right")
    for one in report.moved:
        clock = [f"{one.median:.1f}", f"{one.p95:.1f}", f"{one.in_time:.0%}", str(one.dropped)]
        spent = [f"{value:.1f}" for value in (one.main, one.main_p95, one.others)]
        table.add_row(one.view, one.way, str(one.frames), *clock, str(one.painted), *spent)
    _console().print(table)
    typer.echo(
        f"pictures there after {report.ready:.1f} s; originals asked for {report.loads} times, at "
        f"rest {report.rest}; script {report.heap / 1e6:.0f} MB, pictures held "
        f"{report.held / 1e6:.0f} MB, the page's process {report.resident / 1e6:.0f} MB"
    )


def show_gate(report: GateReport) -> None:
    """The figures, for people."""
    from rich.table import Table

    console = _console()
    table = Table(title=f"/duplicate, {report.assets:,} assets, {report.cores} cores")
    for name in (
        "asked by",
        "clients",
        "requests",
        "p50",
        "p95",
        "p99",
        "per second",
        "CPU",
        "429",
        "errors",
    ):
        table.add_column(name, justify="left" if name == "asked by" else "right")
    for one in report.rounds:
        table.add_row(
            one.asked,
            str(one.clients),
            f"{one.requests:,}",
            _ms(one.p50),
            _ms(one.p95),
            _ms(one.p99),
            f"{one.per_second:.2f}",
            _ms(one.cpu),
            str(one.refused),
            str(one.errors),
        )
    console.print(table)
    console.print(
        f"model alone: {_ms(report.model_one)} for one image, {_ms(report.model_batch)} each in a "
        f"full batch. Memory: {' > '.join(f'{size / 1e6:,.0f}' for size in report.memory)} MB. "
        f"Load of the machine at the end: {report.load:.1f} on {report.cores} cores"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


@bench_app.command("search", cls=Command)
def search(
    sizes: Annotated[
        str, typer.Option(help="Numbers of vectors, with commas between them.")
    ] = "10000,100000",
    dim: Annotated[int, typer.Option(help="Dimensions; the bundled model has 1280.", min=8)] = 1280,
    seed: Annotated[int, typer.Option(help="Another seed makes other collections.", min=0)] = 0,
    index_up_to: Annotated[
        int,
        typer.Option(
            help="Larger collections are measured without the index of single checks, which takes "
            "minutes at a million vectors of 384 dimensions, and an hour at 1,280."
        ),
    ] = 200_000,
    work: Annotated[
        Path | None, typer.Option(help="Folder for the catalogs, which are removed again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what the search modes find, and what they cost, on synthetic vectors.

    Collections are clustered, and a fifth of their vectors are copies of others at cosines of 0.8
    to 1. `scan` rows are lists of all vectors, `check` rows single pictures against the collection.
    Times are CPU time; the floor is the products' arithmetic at the peak rate measured here.

        dam-dedup bench search --sizes 10000,100000,1000000 --json
    """
    from deployments.bench.search import as_rows, run_search

    try:
        counts = [int(size) for size in sizes.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{sizes!r} is no list of numbers", param_hint="--sizes") from None
    if min(counts) < _LEAST_VECTORS:
        raise typer.BadParameter(f"at least {_LEAST_VECTORS} each", param_hint="--sizes")
    found = run_search(counts, dim, seed, index_up_to=index_up_to, work=work, progress=_teller())
    if as_json:
        typer.echo(json.dumps(as_rows(found)))
    else:
        show_search(as_rows(found))


def show_search(rows: list[dict[str, object]]) -> None:
    """The measurements of search modes as a table."""
    import polars as pl

    _table(_console(), "search modes", pl.DataFrame(rows))


@bench_app.command("candidates", cls=Command)
def candidates(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    strangers: Annotated[
        int, typer.Option(help="Crops of other photographs beside those with copies.", min=100)
    ] = 100_000,
    sources: Annotated[
        int, typer.Option(help="How many photographs get edited copies.", min=1)
    ] = 200,
    numbers: Annotated[
        str, typer.Option(help="Lengths to which vectors are whitened, with commas.")
    ] = "384,256",
    seed: Annotated[int, typer.Option(help="Draws photographs, edits and crops.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Measure how many copies are among the 30 nearest of a large collection.

    Copies of some photographs are planted among crops of all others. The vectors of the model in
    the settings are compared as they are, and whitened by what the collection itself teaches. A
    hundred thousand pictures take an hour of a core, and minutes with a GPU.

        dam-dedup bench candidates --images ~/Pictures --strangers 10000
    """
    import polars as pl

    from deployments.bench.candidates import measure_candidates
    from deployments.cli.options import read_settings
    from tasks.errors import SettingsError
    from tasks.session import open_embedder

    parts = numbers.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise SettingsError(f"--numbers {numbers}: whole numbers with commas between them")
    embedder = open_embedder(read_settings(None))
    found = measure_candidates(
        embedder.embed,
        embedder.side,
        sorted(path for path in images.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"}),
        strangers=strangers,
        sources=sources,
        numbers=[int(part) for part in parts],
        seed=seed,
        device=embedder.device.split()[0],
        progress=_teller(),
    )
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    rows = [
        {"numbers": one.numbers, "whitened": one.whitened, "strangers": one.strangers}
        | {f"{name} ({one.pairs[name]})": round(share, 4) for name, share in one.shares.items()}
        for one in found
    ]
    _table(_console(), "copies among the 30 nearest of either side", pl.DataFrame(rows))


@bench_app.command("million", cls=Command)
def million(
    work: Annotated[
        Path, typer.Option(help="Folder for catalog and documents; it is kept, and used again.")
    ],
    contents: Annotated[int, typer.Option(help="How many contents.", min=100)] = 1_000_000,
    stages: Annotated[
        str,
        typer.Option(help="Stages with commas between them; each goes on from what is there."),
    ] = "",
    features: Annotated[
        int | None,
        typer.Option(help="How many contents get compact features of 15 kB each; default: all."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Photographs whose features are used instead of random.")
    ] = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="An incremental scan instead of a full one.")
    ] = False,
    dim: Annotated[
        int, typer.Option(help="Numbers of a vector; few will do with the stage draw.", min=8)
    ] = 1280,
    as_json: Json = False,
) -> None:
    """Scan made-up contents, a million of them: CPU time and memory of each stage.

    There are no pictures: vectors and compact features are made up, and so is what verification
    says of the pairs that are proposed. All that holds the whole collection at once is real.

        dam-dedup bench million --work var/million --contents 200000

        dam-dedup bench million --work var/million --contents 200000 --stages group,report

    The stage draw makes the neighbour lists up, which take an hour of a core at a million:

        dam-dedup bench million --work var/m --dim 32 --features 0
        --stages fill,draw,list,embed,answers,verify,prove,group,screen,report,finish
    """
    from deployments.bench.million import STAGES, as_rows, run_million
    from deployments.cli.options import read_settings

    work.mkdir(parents=True, exist_ok=True)
    found = run_million(
        read_settings(None),
        contents,
        work,
        stages=stages.split(",") if stages else STAGES,
        features=features,
        images=images,
        incremental=incremental,
        dim=dim,
        progress=_teller(),
        tell=lambda lap: typer.echo(
            f"{lap.stage:<8} {lap.cpu_s:>9.1f} CPU s {lap.wall_s:>9.1f} s "
            f"{lap.peak_mib:>6} MiB (from {lap.before_mib})  {lap.said}",
            err=as_json,
        ),
    )
    if as_json:
        typer.echo(json.dumps(as_rows(found)))


@bench_app.command("templates", cls=Command)
def templates(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    seed: Annotated[int, typer.Option(help="Another seed draws other photographs.", min=0)] = 0,
    pictures: Annotated[
        int, typer.Option(help="How many photographs; the pairs grow with its square.", min=2)
    ] = 40,
    as_json: Json = False,
) -> None:
    """Put different photographs under one banner, on one page, into one frame: no two are copies.

    All pairs of each template are verified, whatever an embedding would have proposed: `near` are
    the wrong ones. `found` are photographs that are still found in their own template. With 40
    photographs it takes about eight minutes of two cores.

        dam-dedup bench templates --images ~/Pictures --pictures 60
    """
    import polars as pl

    from deployments.bench.templates import run_templates

    found = run_templates(images, seed=seed, pictures=pictures, progress=_teller())
    rows = [asdict(row) for row in found]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    _table(_console(), "different photographs in one template", pl.DataFrame(rows))


@bench_app.command("documents")
def documents(
    seed: Annotated[int, typer.Option(help="Another seed draws other documents.", min=0)] = 0,
    things: Annotated[
        int,
        typer.Option(help="Different things of each family; pairs grow with the square.", min=2),
    ] = 4,
    families: Annotated[
        Literal["reporting", "fitting", "later"],
        typer.Option(
            help="Those that figures are reported on, those that coefficients are fitted to, or "
            "those drawn when the rule was done."
        ),
    ] = "reporting",
    as_json: Json = False,
) -> None:
    """Compare invoices, slides, labels and goods that differ in one number, word or colour.

    All pairs of each family are verified. `wrong_exact` are different things that a policy would
    merge without a question; `found` are true copies (encoded anew, half size, grey, cropped,
    framed, scanned). With four things of each family it takes about ten minutes of two cores.

        dam-dedup bench documents --seed 3
    """
    import polars as pl

    from deployments.bench.documents import run_documents

    found, _ = run_documents(seed=seed, things=things, families=families, progress=_teller())
    rows = [asdict(row) for row in found]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    _table(_console(), "documents, designs and variants", pl.DataFrame(rows))


@bench_app.command("policy", cls=Command)
def policy(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    seed: Annotated[int, typer.Option(help="Another seed draws other pictures.", min=0)] = 0,
    photographs: Annotated[int, typer.Option(help="How many photographs.", min=7)] = 60,
    things: Annotated[
        int, typer.Option(help="Different things of each family of documents; 0: none.", min=0)
    ] = 2,
    as_json: Json = False,
) -> None:
    """Count what a policy would merge that quarantines every `exact` pair without a question.

    Documents, photographs, photographs in one template, and bursts, each saved in several ways.
    `merged` are pairs of different things that it would merge, of which there may be none; `exact`
    are pairs of one thing that it merges, each proven on its originals.

        dam-dedup bench policy --images ~/Pictures --photographs 200
    """
    import polars as pl

    from deployments.bench.smallest_policy import run_policy

    rows, wrong = run_policy(
        images, seed=seed, photographs=photographs, things=things, progress=_teller()
    )
    if as_json:
        found = {"rows": [asdict(one) for one in rows], "merged": [asdict(one) for one in wrong]}
        typer.echo(json.dumps(found))
        return
    _table(_console(), "what is merged without a question", pl.DataFrame([asdict(r) for r in rows]))
    for one in wrong[:_SHOWN_WRONG]:
        _console().print(f"merged and different: {one.left} | {one.right} {one.answer.score:.3f}")


@bench_app.command("keepers", cls=Command)
def keepers(
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs, with subfolders; it is only read. Default: drawn pictures."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other files.", min=0)] = 0,
    pairs: Annotated[int, typer.Option(help="Pairs of each kind of edit.", min=1)] = 20,
    groups: Annotated[
        int, typer.Option(help="Groups of one original and three to five edits.", min=0)
    ] = 100,
    as_json: Json = False,
) -> None:
    """Ask of originals and their edits which one was first, and which file of a group stays.

    Formats, qualities and sizes of both sides are drawn from the same ranges, so that encoding
    gives nothing away. Of edits that leave no trace (brightness, mirrored, turned by a quarter,
    stretched) `cannot tell` is the right answer. `no match`: the two were not called copies.

        dam-dedup bench keepers --images ~/Pictures --seed 3
    """
    import polars as pl

    from deployments.bench.keepers import run_keepers

    rows, answers = run_keepers(images, seed=seed, pairs=pairs, groups=groups, progress=_teller())
    if as_json:
        found = {"rows": [asdict(one) for one in rows], "answers": [asdict(one) for one in answers]}
        typer.echo(json.dumps(found))
        return
    _table(_console(), "which file was first", pl.DataFrame([asdict(row) for row in rows]))


@bench_app.command("speed", cls=Command)
def speed(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            help="Long side in pixels at which reading is measured; may be given more than once. "
            "Default: 640, 2000 and 4000."
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="Photographs that the single steps are measured on.", min=2)
    ] = 24,
    scan: Annotated[
        bool, typer.Option("--scan/--no-scan", help="Scan all of the folder, too.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Measure what each step of a scan costs, beside the least that its result can cost.

    All times are processor time, child processes too, so that other work on the machine disturbs
    them little. With --scan a first full scan of the folder follows, by stage, with its catalog's
    bytes by table. What cores and a GPU do together is measured by ``dam-dedup bench machine``.

        dam-dedup bench speed --images ~/Pictures --sizes 640 --sizes 2000 --json
    """
    from deployments.bench.speed import run_speed
    from tasks.settings import load_settings

    found = run_speed(
        images,
        load_settings(),
        sizes=sizes or (640, 2000, 4000),
        pictures=pictures,
        scan=scan,
        progress=_teller(),
    )
    if as_json:
        steps = [asdict(step) | {"ratio": step.ratio} for step in found.steps]
        typer.echo(json.dumps(asdict(found) | {"steps": steps}))
        return
    _show_speed(found)


@bench_app.command("machine", cls=Command)
def machine(
    images: Annotated[
        Path, typer.Option(help="Folder of photographs, with subfolders; it is only read.")
    ],
    pictures: Annotated[
        int, typer.Option(help="Files that are made of them, and read and embedded.", min=20)
    ] = 2000,
    side: Annotated[int, typer.Option(help="Long side of these files, in pixels.", min=32)] = 640,
    pairs: Annotated[
        int, typer.Option(help="Pairs verified with each number of processes.", min=1)
    ] = 2000,
    workers: Annotated[
        list[int] | None,
        typer.Option(
            help="A number of processes that verify; may be given more than once. Each is compared "
            "with as many times the first. Default: 1, 2, 4 and 8."
        ),
    ] = None,
    vectors: Annotated[
        int, typer.Option(help="Vectors that exact lists are made of; 0: none.", min=0)
    ] = 20_000,
    dim: Annotated[int, typer.Option(help="Numbers of each vector.", min=2)] = 1280,
    work: Annotated[
        Path | None,
        typer.Option(help="Where files and catalog are put. Default: the temporary folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what all cores and the GPU do together, by the clock, beside what each does alone.

    The embed stage beside the slower of the model and the decoders, verification by several
    processes beside one, exact lists beside the matrix products they are made of. Figures mean
    something on a machine that does nothing else; without a GPU all of it runs on the CPU.

        dam-dedup bench machine --images ~/Pictures --pictures 4000 --vectors 1000000
    """
    from dataclasses import asdict

    import polars as pl

    from deployments.bench.machine import MachinePlan, run_machine
    from tasks.settings import load_settings

    plan = MachinePlan(pictures, side, pairs, workers or (1, 2, 4, 8), vectors, dim)
    found = run_machine(
        images,
        load_settings(),
        plan,
        work=work,
        # Told at once: a lent machine may be taken back before all is measured.
        tell=lambda rate: typer.echo(json.dumps(asdict(rate) | {"ratio": rate.ratio}), err=True),
        progress=_teller(),
    )
    rows = [asdict(rate) | {"ratio": rate.ratio} for rate in found]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    kinds = dict.fromkeys(("floor_rate", "seconds", "ratio"), pl.Float64)
    _table(_console(), "machine", pl.DataFrame(rows, schema_overrides=kinds))


def _show_speed(found: SpeedReport) -> None:

    import polars as pl

    console = _console()
    rows = [asdict(step) | {"ratio": step.ratio} for step in found.steps]
    kinds = dict.fromkeys(("floor_ms", "ratio"), pl.Float64)
    _table(console, "steps", pl.DataFrame(rows, schema_overrides=kinds, infer_schema_length=None))
    if found.scanned:
        stages = [
            {"stage": name, "cpu_s": seconds, "ms_a_picture": seconds * 1000 / found.scanned}
            for name, seconds in found.stages.items()
        ]
        _table(console, f"first full scan of {found.scanned:,} pictures", pl.DataFrame(stages))
        tables = [
            {"table": name, "bytes": size, "a_picture": size // found.scanned}
            for name, size in found.table_bytes.items()
        ]
        _table(console, "its catalog", pl.DataFrame(tables))
        console.print(f"in all {sum(found.stages.values()):.1f} s of processor time")
    console.print(
        f"one core multiplies {found.gflops:.0f} GFLOP a second of its time; "
        f"at most {found.peak_mb[0]:,} MB, a child {found.peak_mb[1]:,} MB"
    )


def _teller() -> Progress:
    """A line on standard error now and then, while it is a terminal."""
    from tasks.progress import silent

    if not sys.stderr.isatty():
        return silent
    last = 0.0

    def tell(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > 2:
            last = time.monotonic()
            typer.echo(f"{stage}: {done:,} of {'?' if total is None else f'{total:,}'}", err=True)

    return tell


def show_report(report: Report, console: Console | None = None) -> None:
    """The measurement as tables, for people."""
    console = console or _console()
    quality, asked = report.quality, report.asked
    console.print(
        f"{asked['files']:,} files of {asked['images']}, model {asked['model']}, "
        + (f"truth {asked['truth']}" if "truth" in asked else f"seed {asked['seed']}")
    )
    unknown = f"; {quality.unknown:,} pairs of files the truth does not name" * bool(
        quality.unknown
    )
    console.print(
        f"at score >= {quality.threshold:g}: precision {_share(quality.precision)} "
        f"({quality.right:,} of {quality.pairs:,} pairs right), "
        f"recall {_share(quality.recall)} ({quality.found:,} of {quality.wanted:,}), "
        f"purity {_share(quality.purity)} ({quality.pure:,} of {quality.groups:,} groups)" + unknown
    )
    for title, frame in (
        ("recall by level", quality.levels),
        ("recall by edit", quality.edits),
        ("by threshold", quality.curve),
        ("calibration: share of right pairs by score", quality.calibration),
    ):
        if not frame.is_empty():
            _table(console, title, frame)
    _show_rivals(console, report)
    _show_wrong(console, quality.false_pairs)
    for reason, number in report.failed.items():
        console.print(f"not read: {number:,} files: {reason}")
    slow = ", ".join(
        f"{name.partition('_')[0]} {seconds:.1f} s"
        + (f" {report.stage_mb[name]:,} MB" if name in report.stage_mb else "")
        for name, seconds in report.stages.items()
        if seconds >= 0.1
    )
    console.print(
        f"scan {report.seconds:.1f} s ({slow}); {report.counts.get('embedded', 0):,} embedded, "
        f"{report.counts.get('verified', 0):,} pairs verified; at most "
        f"{report.rss_mb['process']:,} MB"
        + (f", a decoder {report.rss_mb['decoder']:,} MB" if report.rss_mb["decoder"] else "")
    )


def _show_rivals(console: Console, report: Report) -> None:
    import polars as pl

    levels = list(report.rivals[0].levels or {})
    rows = []
    for rival in report.rivals:
        row: dict[str, Any] = {"method": rival.name, "pairs": rival.pairs, "note": rival.note}
        row |= {"precision": rival.precision, "recall": rival.recall}
        rows.append(row | {level: (rival.levels or {}).get(level) for level in levels})
    shares = dict.fromkeys(("precision", "recall", *levels), pl.Float64)
    schema = {"method": pl.String, "pairs": pl.Int64, **shares, "note": pl.String}
    _table(console, "other methods on the same files", pl.DataFrame(rows, schema))


def _show_wrong(console: Console, wrong: pl.DataFrame) -> None:
    if wrong.is_empty():
        return
    more = wrong.height - _SHOWN_WRONG
    title = "wrong pairs, the surest first" + (f" ({more:,} more in --json)" if more > 0 else "")
    _table(console, title, wrong.head(_SHOWN_WRONG).select("score", "left", "right"))


def _console() -> Console:
    """Prints what it is given: names of files are no markup, and a pipe gets whole lines."""
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True)


def _table(console: Console, title: str, frame: pl.DataFrame) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name, kind in frame.schema.items():
        table.add_column(
            name.replace("_", " "),
            justify="right" if kind.is_numeric() else "left",
            overflow="fold",
        )
    for row in frame.iter_rows():
        table.add_row(*(Text(_cell(value)) for value in row))  # a file name is no markup
    console.print(f"\n{title}", style="bold", soft_wrap=True)  # a table's own would be wrapped
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"

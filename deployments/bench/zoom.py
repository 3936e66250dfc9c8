"""How the light table moves: a group of large photographs at a gate, a browser, frame by frame."""

from __future__ import annotations

import json
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image, ImageEnhance

from deployments.bench.browser import need_browser, open_browser
from deployments.bench.served_gate import ServedGate
from flows.order import run_scan
from tasks.errors import DamDedupError
from tasks.merging.approvals import sign_link
from tasks.merging.journal import list_plans, read_plan
from tasks.progress import Progress, silent
from tasks.requests import ScanRequest
from tasks.session import open_catalog
from tasks.settings import Settings, load_settings

FloatArray = npt.NDArray[Any]
Event = dict[str, Any]

_POLICY = "version: 1\nname: zoom\nminimum_age_hours: 0\nrules:\n  - {name: all, action: report}\n"
#: Milliseconds of a frame at 60 a second.
FRAME = 1000 / 60
#: Moves of each kind; a wheel's notch, a drag's step, in pixels.
_MOVES, _NOTCH, _STEP = 90, 60, 12
#: For how long requests are counted while nobody moves anything; how long pictures may take.
_REST_SECONDS, _READY_SECONDS = 5, 40
_CATEGORIES = ("devtools.timeline", "toplevel", "blink", "blink.user_timing")
#: Notes when each frame began, and in the trace which frames drew the pictures anew.
_RECORD = """() => {
  globalThis.frames_ = [];
  globalThis.moving_ = true;
  const next = (time) => { frames_.push(time); if (moving_) requestAnimationFrame(next); };
  requestAnimationFrame(next);
  const own = globalThis.paint_ ||= paint;
  globalThis.paint = () => { performance.mark("painted"); own(); };
}"""
#: What a trace calls the work of a page's main thread, and what we call it.
_KINDS = {
    "FunctionCall": "script",
    "FireAnimationFrame": "script",
    "EventDispatch": "script",
    "UpdateLayoutTree": "style",
    "Layout": "layout",
    "PrePaint": "paint",
    "Paint": "paint",
    "Layerize": "paint",
    "Commit": "commit",
}


@dataclass(frozen=True, slots=True)
class Moved:
    """What moving the pictures in one way took.

    Attributes:
        view: ``fit`` or ``100 %``.
        way: ``wheel``, ``keys``, ``drag`` or ``loupe``.
        frames: that the browser gave while it moved.
        median: milliseconds from one frame to the next.
        p95: the same, of the slowest twentieth.
        in_time: share of the frames within 1/60 s and half a millisecond.
        dropped: frames that 60 a second would have had besides.
        painted: frames in which the pictures were drawn anew; what follows is of these alone.
        main: milliseconds of processor time of the page's main thread, the median.
        main_p95: the same, of the slowest twentieth.
        kinds: milliseconds of processor time by what the main thread did, on average.
        others: milliseconds of processor time of all other threads of the browser, on average.
    """

    view: str
    way: str
    frames: int
    median: float
    p95: float
    in_time: float
    dropped: int
    painted: int
    main: float
    main_p95: float
    kinds: dict[str, float]
    others: float


@dataclass(frozen=True, slots=True)
class ZoomReport:
    """All ways of moving, and the memory.

    Attributes:
        members: files of the group, of 24 megapixels each.
        bytes: of the largest file.
        loads: requests for originals while the table was used.
        rest: requests for originals within five seconds in which nobody moved anything, at 100 %.
        ready: seconds from the key for 100 % until all originals were shown.
        heap: bytes of the script's heap.
        held: bytes of decoded pictures that the page holds.
        resident: bytes of the page's process.
        moved: by view and way.
    """

    members: int
    bytes: int
    loads: int
    rest: int
    ready: float
    heap: int
    held: int
    resident: int
    moved: tuple[Moved, ...]


def run_zoom(
    work: Path,
    members: int = 4,
    screen: tuple[int, int] = (1280, 800),
    progress: Progress = silent,
) -> ZoomReport:
    """Make the photographs, scan them, serve them, and move them in a browser.

    Args:
        work: an empty folder for photographs, catalog, report and the gate's log.
        members: files of the one group, of 24 megapixels each.
        screen: width and height of the browser's window.
        progress: told what is being done.

    Raises:
        SettingsError: where there is no Chromium, or nothing to drive it.
        DamDedupError: where the files did not become one group, or the gate did not start.
    """
    need_browser()
    files = draw_photographs(work / "photographs", members, progress)
    (work / "policy.yaml").write_text(_POLICY)
    secret = secrets.token_hex(16)
    settings = load_settings(
        catalog={"uri": str(work / "catalog")},
        delivery={"folder": work / "reports"},
        merge={"policy": work / "policy.yaml", "secret": secret},
    )
    group, token_for = _planned(settings, work / "photographs", progress)
    os.environ["DAM_DEDUP_MERGE__SECRET"] = secret  # as whoever starts a gate sets it
    with ServedGate(settings, work) as gate:
        address = f"{gate.address}/review/{token_for(gate.address)}/report#table/{group}"
        return _drive(address, files, screen, progress)


def draw_photographs(folder: Path, members: int, progress: Progress = silent) -> list[Path]:
    """Files of 6000 x 4000 pixels that show one made-up scene, each saved or lit in another way.

    Noise of nine octaves is as rough at every scale as photographs are: a spectrum that falls with
    the frequency. Each file has some 10 MB.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(24)
    scene = np.zeros((4000, 6000, 3), np.float32)
    for octave in range(9):
        rough = random.normal(0, 1, (4 * 2**octave, 6 * 2**octave, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(rough[:, :, channel]).resize((6000, 4000), 2)
            scene[:, :, channel] += 0.72**octave * np.asarray(layer)
    grain = random.normal(0, 5, (4000, 6000, 1)).astype(np.float32)
    whole = Image.fromarray((128 + 52 * scene + grain).clip(0, 255).astype(np.uint8))
    found = []
    for number in range(members):
        progress("draw", number + 1, members)
        lit = whole if number % 2 == 0 else ImageEnhance.Brightness(whole).enhance(1.02)
        found.append(folder / f"photograph {number}.jpg")
        lit.save(found[-1], quality=93 - 2 * number, subsampling=0)
    return found


def _planned(
    settings: Settings, folder: Path, progress: Progress
) -> tuple[str, Callable[[str], str]]:
    """The id of the one group, and how its link's token is made for a gate's address."""
    run_scan(ScanRequest(source=str(folder)), settings, progress=progress)
    catalog = open_catalog(settings)
    plan = read_plan(catalog, list_plans(catalog)["plan_id"][-1])
    if len(plan.groups) != 1:
        raise DamDedupError(f"the photographs became {len(plan.groups)} groups instead of one")

    def token(address: str) -> str:
        merge = settings.merge.model_copy(update={"gate_url": address})
        there = settings.model_copy(update={"merge": merge})
        return sign_link(there, plan, "bench@example.org").rsplit("/", 1)[-1]

    return plan.groups[0].group_id, token


def _drive(
    address: str, files: list[Path], screen: tuple[int, int], progress: Progress
) -> ZoomReport:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": screen[0], "height": screen[1]})
        page.set_default_timeout(300_000)
        table = _Table(browser, page)
        page.goto(address)
        page.locator("#panes canvas").first.wait_for()
        page.keyboard.press("z")
        ready = table.settle()
        before = table.loads
        page.wait_for_timeout(1000 * _REST_SECONDS)
        rest = table.loads - before
        moved: list[Moved] = []
        for view in ("100 %", "fit"):
            page.keyboard.press("0")
            if view != "fit":
                page.keyboard.press("z")
            table.settle()
            # A loupe within a view that is pixel for pixel already shows nothing else.
            for way in ("wheel", "keys", "drag", "loupe")[: None if view == "fit" else 3]:
                progress(f"{view}, {way}", len(moved), 7)
                moved.append(table.move(view, way))
        session = page.context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        report = ZoomReport(
            len(files),
            max(file.stat().st_size for file in files),
            table.loads,
            rest,
            ready,
            int(session.send("Runtime.getHeapUsage")["usedSize"]),
            int(page.evaluate("heldPixels")) * 4,
            _resident(browser),
            tuple(moved),
        )
        browser.close()
    return report


class _Table:
    """The light table in a browser.

    Attributes:
        loads: requests for originals so far.
    """

    def __init__(self, browser: Any, page: Any) -> None:
        self._browser, self._page = browser, page
        self.loads = 0
        page.on("request", self._count)

    def _count(self, request: Any) -> None:
        self.loads += request.url.endswith("/full")

    def settle(self) -> float:
        """Wait until every picture is there in the size that the view needs; gives seconds."""
        start = self._page.evaluate("performance.now()")
        for _ in range(4 * _READY_SECONDS):
            self._page.wait_for_timeout(250)
            if self._page.evaluate("!loading && !wished.length && !painting"):
                break
        return float(self._page.evaluate("performance.now()") - start) / 1000

    def move(self, view: str, way: str) -> Moved:
        """Move in one way, and see what each frame took."""
        page = self._page
        box = page.locator("#panes canvas").first.bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        if way == "loupe":
            page.keyboard.press("m")
            self.settle()
        self._browser.start_tracing(page=page, categories=list(_CATEGORIES))
        page.evaluate(_RECORD)
        if way == "drag":
            page.mouse.down()
        for number in range(_MOVES):
            self._one(way, number, middle, whole=view != "fit")
        times = page.evaluate("() => { moving_ = false; return frames_; }")
        trace = json.loads(self._browser.stop_tracing())["traceEvents"]
        if way == "drag":
            page.mouse.up()
        if way == "loupe":
            page.keyboard.press("m")
        page.keyboard.press("0")
        if view != "fit":
            page.keyboard.press("z")
        self.settle()
        return figures(view, way, times, trace)

    def _one(self, way: str, number: int, middle: tuple[float, float], *, whole: bool) -> None:
        page, forth = self._page, number % 20 < 10
        if way == "wheel":  # at 100 % out first, where more of the originals is seen
            page.mouse.wheel(0, _NOTCH if forth == whole else -_NOTCH)
        elif way == "keys":
            page.keyboard.press("ArrowRight" if forth else "ArrowLeft")
        else:
            far = _STEP * (number % 20 if forth else 20 - number % 20)
            page.mouse.move(middle[0] + far, middle[1] + far / 2)


def figures(view: str, way: str, times: list[float], trace: list[Event]) -> Moved:
    """What a trace says of the frames that began at these times.

    Args:
        view: see :class:`Moved`.
        way: see :class:`Moved`.
        times: milliseconds at which each frame began.
        trace: Chromium's events, in microseconds; ``painted`` marks each drawing of the pictures.
    """
    gaps = np.diff(times)
    threads, page = _threads(trace)
    marks = [event["ts"] for event in trace if event.get("name") == "painted"]
    frames = _Frames([e["ts"] for e in threads[page] if e["name"] == "FireAnimationFrame"], marks)
    main = frames.spent(_outermost(threads[page]))
    others = [
        event for one, events in threads.items() if one != page for event in _outermost(events)
    ]
    return Moved(
        view,
        way,
        len(gaps),
        float(np.median(gaps)),
        float(np.percentile(gaps, 95)),
        float(np.mean(gaps <= FRAME + 0.5)),
        int(sum(max(0, round(gap / FRAME) - 1) for gap in gaps)),
        len(main),
        float(np.median(main)),
        float(np.percentile(main, 95)),
        {kind: float(np.mean(frames.spent(events))) for kind, events in _kinds(threads[page])},
        float(np.mean(frames.spent(others))),
    )


class _Frames:
    """Which frame an event belongs to.

    Args:
        starts: when the page's main thread began a frame.
        marks: moments at which pictures were drawn anew.
    """

    def __init__(self, starts: Sequence[float], marks: Sequence[float]) -> None:
        self._starts = np.unique(np.asarray(starts))
        self._painted = np.unique(self._frame(np.asarray(marks)))

    def _frame(self, moments: FloatArray) -> FloatArray:
        found: FloatArray = np.maximum(np.searchsorted(self._starts, moments, "right") - 1, 0)
        return found

    def spent(self, events: Sequence[Event]) -> FloatArray:
        """Milliseconds of processor time in each frame that drew the pictures anew.

        A task belongs to the frame that begins within it or, where none does, before it.
        """
        each = np.zeros(len(self._starts))
        if events:
            at = self._frame(np.asarray([event["ts"] + event["dur"] for event in events]))
            np.add.at(each, at, [event["tdur"] / 1000 for event in events])
        painted: FloatArray = each[self._painted]
        return painted


def _threads(trace: list[Event]) -> tuple[dict[tuple[int, int], list[Event]], tuple[int, int]]:
    """The timed events of each thread by their begin, and which thread is the page's main one."""
    threads = defaultdict(list)
    names = {}
    for event in trace:
        if event.get("name") == "thread_name":
            names[event["pid"], event["tid"]] = event["args"]["name"]
        elif event.get("ph") == "X" and "tdur" in event:
            threads[event["pid"], event["tid"]].append(event)
    for events in threads.values():
        events.sort(key=lambda event: (event["ts"], -event["dur"]))
    fired = {
        thread: sum(event["name"] == "FireAnimationFrame" for event in events)
        for thread, events in threads.items()
        if names.get(thread) == "CrRendererMain"
    }
    return threads, max(fired, key=lambda thread: fired[thread])


def _outermost(events: Iterable[Event]) -> list[Event]:
    found: list[Event] = []
    end = 0.0
    for event in events:
        if event["ts"] >= end:
            found.append(event)
            end = event["ts"] + event["dur"]
    return found


def _kinds(events: Iterable[Event]) -> list[tuple[str, list[Event]]]:
    """The outermost events of each kind; a kind within another counts for both."""
    found = defaultdict(list)
    for event in events:
        if event["name"] in _KINDS:
            found[_KINDS[event["name"]]].append(event)
    return [(kind, _outermost(some)) for kind, some in sorted(found.items())]


def _resident(browser: Any) -> int:
    """Resident bytes of the largest process of a page."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return max(
        psutil.Process(one["id"]).memory_info().rss for one in found if one["type"] == "renderer"
    )

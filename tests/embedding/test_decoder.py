"""Decoder processes die alone, and nothing else does."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tasks.embedding.decoder import DecoderPool
from tasks.errors import ImageError
from tasks.settings import LimitSettings

PARENT = """
import sys, threading
from pathlib import Path
from tasks.embedding.decoder import DecoderPool
from tasks.settings import LimitSettings
pool = DecoderPool(LimitSettings(seconds=1, jpeg_scans=100_000), 8, 2)
pool.decode(Path(sys.argv[1]).read_bytes())
print(*pool.pids(), flush=True)
if len(sys.argv) > 2:
    threading.Thread(target=pool.decode, args=[Path(sys.argv[2]).read_bytes()]).start()
    print(*pool.pids(), flush=True)
threading.Event().wait()
"""
PRINTS = """
import hashlib, os
real = hashlib.sha256
def noisy(*args, **kwargs):
    print("libnoise: warning: strange tag", flush=True)
    os.write(1, b"\\0" * 100)
    return real(*args, **kwargs)
hashlib.sha256 = noisy
"""


@pytest.fixture(scope="module")
def good(encode, scene) -> bytes:
    return encode(scene)


@pytest.fixture(scope="module")
def slow(encode) -> bytes:
    """70 kB that keep a decoder busy for half a minute: one scan, thousands of times."""
    data = encode(Image.new("RGB", (2000, 2000), "teal"), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 6000 + data[-2:]


@pytest.fixture
def pool():
    with DecoderPool(LimitSettings(seconds=20, jpeg_scans=100_000), 16, workers=1) as opened:
        yield opened


def reason_of(pool: DecoderPool, data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        pool.decode(data)
    return caught.value.reason


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_pictures_are_those_of_this_process(pool, read, good):
    ours, theirs = read(good, into=16), pool.decode(good)
    assert theirs.pixels.tobytes() == ours.pixels.tobytes()
    assert (theirs.content, theirs.phash, theirs.thumbnail) == (
        ours.content,
        ours.phash,
        ours.thumbnail,
    )


def test_reasons_come_back_and_the_process_stays(pool, good):
    pool.decode(good)
    before = pool.pids()
    assert reason_of(pool, b"nothing") == "format_not_supported"
    assert reason_of(pool, good[:-30]) in {"truncated", "cannot_decode"}
    assert reason_of(pool, b"") == "format_not_supported"
    assert pool.pids() == before


def test_the_time_limit_kills_and_the_next_image_works(good, slow):
    with DecoderPool(LimitSettings(seconds=0.7, jpeg_scans=100_000), 16, workers=1) as pool:
        pool.decode(good)
        first = pool.pids()
        assert reason_of(pool, slow) == "timeout"
        assert not lives(first[0])
        assert pool.decode(good).width == 60
        assert pool.pids() != first


def means(left, right, numbers):
    """A comparison, as a decoder process runs one."""
    if numbers[0] < 0:
        raise ValueError("a number below zero")
    return {"means": [float(left.mean()), float(right.mean())], "shapes": [*left.shape[:2]]}


def test_two_originals_are_compared_in_one_process(encode, scene, good):
    dark = encode(Image.new("RGB", (50, 70), (10, 10, 10)), "JPEG", exif=turned())
    with DecoderPool(LimitSettings(), 16, workers=1, compares=means) as pool:
        found = pool.compare(dark, good, [1.0, 2.0])
        assert found["shapes"] == [50, 70]  # upright, at full size
        assert found["means"] == pytest.approx([10, np.asarray(scene).mean()], abs=0.5)
        before = pool.pids()
        assert pool.decode(good).width == 60
        for files, numbers, reason in (
            ((good, dark), [-1.0], "cannot_compare"),
            ((good, good[:-30]), [1.0], ("truncated", "cannot_decode")),
            ((b"", good), [1.0], "format_not_supported"),
        ):
            with pytest.raises(ImageError) as caught:
                pool.compare(*files, numbers)
            assert caught.value.reason in reason
        assert pool.pids() == before


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def test_a_pair_that_takes_too_much_memory_has_no_answer(encode, good):
    limits = LimitSettings(memory_bytes=512 * 1024**2)
    with DecoderPool(limits, 16, workers=1, compares=means) as pool:
        huge = encode(Image.new("L", (11_000, 10_900)))
        with pytest.raises(ImageError) as caught:
            pool.compare(good, huge, [1.0])
        assert caught.value.reason in {"too_much_memory", "crashed"}
        assert pool.compare(good, good, [1.0])["shapes"] == [40, 60]


def test_the_memory_limit_and_the_next_image(encode, good):
    limits = LimitSettings(memory_bytes=512 * 1024**2)
    with DecoderPool(limits, 16, workers=1) as pool:
        huge = encode(Image.new("L", (11_000, 10_900)))  # four bytes a pixel when it becomes RGB
        assert reason_of(pool, huge) in {"too_much_memory", "crashed"}
        assert pool.decode(good).width == 60


def test_a_killed_child_fails_its_image_only(pool, good, slow):
    pool.decode(good)
    pid = pool.pids()[0]
    with ThreadPoolExecutor(1) as threads:
        broken = threads.submit(reason_of, pool, slow)
        assert wait_until(lambda: psutil.Process(pid).cpu_times().user > 0.5, 10)
        os.kill(pid, signal.SIGKILL)
        assert broken.result(timeout=10) == "crashed"
    assert pool.decode(good).width == 60


def test_a_child_killed_between_images_is_replaced(pool, good):
    pool.decode(good)
    os.kill(pool.pids()[0], signal.SIGKILL)
    assert wait_until(lambda: not pool.pids(), 5)
    assert pool.decode(good).width == 60


def test_leaving_the_pool_ends_its_children(good):
    with DecoderPool(LimitSettings(), 16, workers=2) as pool:
        pool.decode(good)
        pids = pool.pids()
        assert pids
    assert not any(lives(pid) for pid in pids)


@pytest.mark.parametrize("busy", [False, True])
def test_children_end_when_their_parent_is_killed(tmp_path, good, slow, busy):
    (tmp_path / "good").write_bytes(good)
    (tmp_path / "slow").write_bytes(slow)
    names = ["good", "slow"] if busy else ["good"]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *(str(tmp_path / name) for name in names)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert children
        if busy:
            parent.stdout.readline()
            time.sleep(0.5)  # well inside the slow image
            children = [child.pid for child in psutil.Process(parent.pid).children()]
        assert all(lives(pid) for pid in children)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert wait_until(lambda: not any(lives(pid) for pid in children), 8)


def test_what_a_decoder_prints_does_not_reach_the_pipe(tmp_path, monkeypatch, capfd, good):
    (tmp_path / "sitecustomize.py").write_text(PRINTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with DecoderPool(LimitSettings(), 16, workers=1) as pool:
        pictures = [pool.decode(good) for _ in range(3)]
    assert len({picture.content for picture in pictures}) == 1
    assert capfd.readouterr().err.count("strange tag") == 3


def test_many_threads_share_a_few_processes(encode):
    with DecoderPool(LimitSettings(), 8, workers=2) as pool:
        sizes = [(40 + n, 40 + n % 7) for n in range(50)]
        files = [encode(Image.new("RGB", size, (n, n, n))) for n, size in enumerate(sizes)]
        with ThreadPoolExecutor(8) as threads:
            pictures = list(threads.map(pool.decode, files))
        assert [(picture.width, picture.height) for picture in pictures] == sizes
        assert [int(picture.pixels[0, 0, 0]) for picture in pictures] == list(range(50))
        assert len(pool.pids()) <= 2


def test_decoders_hold_no_credentials(monkeypatch, good):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("DAM_DEDUP_MAIL__PASSWORD", "hidden")
    monkeypatch.setenv("DATABASE_URL", "hidden")  # by whatever name
    with DecoderPool(LimitSettings(), 32, workers=1) as pool:
        pool.decode(good)
        environment = psutil.Process(pool.pids()[0]).environ()
        folder = Path(environment["TMPDIR"])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert psutil.Process(pool.pids()[0]).cwd() == environment["HOME"] == str(folder)
    assert "hidden" not in environment.values()
    assert "PATH" in environment
    assert not folder.exists(), "it goes with the decoder"


def test_pictures_to_look_at_come_from_the_same_processes(pool, encode):
    tall = Image.new("RGB", (300, 600), "teal")
    tall.paste("red", (0, 0, 300, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010E] = "a secret place"
    data = encode(tall.rotate(90, expand=True), "JPEG", quality=95, exif=exif)
    pool.decode(data)  # both kinds of request go to one process
    first = pool.pids()
    jpeg = pool.render(data, 200)
    assert pool.pids() == first
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (100, 200))
        assert not image.getexif()
        red = image.convert("RGB").getpixel((50, 5))
        assert isinstance(red, tuple)
        assert red[0] > 200
        assert red[1] < 60
    with Image.open(io.BytesIO(pool.render(data, 4000))) as image:
        assert image.size == (300, 600), "never larger than it is"
    with pytest.raises(ImageError, match="not a format"):
        pool.render(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 200)
    assert pool.decode(data).width == 300

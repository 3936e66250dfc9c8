"""A mail server for demos and tests: it accepts every mail and keeps each as one file.

``python -m deployments.local.mail_server --port 2525 --dir mails``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from functools import partial
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"
SIZE_LIMIT = 64 * 1024**2


class Sink:
    """Writes ``00000001.eml``, ``00000002.eml``, ... in order of arrival.

    The message's bytes are kept as they came, below two lines with the envelope's sender and
    recipients: ``X-MailFrom`` and ``X-RcptTo``. A file appears whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.number = max(
            (int(p.stem) for p in folder.glob("*.eml") if p.stem.isdigit()), default=0
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802
        """Keep one mail; aiosmtpd calls this method by its name."""
        self.number += 1
        path = self.folder / f"{self.number:08d}.eml"
        sent = f"X-MailFrom: {envelope.mail_from}\r\nX-RcptTo: {', '.join(envelope.rcpt_tos)}\r\n"
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(sent.encode() + envelope.original_content)
        unfinished.replace(path)
        return f"250 2.0.0 kept as {path.name}"


async def serve(port: int, folder: Path) -> None:
    """Take mail on the loopback address until SIGTERM or SIGINT."""
    sink = Sink(folder)
    session = partial(
        SMTP, sink, hostname="localhost", enable_SMTPUTF8=True, data_size_limit=SIZE_LIMIT
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows has no signal handlers here
            loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(session, HOST, port)
    try:
        await stopped.wait()
    finally:
        server.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.local.mail_server", description=__doc__
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dir", type=Path, required=True, help="where the .eml files go")
    wanted = parser.parse_args()
    asyncio.run(serve(wanted.port, wanted.dir))


if __name__ == "__main__":
    main()

"""Ask one address whether its service is well: exit code 0 for an answer of 200, else 1.

The images have no curl. This needs Python's standard library alone, so it costs little each time.

    python -I healthcheck.py http://127.0.0.1:8088/health/ready
"""

from __future__ import annotations

import sys
import urllib.request


def main(url: str) -> int:
    """Ask once, for three seconds, past any proxy of the environment: it is this very machine."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, ValueError) as error:  # refused, late, 4xx and 5xx; or no URL at all
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The Ray of a running service: a local Ray that lives as long as this process.

``python -m cloudbaker.compute.head FILE`` writes the address that others join at into FILE once it is ready.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from cloudbaker.compute.cluster import connect
from cloudbaker.compute.previews.previewer import available
from cloudbaker.compute.previews.remote import RemotePreviewer
from cloudbaker.settings import settings


def main(address_file: Path) -> None:
    """Hold Ray until SIGTERM."""
    stop = {signal.SIGTERM, signal.SIGINT}
    with connect() as cluster:
        signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # not before: Ray's processes would inherit the mask
        chromium = settings().chromium
        if available(chromium) is None:
            RemotePreviewer(chromium).warm()
        temporary = address_file.with_suffix(".tmp")
        temporary.write_text(cluster.address, "utf-8")
        temporary.replace(address_file)
        signal.sigwait(stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

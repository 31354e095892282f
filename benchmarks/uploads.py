"""Uploads into S3: ours beside ``aws s3 cp`` and boto3's ``upload_file``, in turn, to the same server.

    python benchmarks/uploads.py [--megabytes 500] [--rounds 5] > benchmarks/results/uploads.md

The server is Ceph's RADOS gateway, started here on loopback (as root, with Debian's packages `radosgw ceph-mon ceph-osd
ceph-common`), so nothing but the two ends is measured; both share the machine's cores. Each upload is a process of its
own: seconds, CPU and memory are the kernel's account of it, and contain the start of Python.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from peers import python_peer

from cloudbaker.catalog.stores.s3 import S3Store
from cloudbaker.testing.s3 import CREDENTIALS, ceph_server, empty, new_bucket

OURS = """
import sys
from cloudbaker.catalog.stores.s3 import S3Options, S3Store
store = S3Store(sys.argv[1], S3Options(sys.argv[2]))
writer = store.writer()
with open(sys.argv[3], "rb") as file:
    while data := file.read(1 << 20):
        writer.write(data)
assert writer.commit(f"vault/acme/{writer.sha256()}.{sys.argv[4]}")
writer.close()
"""
BOTO3 = """
import sys, boto3
boto3.client("s3", endpoint_url=sys.argv[2]).upload_file(sys.argv[3], sys.argv[1], sys.argv[4])
"""


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    seconds: float
    cpu: float
    megabytes: float
    """Peak resident set."""


def cost_of(command: list[str]) -> Cost:
    """Run it to its end."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, stderr=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            out.seek(0)
            raise RuntimeError(f"{command[0]} failed: {out.read().decode(errors='replace')[-2000:]}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    os.environ.update(CREDENTIALS)
    aws = python_peer("awscli", "aws")
    folder = Path(tempfile.mkdtemp(prefix="cloudbaker-uploads-"))
    try:
        source = folder / "source.bin"
        with source.open("wb") as file:
            for _ in range(asked.megabytes):
                file.write(os.urandom(1 << 20))
        with ceph_server(folder / "ceph") as endpoint:
            measure(endpoint, source, asked.rounds, asked.megabytes, aws)
    finally:
        shutil.rmtree(folder)


def measure(endpoint: str, source: Path, rounds: int, megabytes: int, aws: list[str]) -> None:
    """All ways in turn, `rounds` times."""
    store = new_bucket(endpoint)

    def ways(n: int) -> dict[str, list[str]]:
        return {
            "`S3Store`: SHA-256 of the whole, checked parts, then placed by its hash": [
                *(sys.executable, "-c", OURS, store.url, endpoint, str(source), str(n))
            ],
            "boto3 `upload_file`: CRC32 by parts": [
                *(sys.executable, "-c", BOTO3, store.bucket, endpoint, str(source), f"boto3/{n}")
            ],
            "`aws s3 cp --checksum-algorithm SHA256`: SHA-256 by parts": [
                *(*aws, "s3", "cp", "--quiet", "--checksum-algorithm", "SHA256", "--endpoint-url", endpoint),
                *(str(source), f"s3://{store.bucket}/aws-sha256/{n}"),
            ],
            "`aws s3 cp`: CRC by parts": [
                *(*aws, "s3", "cp", "--quiet", "--endpoint-url", endpoint, str(source), f"s3://{store.bucket}/aws/{n}")
            ],
        }

    costs: dict[str, list[Cost]] = {name: [] for name in ways(0)}
    for n in range(rounds + 1):
        for name, command in ways(n).items():
            cost = cost_of(command)
            if n:  # the first round warms the server and the page cache
                costs[name].append(cost)
        empty(store)
    print("# Uploads into S3\n")
    versions = subprocess.run([*aws, "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} shared vCPUs, Python {platform.python_version()},")
    print(f"{versions}, {_ceph()}. Load average at the end: {os.getloadavg()[0]:.1f}.")
    print(f"`python benchmarks/uploads.py --megabytes {megabytes} --rounds {rounds}`\n")
    print(
        f"{megabytes} MB of random bytes from a file to Ceph's gateway on the same machine; median (least) of {rounds}"
    )
    print("rounds, the ways in turn.\n")
    print("| | s | CPU s | peak memory, MB | × `aws s3 cp` |")
    print("|---|---|---|---|---|")
    base = statistics.median(cost.seconds for cost in list(costs.values())[-1])
    for name, rows in costs.items():
        seconds, cpu = [cost.seconds for cost in rows], [cost.cpu for cost in rows]
        median, memory = statistics.median(seconds), max(cost.megabytes for cost in rows)
        print(
            f"| {name} | {median:.1f} ({min(seconds):.1f}) | {statistics.median(cpu):.1f} ({min(cpu):.1f}) "
            f"| {memory:.0f} | {base / median:.1f} |"
        )
    again(endpoint, store, source)


def again(endpoint: str, store: S3Store, source: Path) -> None:
    """What an upload costs whose bytes are there: no copy within the server is made."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.settings import Settings

    home = source.with_name("home")
    with Catalog.open(Settings(home=home, store_url=store.url, s3_endpoint=endpoint)) as catalog:
        times = []
        for _ in range(2):
            start = time.perf_counter()
            catalog.put_file(source, "acme", "vault")
            times.append(time.perf_counter() - start)
    print(f"\nThrough the catalog (`put_file`): {times[0]:.1f} s. The same bytes again: {times[1]:.1f} s.")


def _ceph() -> str:
    found = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout
    return " ".join(found.split()[:3])


if __name__ == "__main__":
    main()

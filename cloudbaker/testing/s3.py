"""S3 servers for tests: moto, a mock within the process, and Ceph's RADOS gateway, a real one.

Both take the same credentials, `CREDENTIALS`, so that one environment serves a whole session. What each lacks (storage
notes): moto checks no signature and no checksum; Ceph 16.2 ignores the condition on the end of a multipart upload, and
checks a part's SHA-256 only as the signed payload's. A newer Ceph does all of it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, cast

from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

from cloudbaker.catalog.stores.s3 import S3Options, S3Store
from cloudbaker.errors import ToolMissing
from cloudbaker.testing.stores import Calls, Fault

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",  # nor anything of the developer's own
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
"""Environment of whoever talks to these servers."""
_PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool", "setpriv")
_PACKAGES = "radosgw ceph-mon ceph-osd ceph-common"


@contextmanager
def moto_server() -> Iterator[str]:
    """Start moto's S3 in a thread; its endpoint."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line per request
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://127.0.0.1:{port}" if host == "0.0.0.0" else f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(endpoint: str, options: S3Options | None = None, *, prefix: str = "") -> S3Store:
    """A store in a bucket of its own, which it makes. Wants `CREDENTIALS` in the environment."""
    store = S3Store(f"s3://test-{uuid.uuid4().hex[:12]}/{prefix}", options or S3Options(endpoint))
    store.client.create_bucket(Bucket=store.bucket)
    return store


def empty(store: S3Store) -> None:
    """Remove all that a store holds."""
    for info in store.unfinished():
        store.drop_unfinished(info.key)
    for info in store.list():
        store.remove(info.key)


def request_fault(how: Literal["500", "503", "reset", "timeout", "lost"]) -> Fault:
    """A request that fails: refused by the server, cut off, unanswered; or done, and only its answer ``lost``."""

    @contextmanager
    def fault(store: S3Store, nth: int) -> Iterator[Calls]:
        calls, lock = Calls(), threading.Lock()

        def before_send(request: AWSPreparedRequest, **_: Any) -> Any:
            with lock:
                calls.seen += 1
                if calls.seen != nth:
                    return None
            url = str(request.url)
            match how:
                case "reset":
                    raise ConnectionClosedError(endpoint_url=url)
                case "timeout":
                    raise ReadTimeoutError(endpoint_url=url)
                case "lost":
                    URLLib3Session().send(request)
                    raise ReadTimeoutError(endpoint_url=url)
            code = "InternalError" if how == "500" else "SlowDown"
            body = b"" if request.method == "HEAD" else b"<Error><Code>%s</Code></Error>" % code.encode()
            return AWSResponse(url, int(how), cast(Any, HeadersDict()), _Body(body))

        events = store.client.meta.events
        events.register_first("before-send.s3", before_send)
        try:
            yield calls
        finally:
            events.unregister("before-send.s3", before_send)

    return fault


class _Body(io.BytesIO):
    """What urllib3 would have read the answer from."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


REQUEST_FAULTS: Mapping[str, Fault] = {how: request_fault(how) for how in ("500", "503", "reset", "timeout", "lost")}
"""For `StoreConformance.faults`. The store is best opened with ``attempts=1``: with more, boto3 mends most of them."""


def ceph_missing() -> str:
    """Why Ceph can't start here, empty if it can."""
    if os.geteuid() != 0:
        return "Ceph's daemons want root"
    if absent := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"{absent[0]} is not installed: apt-get install {_PACKAGES}"
    return ""


@contextmanager
def ceph_server(folder: Path) -> Iterator[str]:
    """Start monitor, OSD and gateway of a Ceph cluster of one (15 s, 320 MB), loopback only; its endpoint.

    Its daemons are children of this process and die with it, even if it is killed. Raises `ToolMissing` with the last
    lines of the log if one does not start.
    """
    if reason := ceph_missing():
        raise ToolMissing(reason)
    folder.mkdir(parents=True)
    cluster = _Cluster(folder, port=_free_port(), monitor_port=_free_port())
    with ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        yield f"http://127.0.0.1:{cluster.port}"


class _Cluster:
    """One monitor, one OSD on a sparse file, one gateway."""

    def __init__(self, folder: Path, port: int, monitor_port: int) -> None:
        self.folder, self.port, self.monitor_port = folder, port, monitor_port
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.conf = folder / "ceph.conf"
        self.environment = {**os.environ, "CEPH_CONF": str(self.conf), "CEPH_ARGS": f"-c {self.conf}"}

    def start(self) -> None:
        folder, fsid, keyring = self.folder, str(uuid.uuid4()), str(self.folder / "keyring")
        for name in ("mon", "osd", "run", "log"):
            (folder / name).mkdir()
        self.conf.write_text(_CONF.format(folder=folder, fsid=fsid, monitor_port=self.monitor_port))
        Path(keyring).touch()
        auth = ["ceph-authtool", keyring]
        self._do("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        admin = [x for daemon in ("mon", "osd", "mgr") for x in ("--cap", daemon, "allow *")]
        self._do(*auth, "--gen-key", "-n", "client.admin", *admin)
        address, monmap = f"[v2:127.0.0.1:{self.monitor_port}]", str(folder / "monmap")
        self._do("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._do("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-f", "-i", "a")
        osd, key = str(uuid.uuid4()), self._do("ceph-authtool", "--gen-print-key").strip()
        self._do("ceph", "osd", "new", osd, "-i", "-", given=json.dumps({"cephx_secret": key}))
        caps = ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *", "--cap", "mgr", "allow profile osd"]
        self._do(*auth, "--name", "osd.0", "--add-key", key, *caps)
        self._do("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-f", "-i", "0")
        frontend = f"beast endpoint=127.0.0.1:{self.port}"
        client = ["-n", "client.admin", "--keyring", keyring]
        self._daemon("radosgw", "-f", *client, "--rgw-frontends", frontend, "--log-file", str(folder / "log/rgw.log"))
        self._wait_for_gateway()
        keys = [f"--access-key={CREDENTIALS['AWS_ACCESS_KEY_ID']}", f"--secret={CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"]
        self._do("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        other = ["--access-key=other", "--secret=other-secret"]  # who may do nothing with the first one's buckets
        self._do("radosgw-admin", "user", "create", "--uid=other", "--display-name=other", *other)

    def stop(self) -> None:
        """End the daemons, the gateway first, and remove their files."""
        for daemon in reversed(self.daemons):
            with suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _daemon(self, *command: str) -> None:
        # They follow their parent into death by the kernel's hand: a killed test run leaves no cluster behind.
        with (self.folder / "log" / f"{command[0]}.out").open("wb") as out:
            self.daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=self.environment,
                    start_new_session=True,
                )
            )

    def _do(self, *command: str, given: str = "") -> str:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )
        if done.returncode != 0:
            raise ToolMissing(f"Ceph does not start here: {command[0]} failed", detail=done.stderr[-2000:])
        return done.stdout

    def _wait_for_gateway(self) -> None:
        end = time.monotonic() + 90
        while time.monotonic() < end and all(daemon.poll() is None for daemon in self.daemons):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        logs = "\n".join(f"{p.name}: {p.read_text(errors='replace')[-800:]}" for p in (self.folder / "log").iterdir())
        raise ToolMissing("Ceph does not start here: its gateway does not answer", detail=logs)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_CONF = """[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor_port}
public addr = 127.0.0.1
ms bind ipv4 = true
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block size = 68719476736
bluestore block create = true
bluestore block wal size = 0
osd memory target = 939524096
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool delete = true
mon max pg per osd = 1000
mon osd down out interval = 0
osd max object name len = 256
debug mon = 0
debug osd = 0
debug rgw = 1
rgw rados pool autoscale bias = 1
rgw thread pool size = 64
rgw enable usage log = false
rgw enable ops log = false
"""

"""Fetch a Godot engine from a Debian suite into a folder of its own, without touching the host's packages.

Debian is the one place that builds and signs headless engines of three generations. The host's own apt says where its
mirror is and checks the signatures; it works on private state (lists, cache, an empty dpkg status), so that it
believes nothing is installed and fetches every library too. All are unpacked into one folder and started by the
loader in it. That takes no root, and the engine runs on hosts with an older libc.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloudbaker.compute.godot.engines import RECORD, probe_version, version_number
from cloudbaker.errors import EngineMissing, ToolMissing


@dataclass(frozen=True, slots=True)
class Package:
    """Where Debian has an engine."""

    suite: str
    package: str
    program: str
    """Its path below the root."""
    version: str
    """What its version must begin with: a suite moves on."""
    megabytes: int
    """To fetch, about."""


PACKAGES: Mapping[str, Package] = {
    "godot-3": Package("bookworm", "godot3-server", "usr/bin/godot3-server", "3.2", 50),
    "godot-3.6": Package("trixie", "godot3-server", "usr/bin/godot3-server", "3.6", 60),
    "godot-4.6": Package("forky", "godot", "usr/bin/godot", "4.6", 150),
}
"""The engines that `install_engine` knows."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/include", "var")
_SECONDS = 1800.0

Say = Callable[[str], None]


def install_engine(name: str, prefix: Path, *, mirror: str = "", say: Say = lambda _text: None) -> str:
    """Install the engine `name` under `prefix` and return its version; an engine that is there already is left alone.

    `mirror` is the address of a Debian archive; left out, it is the one that this machine's apt uses. A killed
    installation leaves a folder that no one takes for an engine, and the next one removes it. Raises `EngineMissing`
    for a name that is not known or an engine that does not start, `ToolMissing` where apt is missing or fails.
    """
    if name not in PACKAGES:
        raise EngineMissing(f"no engine {name!r} can be fetched: there are {', '.join(PACKAGES)}", engine=name)
    package, folder = PACKAGES[name], prefix / name
    if (folder / RECORD).is_file():
        return str(json.loads((folder / RECORD).read_text("utf-8"))["version"])
    _require("apt-get", "dpkg-deb")
    prefix.mkdir(parents=True, exist_ok=True)
    for abandoned in prefix.glob(f".{name}.*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    work = prefix / f".{name}.{secrets.token_hex(4)}"
    try:
        say(f"fetching {package.package} from Debian {package.suite}, about {package.megabytes} MB")
        debs = _download(work / "apt", package, mirror or debian_mirror())
        say(f"unpacking {len(debs)} packages")
        for deb in debs:
            _run(["dpkg-deb", "-x", str(deb), str(work / "root")])
        shutil.rmtree(work / "apt")
        for part in _NOT_NEEDED:
            shutil.rmtree(work / "root" / part, ignore_errors=True)
        command = _command(work / "root", package)
        version = probe_version(tuple(word.replace("{folder}", str(work)) for word in command), (work,))
        if not version.startswith(package.version):
            raise EngineMissing(
                f"Debian {package.suite} now has Godot {version}, not {package.version}: name an engine of your own "
                "in CLOUDBAKER_ENGINES",
                engine=name,
                version=version,
            )
        number = version_number(version)
        record = {"command": command, "version": version, "suite": package.suite, "number": list(number)}
        (work / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # without a record it is no engine
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return version


def remove_engine(name: str, prefix: Path) -> bool:
    """Remove an engine that `install_engine` made; False where there is none."""
    folder = prefix / name
    if name not in PACKAGES or not folder.is_dir():
        return False
    with suppress(FileNotFoundError):
        (folder / RECORD).unlink()  # first: half a folder must not pass for an engine
    shutil.rmtree(folder)
    return True


def debian_mirror() -> str:
    """The Debian archive that this machine's apt fetches from. Raises `ToolMissing` where it knows none."""
    targets = _run(["apt-get", "indextargets", "--format", "$(LABEL)\t$(REPO_URI)", "Created-By: Packages"])
    for line in targets.splitlines():
        label, _, uri = line.partition("\t")
        if label == "Debian" and uri:
            return uri
    raise ToolMissing(
        "this machine's apt knows no Debian archive: run `apt-get update` first, or name a mirror with --mirror, or "
        "an engine of your own in CLOUDBAKER_ENGINES"
    )


def _download(apt: Path, package: Package, mirror: str) -> list[Path]:
    """Fetch a package and all it needs into private apt folders; returns the files."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.is_file() else ""
    (apt / "sources.list").write_text(f"deb {signed}{mirror} {package.suite} main\n", "utf-8")
    private = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Log": apt,
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Debug::NoLocking": "1",
    }
    options = [word for key, value in private.items() for word in ("-o", f"{key}={value}")]
    _run(["apt-get", *options, "update"])
    _run(["apt-get", *options, "-y", "--download-only", "install", package.package])
    return sorted((apt / "cache" / "archives").glob("*.deb"))


def _command(root: Path, package: Package) -> list[str]:
    """How the engine is started by its own loader; ``{folder}`` stands for the engine's folder."""
    loaders = sorted((root / "usr").glob("lib*/ld-linux-*.so.*")) or sorted(root.glob("lib*/ld-linux-*.so.*"))
    triplets = [
        folder
        for base in (root / "usr" / "lib", root / "lib")
        if base.is_dir()
        for folder in sorted(base.iterdir())
        if "-linux-gnu" in folder.name
    ]
    if not loaders or not triplets or not (root / package.program).is_file():
        raise EngineMissing(
            f"the packages of Debian {package.suite} hold no {package.program}: name an engine of your own in "
            "CLOUDBAKER_ENGINES"
        )

    def inside(path: Path) -> str:
        return str(Path("{folder}", "root", path.relative_to(root)))

    libraries = [inside(path) for folder in triplets for path in (folder, folder / "pulseaudio") if path.is_dir()]
    return [inside(loaders[0]), "--library-path", ":".join(libraries), inside(root / package.program)]


def _require(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise ToolMissing(
            f"engines are fetched by Debian's tools, and {' and '.join(missing)} is missing: name an engine of your "
            "own in CLOUDBAKER_ENGINES",
            missing=missing,
        )


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolMissing(f"{command[0]} did not end in {_SECONDS / 60:.0f} minutes: try again later") from None
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        raise ToolMissing(
            f"{command[0]} failed: {last[:300]}. Is the Debian archive reachable?",
            detail=done.stderr.decode("utf-8", "replace")[-4000:],
        )
    return done.stdout.decode("utf-8", "replace")

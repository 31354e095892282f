from __future__ import annotations

import hashlib
import os
import pickle
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cloudbaker.compute.signing import keys
from cloudbaker.compute.signing.keys import Algorithm
from cloudbaker.errors import SigningKeyError

PRIVATE = ("p256.pem", "ed25519.pem")
PUBLIC = ("p256.pub.pem", "ed25519.pub.pem")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def replace_private(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def test_generate_writes_modes_and_ids_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        made = keys.generate(tmp_path / "home" / "keys")
    finally:
        os.umask(before)
    folder = tmp_path / "home" / "keys"
    assert sorted(p.name for p in folder.iterdir()) == sorted(PRIVATE + PUBLIC)
    assert mode(folder) == 0o700
    assert [mode(folder / name) for name in PRIVATE] == [0o600, 0o600]
    assert [mode(folder / name) for name in PUBLIC] == [0o644, 0o644]
    for signer, name in zip(made.signers, PUBLIC, strict=True):
        public = serialization.load_pem_public_key((folder / name).read_bytes())
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert signer.public.key_id == hashlib.sha256(der).hexdigest()


def test_load_gives_the_same_keys(tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "keys")
    loaded = keys.load(tmp_path / "keys")
    assert loaded.public == made.public
    assert set(keys.load_public(tmp_path / "keys")) == set(made.public)
    assert keys.load_public(tmp_path / "keys" / "p256.pub.pem") == [made.public[0]]
    for mine, theirs in zip(loaded.signers, made.public, strict=True):
        assert theirs.verifies(mine.sign(b"message"), b"message")
        assert not theirs.verifies(mine.sign(b"message"), b"massage")
        assert not theirs.verifies(b"", b"message")


def test_generate_never_overwrites_silently(tmp_path: Path) -> None:
    keys.generate(tmp_path / "keys")
    before = {p.name: p.read_bytes() for p in (tmp_path / "keys").iterdir()}
    with pytest.raises(SigningKeyError, match="already holds signing keys"):
        keys.generate(tmp_path / "keys")
    assert {p.name: p.read_bytes() for p in (tmp_path / "keys").iterdir()} == before


def test_new_keys_keep_the_old_public_halves(tmp_path: Path) -> None:
    old = keys.generate(tmp_path / "keys")
    new = keys.generate(tmp_path / "keys", overwrite=True)
    assert not set(old.public) & set(new.public)
    assert set(keys.load_public(tmp_path / "keys")) == {*old.public, *new.public}
    assert keys.load(tmp_path / "keys").public == new.public
    assert [mode(tmp_path / "keys" / name) for name in PRIVATE] == [0o600, 0o600]


@pytest.mark.parametrize("name", PRIVATE)
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o644])
def test_keys_readable_by_others_are_refused(tmp_path: Path, name: str, bits: int) -> None:
    keys.generate(tmp_path / "keys")
    (tmp_path / "keys" / name).chmod(bits)
    with pytest.raises(SigningKeyError, match=f"chmod 600 .*{name}"):
        keys.load(tmp_path / "keys")


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    keys.generate(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o770)
    for call in (keys.load, keys.ensure, lambda folder: keys.generate(folder, overwrite=True)):
        with pytest.raises(SigningKeyError, match="chmod 700"):
            call(tmp_path / "keys")


def test_ensure_makes_once_and_then_loads(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: keys.ensure(tmp_path / "keys").public, range(8)))
    assert set(made) == {made[0]}
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == sorted(PRIVATE + PUBLIC)


def test_ensure_in_several_processes_makes_one_set(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cloudbaker.compute.signing import keys;"
        "print([k.key_id for k in keys.ensure(Path(sys.argv[1])).public])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "keys")], stdout=subprocess.PIPE) for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1
    assert [process.returncode for process in running] == [0] * 4


def test_ensure_completes_what_a_killed_process_left(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = keys.generate(folder)
    (folder / "p256.pub.pem").unlink()  # killed between the halves
    (folder / "ed25519.pem").unlink()
    (folder / "ed25519.pub.pem").unlink()  # killed before the second pair
    (folder / ".ed25519.pem.new").write_bytes(b"half a k")  # killed while writing
    again = keys.ensure(folder)
    assert again.public[0] == made.public[0]
    assert sorted(p.name for p in folder.iterdir()) == sorted(PRIVATE + PUBLIC)


def test_ensure_does_not_replace_a_lost_private_key(tmp_path: Path) -> None:
    keys.generate(tmp_path / "keys")
    (tmp_path / "keys" / "p256.pem").unlink()
    with pytest.raises(SigningKeyError, match="without its private key"):
        keys.ensure(tmp_path / "keys")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no PKCS#8 PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no PKCS#8 PEM"),
        (b"\xff" * (70 << 10), "too large"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "neither a P-256 nor an Ed25519"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "neither a P-256 nor an Ed25519"),
        (pem(rsa.generate_private_key(65537, 2048)), "neither a P-256 nor an Ed25519"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"pass"), "is encrypted"),
    ],
    ids=["empty", "nonsense", "huge", "p384", "k256", "rsa", "encrypted"],
)
def test_other_private_keys_are_refused_without_quoting_them(tmp_path: Path, data: bytes, message: str) -> None:
    keys.generate(tmp_path / "keys")
    replace_private(tmp_path / "keys" / "p256.pem", data)
    with pytest.raises(SigningKeyError, match=message) as caught:
        keys.load(tmp_path / "keys")
    assert caught.value.detail is None
    assert caught.value.__cause__ is None


def test_swapped_kinds_are_refused(tmp_path: Path) -> None:
    keys.generate(tmp_path / "keys")
    replace_private(tmp_path / "keys" / "p256.pem", (tmp_path / "keys" / "ed25519.pem").read_bytes())
    with pytest.raises(SigningKeyError, match=r"name it ed25519\.pem"):
        keys.load(tmp_path / "keys")


def test_missing_keys_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="cloudbaker keys"):
        keys.load(tmp_path / "nowhere")
    with pytest.raises(SigningKeyError, match="cloudbaker keys"):
        keys.load_public(tmp_path)
    with pytest.raises(SigningKeyError, match="cloudbaker keys"):
        keys.load_public(tmp_path / "nowhere.pub.pem")


def test_a_fifo_or_folder_in_place_of_a_key_does_not_hang(tmp_path: Path) -> None:
    keys.generate(tmp_path / "keys")
    for make in (os.mkfifo, os.mkdir):
        path = tmp_path / "keys" / "p256.pem"
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(SigningKeyError):
            keys.load(tmp_path / "keys")


def test_public_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    public = rsa.generate_private_key(65537, 2048).public_key()
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "rsa.pub.pem").write_bytes(public.public_bytes(*form))
    (tmp_path / "text.pub.pem").write_text("hello")
    with pytest.raises(SigningKeyError, match="neither"):
        keys.load_public(tmp_path / "rsa.pub.pem")
    with pytest.raises(SigningKeyError, match="no public PEM"):
        keys.load_public(tmp_path / "text.pub.pem")


def test_a_key_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SigningKeyError, match="name a folder"):
        keys.ensure(tmp_path / "file" / "keys")


def test_private_material_is_never_shown_or_carried_away(tmp_path: Path) -> None:
    made = keys.generate(tmp_path / "keys")
    body = {line for name in PRIVATE for line in (tmp_path / "keys" / name).read_text().splitlines()[1:-1]}
    shown = f"{made!r} {made} {made.signers} {made.signers[0]!r}"
    assert made.public[0].key_id in shown
    assert not any(line in shown for line in body)
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(made)


def test_algorithms_are_the_two_that_clients_verify() -> None:
    assert [a.value for a in Algorithm] == ["p256", "ed25519"]

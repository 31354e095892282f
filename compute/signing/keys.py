"""Signing keys: one ECDSA P-256 pair (Godot, browsers) and one Ed25519 pair (tools), as PEM files of their owner only.

A folder of keys holds ``p256.pem``, ``ed25519.pem`` (PKCS#8, mode 600) and their public halves ``*.pub.pem``. Making
new keys keeps the old public halves as ``p256-<id>.pub.pem``, so that what was signed before still verifies.

Why two: Godot 3.6 and 4.6 verify P-256 and reject Ed25519 and RSA-PSS; WebCrypto has P-256 everywhere. Ed25519 has no
nonce to get wrong and is what most command-line tools expect.

    >>> import tempfile; from pathlib import Path
    >>> keys = generate(Path(tempfile.mkdtemp()) / "keys")
    >>> [key.algorithm.value for key in keys.signers]
    ['p256', 'ed25519']
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from cloudbaker.errors import SigningKeyError

_Private: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_Public: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MAX_PEM_BYTES = 64 << 10
"""A PEM file beyond this is no key."""


class Algorithm(StrEnum):
    """The two kinds of key. The kind of the *key* decides how a signature is checked; an envelope has no say in it."""

    P256 = "p256"
    """ECDSA on NIST P-256 over SHA-256, DER-encoded signature."""
    ED25519 = "ed25519"
    """Ed25519 (RFC 8032), 64-byte signature."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What checks signatures."""

    algorithm: Algorithm
    key_id: str
    """Hex SHA-256 of the DER SubjectPublicKeyInfo."""
    _key: _Public = field(repr=False, compare=False)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over `message`. Never raises for what the signature holds."""
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                self._key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def pem(self) -> bytes:
        """SubjectPublicKeyInfo PEM, as OpenSSL, Godot (`CryptoKey.load`) and others read it."""
        return self._key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """What makes signatures. Its ``repr`` shows the public id only, and it can't be pickled into another process."""

    public: PublicKey
    _key: _Private = field(repr=False, compare=False)

    @property
    def algorithm(self) -> Algorithm:
        """The kind of the key."""
        return self.public.algorithm

    def sign(self, message: bytes) -> bytes:
        """A signature over `message`: DER for P-256, 64 bytes for Ed25519."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return self._key.sign(message)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private signing key does not leave its process")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of an installation, P-256 first."""

    signers: tuple[PrivateKey, ...]

    @property
    def public(self) -> tuple[PublicKey, ...]:
        """The public halves, in the same order."""
        return tuple(signer.public for signer in self.signers)


def generate(folder: Path, *, overwrite: bool = False) -> Keys:
    """Make both key pairs in `folder` (created with mode 700) and return them.

    Refuses with `SigningKeyError` where a key is already there, unless `overwrite`: then the old public halves are kept
    under their ids and the old private keys are gone.
    """
    with _locked(folder):
        present = [a.value for a in Algorithm if _private_path(folder, a).exists() or _public_path(folder, a).exists()]
        if present and not overwrite:
            raise SigningKeyError(
                f"{folder} already holds signing keys ({', '.join(present)}): use them, or ask for new ones with "
                "`cloudbaker keys --new` (the old public keys are kept for verifying)",
                path=str(folder),
            )
        return Keys(tuple(_make(folder, algorithm, overwrite=overwrite) for algorithm in Algorithm))


def ensure(folder: Path) -> Keys:
    """The keys of `folder`, made on first use. Safe when several processes do so at once.

    A public key whose private half is missing is never replaced silently: that raises `SigningKeyError`.
    """
    if all(_private_path(folder, a).exists() and _public_path(folder, a).exists() for a in Algorithm):
        return load(folder)
    with _locked(folder):
        for algorithm in Algorithm:
            private, public = _private_path(folder, algorithm), _public_path(folder, algorithm)
            if private.exists() and not public.exists():  # ended between the two files of a pair
                _write(public, _load_private(private, algorithm).public.pem(), mode=0o644)
            elif public.exists() and not private.exists():
                raise SigningKeyError(
                    f"{public} is there without its private key {private.name}: bring the private key back, or make "
                    "new keys with `cloudbaker keys --new`",
                    path=str(private),
                )
            elif not private.exists():
                _make(folder, algorithm, overwrite=False)
    return load(folder)


def load(folder: Path) -> Keys:
    """The private keys of `folder`.

    Raises `SigningKeyError`, with the remedy, where one is missing, malformed, of another kind than its name says,
    encrypted, or can be read by group or others.
    """
    _check_folder(folder)
    return Keys(tuple(_load_private(_private_path(folder, algorithm), algorithm) for algorithm in Algorithm))


def load_public(path: Path) -> list[PublicKey]:
    """Public keys of a PEM file, or all of a folder's ``*.pub.pem`` (also retired ones), each id once.

    Raises `SigningKeyError` where there is none, or one is malformed or of another kind than P-256 and Ed25519.
    """
    files = sorted(path.glob("*.pub.pem")) if path.is_dir() else [path]
    found = {key.key_id: key for key in map(_load_public_file, files)}
    if not found:
        raise SigningKeyError(
            f"no public key (*.pub.pem) in {path}: name the publisher's key file, or make keys with `cloudbaker keys`",
            path=str(path),
        )
    return list(found.values())


def _private_path(folder: Path, algorithm: Algorithm) -> Path:
    return folder / f"{algorithm.value}.pem"


def _public_path(folder: Path, algorithm: Algorithm) -> Path:
    return folder / f"{algorithm.value}.pub.pem"


def _make(folder: Path, algorithm: Algorithm, *, overwrite: bool) -> PrivateKey:
    """Make one pair on disk: the private half first, so that a public key never promises what nobody can sign."""
    path = _public_path(folder, algorithm)
    if overwrite and path.exists():
        old = _load_public_file(path)
        _write(folder / f"{algorithm.value}-{old.key_id[:12]}.pub.pem", old.pem(), mode=0o644, overwrite=True)
        path.unlink()
    raw: _Private = (
        ec.generate_private_key(ec.SECP256R1()) if algorithm is Algorithm.P256 else ed25519.Ed25519PrivateKey.generate()
    )
    key = PrivateKey(_public(raw.public_key(), path), raw)
    _write(
        _private_path(folder, algorithm),
        raw.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        mode=0o600,
        overwrite=overwrite,
    )
    _write(path, key.public.pem(), mode=0o644, overwrite=overwrite)
    return key


def _write(path: Path, data: bytes, *, mode: int, overwrite: bool = False) -> None:
    """Whole or not at all, on disk when it returns, and never over an existing file unless told to."""
    temporary = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        temporary.unlink()  # left by a process that was killed; we hold the folder's lock
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)  # whatever the umask took away or left
            file.write(data)
            file.flush()
            os.fsync(fd)
        if overwrite:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # fails where the file exists; rename would replace it
    except OSError as error:
        raise SigningKeyError(
            f"can't write signing key {path}: {error.strerror}; make its folder writable and free some space",
            path=str(path),
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder (made if missing) against other processes that make keys. The lock ends with its holder."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SigningKeyError(
            f"can't make the key folder {folder}: {error.strerror}; name a folder that you may write to",
            path=str(folder),
        ) from error
    try:
        _check_folder(folder)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_folder(folder: Path) -> None:
    """Others who may write to the folder could put their own key there."""
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        raise SigningKeyError(
            f"no signing keys in {folder} ({error.strerror}): make them with `cloudbaker keys`", path=str(folder)
        ) from error
    if stat.S_ISDIR(mode) and mode & 0o022:
        raise SigningKeyError(
            f"the key folder {folder} can be written to by others: run `chmod 700 {folder}`", path=str(folder)
        )


def _load_private(path: Path, algorithm: Algorithm) -> PrivateKey:
    data = _read(path, private=True)
    try:
        raw = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise SigningKeyError(
            f"{path} is encrypted: store it decrypted with mode 600 (a secret manager may do so at start)",
            path=str(path),
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        # `from None`: no exception of the parser travels on, whatever it may quote
        raise SigningKeyError(f"{path} is no PKCS#8 PEM key: put the right file there", path=str(path)) from None
    if not isinstance(raw, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise _wrong_kind(path)
    public = _public(raw.public_key(), path)
    if public.algorithm is not algorithm:
        raise SigningKeyError(
            f"{path} holds a {public.algorithm.value} key: name it {public.algorithm.value}.pem", path=str(path)
        )
    return PrivateKey(public, raw)


def _load_public_file(path: Path) -> PublicKey:
    data = _read(path, private=False)
    try:
        raw = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyError(f"{path} is no public PEM key: put the right file there", path=str(path)) from None
    if not isinstance(raw, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise _wrong_kind(path)
    return _public(raw, path)


def _public(raw: _Public, path: Path) -> PublicKey:
    if isinstance(raw, ec.EllipticCurvePublicKey) and not isinstance(raw.curve, ec.SECP256R1):
        raise _wrong_kind(path)
    der = raw.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    algorithm = Algorithm.P256 if isinstance(raw, ec.EllipticCurvePublicKey) else Algorithm.ED25519
    return PublicKey(algorithm, hashlib.sha256(der).hexdigest(), raw)


def _wrong_kind(path: Path) -> SigningKeyError:
    return SigningKeyError(f"{path} is neither a P-256 nor an Ed25519 key: make one of these", path=str(path))


def _read(path: Path, *, private: bool) -> bytes:
    """A key file's bytes. Links are followed (Kubernetes mounts secrets so); modes are of what was opened."""
    try:
        # O_NONBLOCK: a FIFO in place of the file must not hang us
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SigningKeyError(f"{path} is not a regular file: put the key's PEM file there", path=str(path))
            if private and mode & 0o077:
                raise SigningKeyError(
                    f"the private key {path} can be read by others (mode {stat.S_IMODE(mode):03o}): "
                    f"run `chmod 600 {path}`, and make new keys if somebody may have read it",
                    path=str(path),
                )
            data = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise SigningKeyError(
            f"can't read signing key {path}: {error.strerror}; make keys with `cloudbaker keys`", path=str(path)
        ) from error
    if len(data) > MAX_PEM_BYTES:
        raise SigningKeyError(f"{path} is too large for a key: put the key's PEM file there", path=str(path))
    return data

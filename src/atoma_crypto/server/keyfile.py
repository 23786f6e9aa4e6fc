"""Key files: written for nobody else to read, and read only if nobody else can."""

from __future__ import annotations

import base64
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

import atoma_crypto as ac
from atoma_crypto._core import ffi
from atoma_crypto._typing import Suite

_KEY_BYTES = 32
_FILE_CAP = 1024  # no form of a key is longer, white space included


def read_secret_key(path: str | os.PathLike[str], suite: Suite = "X25519") -> ac.SecretKey:
    """Read a secret key: 32 bytes, or 64 hexadecimal digits, or base64, white space around it ignored.

    The file does not say of which suite its key is; one of X-Wing is the seed. ValueError: the file holds no key, and
    nothing of its content is shown; or it is yours and others may read it. OSError: it cannot be read.
    """
    return ac.SecretKey.from_bytes(_read(Path(path), f"{suite} secret key"), suite)  # the bytes are let go of here


def read_signing_key(path: str | os.PathLike[str]) -> ac.SigningKey:
    """Read an Ed25519 seed, in the same forms and with the same errors."""
    return ac.SigningKey.from_bytes(_read(Path(path), "Ed25519 seed"))


def write_secret_key(path: str | os.PathLike[str], key: ac.SecretKey) -> None:
    """Write a secret key of suite X25519 to a new file, as base64 and a line feed, with mode 0600, and sync it.

    FileExistsError: there is something by that name, which is left as it is. OSError: it cannot be written, and no part
    of it is left.
    """
    path = Path(path)
    native = key.native
    text = base64.b64encode(ffi.buffer(native.secret)) + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with open(descriptor, "wb") as file:
            if os.name == "posix":
                os.fchmod(descriptor, 0o600)  # the umask may have taken more away
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        _sync_directory(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync_directory(path: Path) -> None:
    """Wait until the disk has the name, too."""
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    with suppress(OSError):  # not every file system can, nor everybody look into every directory: the file is there
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path, what: str) -> bytes:
    with path.open("rb") as file:
        _check_mode(path, os.fstat(file.fileno()))
        content = file.read(_FILE_CAP + 1)
    if len(content) == _KEY_BYTES:  # first, for raw bytes may begin or end with white space
        return content
    content = content.strip()
    if len(content) == _KEY_BYTES:
        return content
    if re.fullmatch(rb"[0-9A-Fa-f]{64}", content):
        return bytes.fromhex(content.decode())
    if re.fullmatch(rb"[0-9A-Za-z+/]{43}=", content):
        return base64.b64decode(content)
    raise ValueError(f"{path} holds no {what}: 32 bytes, or 64 hexadecimal digits, or base64 of 32 bytes")


def _check_mode(path: Path, status: os.stat_result) -> None:
    """As ssh does: a key file of one's own that others may read is refused; those of others are theirs to judge."""
    if os.name == "posix" and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise ValueError(f"{path} has mode {mode:04o}: group or others can get at the key in it; chmod 600 it")

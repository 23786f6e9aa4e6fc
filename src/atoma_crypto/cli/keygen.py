"""`atoma-crypto keygen`: a secret key in a file, for a node whose key does not change."""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import atoma_crypto as ac
from atoma_crypto._typing import Suite
from atoma_crypto.server.keyfile import read_secret_key, write_secret_key

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: SubParsers) -> None:
    """Add `keygen` to the sub-commands."""
    parser = subparsers.add_parser(
        "keygen",
        help="make a secret key file for a node",
        description="Make a new secret key and write it to FILE, which must not exist yet, as base64 with mode 0600. "
        "Print the public key in base64, which clients may pin, its fingerprint, and the id by which requests of "
        "protocol v2 name it.",
    )
    parser.add_argument(
        "--suite", choices=get_args(Suite), default="X25519", help="what the key is for; X-Wing is for v2 (X25519)"
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="where to write the secret key")
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Write the key. Returns 2, with nothing written, if that cannot be done."""
    suite: Suite = arguments.suite
    try:
        with ac.SecretKey.generate() as drawn:  # 32 random bytes: of X-Wing they are the seed
            if suite != "X25519":
                ac.SecretKey.generate(suite).close()  # can it be used here?
            write_secret_key(arguments.file, drawn)
        with read_secret_key(arguments.file, suite) as key:
            public_key = key.public_key
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        sys.stderr.write(f"atoma-crypto keygen: {error}\n")
        return 2
    sys.stdout.write(f"public key   {public_key.to_base64()}\nfingerprint  {public_key.fingerprint()}\n")
    sys.stdout.write(f"key id       {base64.b64encode(public_key.key_id).decode()}\n")
    return 0

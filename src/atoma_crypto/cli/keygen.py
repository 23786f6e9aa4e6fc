"""`atoma-crypto keygen`: a secret key in a file, for a node whose key does not change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import atoma_crypto as ac
from atoma_crypto.server.keyfile import write_secret_key

if TYPE_CHECKING:
    # generic in the stubs alone, so that this name is good for annotations only
    SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: SubParsers) -> None:
    """Add `keygen` to the sub-commands."""
    parser = subparsers.add_parser(
        "keygen",
        help="make a secret key file for a node",
        description="Make a new X25519 secret key and write it to FILE, which must not exist yet, as base64 and with "
        "mode 0600. Print the public key in base64 and its fingerprint, which clients may pin.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="where to write the secret key")
    parser.set_defaults(run=run, extra="server")


def run(arguments: argparse.Namespace) -> int:
    """Write the key. Returns 2, with nothing written, if that cannot be done."""
    with ac.SecretKey.generate() as key:
        try:
            write_secret_key(arguments.file, key)
        except (OSError, ValueError) as error:  # ValueError: no name of a file
            sys.stderr.write(f"atoma-crypto keygen: {error}\n")
            return 2
        public_key = key.public_key
    sys.stdout.write(f"public key   {public_key.to_base64()}\nfingerprint  {public_key.fingerprint()}\n")
    return 0

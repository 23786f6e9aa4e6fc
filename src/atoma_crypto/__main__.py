"""`python -m atoma_crypto` is `atoma-crypto`."""

import sys

from atoma_crypto.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""The ``civicgate`` command; ``python -m gateway`` is the same."""

import sys

from gateway.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

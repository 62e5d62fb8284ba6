"""`python -m levity`. Runs in: client. Owns: nothing."""

import sys

from levity.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m avpea` is the command `avpea`."""

import sys

from avpea.cli import script

if __name__ == "__main__":
    sys.exit(script())

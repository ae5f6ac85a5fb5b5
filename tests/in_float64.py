"""`python -m tests.in_float64 train …` is `avpea train …` in float64 and without dropout."""

import sys

from avpea.cli import main
from tests.several import in_float64

if __name__ == "__main__":
    in_float64()
    sys.exit(main(sys.argv[1:]))

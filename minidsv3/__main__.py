"""`python -m minidsv3` is `minidsv3`."""

import sys

from minidsv3.cli import main

if __name__ == "__main__":
    sys.exit(main())

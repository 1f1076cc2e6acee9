"""``python -m ersd`` is ``ersd``."""

import sys

from ersd.cli import main

sys.exit(main())

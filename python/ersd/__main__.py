"""``python -m ersd`` is ``ersd``."""

import sys

from ersd.commands.cli import main

sys.exit(main())

"""Makes ``python -m ersd`` the same as the command ``ersd``."""

import sys

from ersd.commands.main import main

sys.exit(main())

"""The command line: ``ersd`` and ``ersd-bench``, one file per command."""

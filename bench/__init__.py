"""Gristmill and what one would use instead, side by side, against the same server: ``./bench/run``."""

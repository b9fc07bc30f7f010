"""The version, part of what a run is known by: where the code is, not where it was installed."""

__version__ = "0.9.0"

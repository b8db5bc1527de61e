"""The seat reservation service."""

from importlib.metadata import version

__version__ = version("seatsvc")

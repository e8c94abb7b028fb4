"""The version of the distribution."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("plugrad")
"""The version that is installed."""

"""Methods: each a frozen dataclass in a file of its own, found by looking into this folder.

This package and the files in it import no torch before a plan is made, so that listings, `--help` and the
check of a configuration answer at once.
"""

from vitgraft.methods.base import Method, Recipe
from vitgraft.methods.registry import describe, method_named, names, parse, parse_saved, spec_of

__all__ = ["Method", "Recipe", "describe", "method_named", "names", "parse", "parse_saved", "spec_of"]

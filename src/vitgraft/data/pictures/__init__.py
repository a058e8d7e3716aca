"""From a file, or what a user holds, to an upright 8-bit RGB picture."""

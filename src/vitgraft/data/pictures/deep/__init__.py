"""Pictures of more than 8 bits a channel: the numbers that files hold, as they are stored.

Pillow reads 16-bit grey as it is. Of 16-bit colour it keeps the upper byte, so that 12-bit data have 16 greys
left: `pillow` takes both bytes, by decoding twice. TIFF files that Pillow does not know (colour in floats, 64
bits, planes) are read by tifffile in `tiff`, and netpbm files, which Pillow scales, by a few lines in `netpbm`.
"""

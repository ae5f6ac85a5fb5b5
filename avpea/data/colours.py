"""Pascal VOC's palette, in which masks of classes are stored."""

__all__ = ["colour_of"]


def colour_of(number: int) -> int:
    """The colour of a class in Pascal VOC's palette, as 0xRRGGBB.

    >>> hex(colour_of(1)), hex(colour_of(70))
    ('0x800000', '0x208080')
    """
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (number >> channel & 1) << 7 - bit
        number >>= 3
    return channels[0] << 16 | channels[1] << 8 | channels[2]

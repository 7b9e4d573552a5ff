"""How much memory a compressed file may ask for: a small one, damaged or made to harm, must not fill the computer."""

_ALWAYS = 3 * 2**29  # 1.5 GiB, what a file of 3 MiB gets
_FURTHER = 512  # times its size, which a larger file gets


def in_proportion(needed: int, file_bytes: int) -> bool:
    """Whether a compressed file of `file_bytes` may take `needed` bytes of memory while it is read."""
    return needed <= max(_ALWAYS, _FURTHER * file_bytes)

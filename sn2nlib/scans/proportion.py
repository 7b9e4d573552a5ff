"""How much memory a file may ask for: a small one, damaged or made to harm, must not fill the computer."""

_ALWAYS = 3 * 2**29  # 1.5 GiB, what a compressed file of 3 MiB gets
_FURTHER = 512  # times its size, which a larger one gets
_SAMPLES_ALWAYS = 2**26  # 64 MiB of samples, whatever the file
_SAMPLES_FURTHER = 40  # k-space bytes per byte of the file: R = 4×4 with partial Fourier on both axes


def in_proportion(needed: int, file_bytes: int) -> bool:
    """Whether a compressed file of `file_bytes` may take `needed` bytes of memory while it is read."""
    return needed <= max(_ALWAYS, _FURTHER * file_bytes)


def believable(needed: int, file_bytes: int) -> bool:
    """Whether a file of `file_bytes` can be the source of so many bytes of samples: nothing else is ever allocated."""
    return needed <= max(_SAMPLES_ALWAYS, _SAMPLES_FURTHER * file_bytes)

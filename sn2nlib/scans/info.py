"""Provenance of a scan, `Scan.info`: what it may hold, and the check of it, since files may hold anything."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from sn2nlib.errors import ScanError

_WORDS, _SENTENCES = ("source", "geometry"), ("done", "notes")  # of `Scan.info`
_NUMBERS = ("noise_sd", "noise_seed", "added_noise_sigma", "replica")


def check_info(info: Any) -> None:
    """Raise unless provenance is a set of names and values, and those that are read are of their kind.

    Parameters
    ----------
    info
        Of a `Scan`: source and geometry are words, done and notes lists of sentences, noise_sd, noise_seed,
        added_noise_sigma and replica finite numbers. Each may be missing; others may be anything.

    Raises
    ------
    ScanError
    """
    if not isinstance(info, Mapping):
        raise ScanError("info: needs names and their values, a JSON object")
    for name, value in info.items():
        if name in _WORDS and not isinstance(value, str):
            raise ScanError(f"info: {name} needs words")
        if name in _SENTENCES and not (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
            raise ScanError(f"info: {name} needs a list of sentences")
        if name in _NUMBERS and not (isinstance(value, Real) and math.isfinite(value)):
            raise ScanError(f"info: {name} needs a finite number")

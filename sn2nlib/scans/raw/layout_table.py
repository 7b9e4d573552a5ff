"""The table of public k-space layouts, ``layouts.yaml``: what its keys mean, and their check.

name, title
    A short name, and one for people.
container
    ``hdf5``: arrays in an HDF5 file; ``ismrmrd``: an ISMRMRD file that differs from the rule.
recognise
    ``hdf5``: `datasets` that must be there (with `ndim`, dtype `kind` f or c, `shape` and `multiple` per axis) and
    names that must be `absent`. ``ismrmrd``: user `parameters` that the header must have, and header values that must
    be `above` or `below` a number, or must `contain` a word.
kspace
    `dataset`, order of its `axes`, and `complex` numbers: ``compound`` (also native complex), ``interleaved`` (real
    and imaginary parts in turn on the last axis), or ``separate`` (two datasets, _real and _imag).
image_axes
    Axes that were already transformed to the image, with the image's centre at n//2.
dc
    Where zero frequency lies on an axis: ``centre`` (n//2, also where not said), ``first`` (0), ``either`` (wherever
    the energy is).
image_origin
    Where the FFT that the file was made for puts the image's first voxel: ``centre`` (FFT about n//2, also where not
    said) or ``first`` (plain FFT without shifts).
sampled
    `rule`: ``nonzero`` (lines that are not all zero), ``dataset`` (a mask, whose `axes` are given), or
    ``dataset_or_nonzero``; `collected`: acquired share of an axis, what comes after it is fill.
voxel_size
    (z, y, x) in mm: a `constant`, an `attribute`, or an ISMRMRD header in the dataset `xml`, which also tells how far
    the readout was oversampled.
extras, attributes
    Datasets of noise (coil, n), acs and repeat (coil, kz, ky, kx); attributes of the file: affine, acceleration,
    caipi_shift, not_for_training, kx_acquired.
signs, noise_sd
    ``ismrmrd``: axis → user parameter (lines alternate in sign unless it is 1); array of the channels' noise SD.
training
    ``allowed``, ``if_white`` (if the noise along a transformed axis is white), or the reason why not.
licence, url
    For people.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

AXES = ("coil", "kz", "ky", "kx")


@dataclass(frozen=True)
class Layout:
    """One entry of ``layouts.yaml``; the module's docstring says what the fields mean."""

    name: str
    title: str
    container: str
    recognise: dict[str, Any]
    training: str
    licence: str
    url: str
    kspace: dict[str, Any] = field(default_factory=dict)
    image_axes: tuple[str, ...] = ()
    dc: dict[str, str] = field(default_factory=dict)
    image_origin: dict[str, str] = field(default_factory=dict)
    sampled: dict[str, Any] = field(default_factory=dict)
    voxel_size: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    signs: dict[str, str] = field(default_factory=dict)
    noise_sd: str | None = None

    def __post_init__(self) -> None:
        allowed = {
            "container": ({self.container}, {"hdf5", "ismrmrd"}),
            "image_axes": (set(self.image_axes), set(AXES[1:])),
            "dc": (set(self.dc.values()), {"centre", "first", "either"}),
            "image_origin": (set(self.image_origin.values()), {"centre", "first"}),
            "complex": ({self.kspace.get("complex", "compound")}, {"compound", "interleaved", "separate"}),
            "axes": (set(self.kspace.get("axes", AXES)), set(AXES)),
            "rule": ({self.sampled.get("rule", "dataset")}, {"nonzero", "dataset", "dataset_or_nonzero"}),
        }
        for key, (found, known) in allowed.items():
            if not found <= known:
                raise ValueError(f"layouts.yaml: {self.name}: {key} = {sorted(found - known)}, known: {sorted(known)}")

        if self.has_header and ("kx" in (*self.image_axes, *self.dc) or self.kspace["axes"][0] == "kx"):
            raise ValueError(f"layouts.yaml: {self.name}: of such a readout no oversampling is removed")

    @property
    def has_header(self) -> bool:
        """Whether files hold an ISMRMRD header beside their arrays."""
        return "xml" in self.voxel_size

    @property
    def reason_against_training(self) -> str | None:
        """Why no file of this layout can serve for training; None if it can, or if the samples decide."""
        return None if self.training in ("allowed", "if_white") else self.training


@functools.cache
def load_layouts() -> tuple[Layout, ...]:
    """All layouts, in the order in which they are tried."""
    entries = yaml.safe_load(Path(__file__).with_name("layouts.yaml").read_text(encoding="utf-8"))
    return tuple(Layout(**{**entry, "image_axes": tuple(entry["image_axes"])}) for entry in entries)

"""GRAPPA in hybrid space: the readout transformed, kz and ky not; every readout position x on its own.

Along the readout the kernel is a convolution, so that at each x its kx taps merge into one matrix

    W_x = Σ_dx w_dx exp(-2πi dx (x - c) / n),        c = n//2,

a third of the work for three taps, and the transform of the readout is shared by all images of a scan. This product
is periodic along kx. `grappa.fill` takes neighbours beyond the readout's ends as zero, and so does this: the few
samples kx = k that have such neighbours are corrected, each by one product for the whole scan,

    I_x += exp(2πi (k - c)(x - c) / n) / √n · C_k,   C_k = -Σ w_dx S(k + dx mod n) over the neighbours beyond.

The samples carry the factor exp(-2πi (kz cz / nz + ky cy / ny)), which makes a plain inverse FFT of (kz, ky) put the
image in its place, without shifts, up to a phase per voxel (`image_phase`) that is taken off the combined image. The
kernel takes up the same factor.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from sn2nlib.recon.cells import Cells, acquired_lattice, support
from sn2nlib.recon.grappa import GrappaKernel
from sn2nlib.sampling import Mask

_Complex = NDArray[np.complex64]


def centre_phase(n: int) -> NDArray[np.complex128]:
    """Factor along an axis that stands for a shift by n//2.

    On samples: their plain inverse FFT then has the image in its place, up to `image_phase`. On a plain inverse FFT of
    samples without the factor: its value j is that of x = (j + n//2) mod n.
    """
    return np.exp(-2j * np.pi * (n // 2) * np.arange(n) / n)


def image_phase(shape: tuple[int, int]) -> _Complex:
    """Factor (z, y) on the combined image that belongs to samples with `centre_phase`."""
    z, y = (np.exp(-2j * np.pi * (n // 2) * (np.arange(n) - n // 2) / n) for n in shape)
    return np.multiply.outer(z, y).astype(np.complex64)


def edge_positions(kernel_width: int, nx: int) -> list[int]:
    """Positions kx that are needed from the other end of the readout: C_k is made of their samples."""
    before, after = kernel_width // 2, kernel_width - 1 - kernel_width // 2
    return sorted({(nx - 1 - i) % nx for i in range(before)} | {i % nx for i in range(after)})


@dataclass(frozen=True)
class HybridSamples:
    """Acquired samples of one scan with the readout transformed.

    Attributes
    ----------
    planes : (x, coil, kz, column) complex64
        Array, or a dataset on disk, with `centre_phase` along kz and ky; the columns are the ky that were acquired for
        any kz.
    edges : (edge, coil, kz, column) complex64
        Samples at `edge_positions` with the same factor, not transformed.
    columns : (column,) int
    shape : (kz, ky, kx)
    """

    planes: _Complex
    edges: _Complex
    columns: NDArray[np.int64]
    shape: tuple[int, int, int]

    @cached_property
    def runs(self) -> list[tuple[slice, slice]]:
        """The columns as (slice of ky, slice of columns): these are copied several times as fast as single columns."""
        runs, first = [], 0
        steps = np.diff(self.columns, append=0)
        while first < len(self.columns):
            end = first + 1
            while end < len(self.columns) and steps[end - 1] == steps[first]:
                end += 1
            ky = slice(self.columns[first], self.columns[end - 1] + 1, max(1, steps[first]))
            runs.append((ky, slice(first, end)))
            first = end
        return runs

    def plane(self, samples: _Complex) -> _Complex:
        """(coil, kz, column) → (coil, kz, ky)."""
        whole = np.zeros((samples.shape[0], *self.shape[:2]), np.complex64)
        for ky, stored in self.runs:
            whole[:, :, ky] = samples[:, :, stored]
        return whole


class ReadoutTransform:
    """From the k-space lines of one partition to its part of `HybridSamples`.

    Parameters
    ----------
    shape : (kz, ky, kx)
    columns : (column,) int
        ky of the lines.
    kernel_width : int
        Of the kernel along kx.
    """

    def __init__(self, shape: tuple[int, int, int], columns: NDArray[np.int64], kernel_width: int) -> None:
        along_z, along_y, along_x = (centre_phase(n) for n in shape)
        self.edges = edge_positions(kernel_width, shape[2])
        self.along_z, self.along_y = along_z, along_y[columns, None]
        self.along_lines = self.along_y * along_x

    def __call__(self, lines: _Complex, kz: int, hybrid: _Complex, edges: _Complex) -> None:
        """Write hybrid (x, coil, column) and edges (edge, coil, column) of lines (coil, column, kx), which are lost."""
        edges[:] = (self.along_z[kz] * self.along_y * lines[:, :, self.edges]).transpose(2, 0, 1)
        values = scipy.fft.ifft(lines, norm="ortho", overwrite_x=True)
        values *= (self.along_z[kz] * self.along_lines).astype(np.complex64)
        centre = values.shape[2] // 2
        hybrid[centre:] = values[:, :, : values.shape[2] - centre].transpose(2, 0, 1)
        hybrid[:centre] = values[:, :, values.shape[2] - centre :].transpose(2, 0, 1)


class HybridFill:
    """One frozen GRAPPA fill, applied to one x after the other.

    Parameters
    ----------
    samples : HybridSamples
    mask : (kz, ky) bool
        Samples to be used.
    kernel : GrappaKernel or None
        None: the samples are masked and nothing is filled.
    taper : (kz, ky) float32, optional
        Raw filter.
    """

    def __init__(
        self,
        samples: HybridSamples,
        mask: Mask,
        kernel: GrappaKernel | None,
        taper: NDArray[np.float32] | None = None,
    ) -> None:
        self.samples, self.mask, self.taper = samples, mask, taper
        if kernel is None or mask.all():
            self.kernel, self.corrections = None, {}
            return
        self.kernel = kernel
        nz, ny, nx = samples.shape
        lattice = acquired_lattice(mask, kernel.acceleration, kernel.caipi_shift)
        self.cells = Cells((nz, ny, 1), lattice)
        points = lattice.points(mask.shape)
        self.kept = np.flatnonzero(mask & ~points)  # acquired, but where targets are
        self.empty = np.flatnonzero(~mask & (points | ~support(mask, lattice)))
        self.taps = kernel.sources[: kernel.size[0], 2]
        self.weights = _with_centre_phase(kernel, (nz, ny)).astype(np.complex64)
        self.corrections = self._corrections(edge_positions(kernel.size[0], nx))

    def __call__(self, samples: _Complex, x: int) -> _Complex:
        """Filled plane (coil, kz, ky) at one x from the samples (coil, kz, column) there; a new array."""
        plane = self._filled(samples, x)
        if self.taper is not None:
            plane *= self.taper
        return plane

    def _filled(self, samples: _Complex, x: int) -> _Complex:
        whole = self.samples.plane(samples)
        if self.kernel is None:
            return whole if self.mask.all() else whole * self.mask
        nx, centre = self.samples.shape[2], self.samples.shape[2] // 2
        factors = np.exp(-2j * np.pi * self.taps * (x - centre) / nx).astype(np.complex64)
        merged = np.einsum("tcsxd,x->tcsd", self.weights, factors)
        edge = {k: np.complex64(np.exp(2j * np.pi * (k - centre) * (x - centre) / nx) / np.sqrt(nx))
                for k in self.corrections}
        gathered, flat = self._gather(whole), whole.reshape(len(whole), -1)
        kept = np.take(flat, self.kept, axis=1)
        for row_class in range(self.cells.n_classes):
            predicted = self._predict(gathered, merged, row_class)
            for k, factor in edge.items():
                predicted += factor * self.corrections[k][row_class]
            self._scatter(whole, predicted, row_class)
        # every position off the lattice is written by now: samples of other masks too, which are not this one's
        for coil, acquired in zip(flat, kept, strict=True):
            coil[self.kept], coil[self.empty] = acquired, 0
        return whole

    def _corrections(self, positions: list[int]) -> dict[int, list[_Complex]]:
        """C_k of every kx = k that has neighbours beyond the readout, one array per row class."""
        nx = self.samples.shape[2]
        gathered = {p: self._gather(self.samples.plane(e)) for p, e in zip(positions, self.samples.edges, strict=True)}
        beyond: dict[int, list[tuple[int, int]]] = {}
        for tap, dx in enumerate(self.taps.tolist()):
            for k in range(max(0, nx - dx), nx) if dx > 0 else range(min(-dx, nx)):
                beyond.setdefault(k, []).append((tap, (k + dx) % nx))
        corrections: dict[int, list[_Complex]] = {}
        for k, neighbours in beyond.items():
            corrections[k] = []
            for row_class in range(self.cells.n_classes):
                parts = [
                    self._predict(gathered[p], np.ascontiguousarray(self.weights[:, :, :, tap]), row_class)
                    for tap, p in neighbours
                ]
                corrections[k].append(-np.stack(parts).sum(axis=0))
        return corrections

    def _gather(self, whole: _Complex) -> _Complex:
        """Lattice samples (coil, position, row) with margins, zero where nothing was acquired."""
        cells, (ry, rz) = self.cells, self.cells.lattice.acceleration
        y0, period, (after_z, after_y) = cells.lattice.offset[0], cells.n_classes, self._margins()
        shape = (cells.n_positions + 2 * after_z, cells.n_rows + 2 * after_y)
        gathered = np.zeros((whole.shape[0], *shape), np.complex64)
        core = gathered[:, after_z : after_z + cells.n_positions, after_y : after_y + cells.n_rows]
        for row in range(min(period, cells.n_rows)):
            kz, ky = slice(cells.base(row), None, rz), slice(y0 + ry * row, None, ry * period)
            acquired = self.mask[kz, ky]
            np.copyto(core[:, : len(acquired), row::period], whole[:, kz, ky], where=acquired)
        return gathered

    def _margins(self) -> tuple[int, int]:
        """Margins along (position, row): the kernel's reach from the cells beyond the edge."""
        assert self.kernel is not None
        _, ky, kz = self.kernel.size
        return kz // 2 + 2, ky // 2 + 1

    def _begin(self, row_class: int) -> tuple[int, int, int, int]:
        """First position and row of a class, and their numbers; cells before the matrix may reach into it."""
        cells = self.cells
        row = -1 if cells.lattice.offset[0] and row_class == cells.n_classes - 1 else row_class
        position = cells.first_position(row_class)
        return position, row, cells.n_positions - position, max(0, -(-(cells.n_rows - row) // cells.n_classes))

    def _predict(self, gathered: _Complex, weights: _Complex, row_class: int) -> _Complex:
        """Targets (target, coil, position, row) of all cells in the rows of one class."""
        position, row, n_positions, n_rows = self._begin(row_class)
        (margin_z, margin_y), period = self._margins(), self.cells.n_classes
        n_targets, n_coils, n_sources, _ = weights.shape
        matrix = np.empty((n_sources, n_coils, n_positions, n_rows), np.complex64)
        assert self.kernel is not None
        offsets = self.kernel.sources[:: self.kernel.size[0]].tolist()
        for view, (dz, dy, _dx) in zip(matrix, offsets, strict=True):
            m, i, _ = self.cells.neighbour(row_class, (dz, dy, 0))
            z, y = position + m + margin_z, row + i + margin_y
            view[:] = gathered[:, z : z + n_positions, y : y + n_rows * period : period][:, :, :n_rows]
        product = weights.reshape(n_targets * n_coils, -1) @ matrix.reshape(n_sources * n_coils, -1)
        return product.reshape(n_targets, n_coils, n_positions, n_rows)

    def _scatter(self, filled: _Complex, predicted: _Complex, row_class: int) -> None:
        """Put predicted targets where they belong; those beyond the matrix are dropped."""
        cells, (ry, rz) = self.cells, self.cells.lattice.acceleration
        position, row, n_positions, n_rows = self._begin(row_class)
        assert self.kernel is not None
        for values, (dz, dy, _) in zip(predicted, self.kernel.targets.tolist(), strict=True):
            kz = cells.base(row_class) + dz + rz * (position + np.arange(n_positions))
            ky = cells.lattice.offset[0] + dy + ry * (row + cells.n_classes * np.arange(n_rows))
            (z0, z1), (y0, y1) = (np.searchsorted(k, (0, n)) for k, n in zip((kz, ky), filled.shape[1:], strict=True))
            if z0 < z1 and y0 < y1:
                rows, columns = slice(kz[z0], kz[z1 - 1] + 1, rz), slice(ky[y0], ky[y1 - 1] + 1, ry * cells.n_classes)
                filled[:, rows, columns] = values[:, z0:z1, y0:y1]


def _with_centre_phase(kernel: GrappaKernel, shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Weights (target, coil, source, tap, coil) for samples that carry `centre_phase`."""
    n_targets, n_coils, n_sources, _ = kernel.weights.shape
    steps = kernel.targets[:, None, :2] - kernel.sources[None, :, :2]  # (target, source, (dz, dy))
    cycles = sum(steps[:, :, axis] * (n // 2) / n for axis, n in enumerate(shape))
    weights = kernel.weights * np.exp(-2j * np.pi * cycles)[:, None, :, None]
    width = kernel.size[0]
    return weights.reshape(n_targets, n_coils, n_sources // width, width, n_coils)

"""What there is to look at in a digital head, on the grid of its scan: tissues, structures, lesions, air.

A reader knows anatomy; a model observer is told where it lies. It is told places alone, never an intensity, and the
same places for every image of a head.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, map_coordinates

from sn2nlib.errors import ImageError
from sn2nlib.evaluation.regions import air_mask, nearest, tissue_core
from sn2nlib.scans.atlas import STRUCTURES
from sn2nlib.scans.heads import TISSUES, Head

Window = tuple[slice, slice, slice]
DEEP = ("thalamus", "putamen", "caudate")  # nuclei whose contrast to white matter is judged
_MARGIN = 4  # voxels around a structure


@dataclass(frozen=True)
class Sight:
    """One structure of one side, or one lesion.

    Attributes
    ----------
    name
        As in ``readers/structures.yaml``; "lesion" for lesions.
    title
        For people: "left claustrum", "lesion 2".
    window
        The part of the scan's grid around it.
    share : (z, y, x) float32
        In that window: how much of each voxel it fills, 0 to 1.
    against : (z, y, x) bool
        In that window: what it is judged against, were it everywhere; only what is next to it counts.
    """

    name: str
    title: str
    window: Window
    share: np.ndarray
    against: np.ndarray

    @property
    def is_there(self) -> bool:
        """Whether it fills at least a third of any voxel."""
        return bool(self.share.size and self.share.max() > 1 / 3)

    @property
    def centre(self) -> tuple[float, float, float]:
        """Its middle, as an index (z, y, x) of the scan."""
        weights = self.share / max(float(self.share.sum()), 1e-6)
        grids = np.meshgrid(*(np.arange(part.start, part.stop) for part in self.window), indexing="ij")
        z, y, x = (float((weights * grid).sum()) for grid in grids)
        return z, y, x


@dataclass(frozen=True)
class Sights:
    """All there is to look at in one head.

    Attributes
    ----------
    white, grey : (z, y, x) bool
        Voxels inside white matter, and inside grey matter of the cortex.
    nuclei
        Name → voxels inside that deep nucleus of both sides, (z, y, x) bool.
    brain : (z, y, x) bool
        Grey or white matter.
    white_share : (z, y, x) float32
        How much of each voxel is white matter: its hard border, seen at the scan's resolution.
    fluid_share : (z, y, x) float32
        The same of CSF.
    air : (z, y, x) bool
        Well outside the head.
    body : (z, y, x) bool
        The head.
    structures, lesions
        In the order in which they were placed.
    """

    white: np.ndarray
    grey: np.ndarray
    nuclei: dict[str, np.ndarray]
    brain: np.ndarray
    white_share: np.ndarray
    fluid_share: np.ndarray
    air: np.ndarray
    body: np.ndarray
    structures: tuple[Sight, ...]
    lesions: tuple[Sight, ...]


def sights_of(head: Head, shape: tuple[int, int, int]) -> Sights:
    """Carry what is known of a digital head to the grid of its scan.

    Parameters
    ----------
    head
        With labels; with `placed` if structures and lesions are to be looked at.
    shape
        (z, y, x) of the scan, which covers the head's field of view.

    Raises
    ------
    ImageError
        For a real head, of which nothing is known.
    """
    if head.tissue is None or head.structures is None:
        raise ImageError(f"{head.name}: only digital heads are known well enough for a model observer")
    tissue, placed = head.tissue, head.placed
    brain = nearest((tissue == TISSUES.index("GM")) | (tissue == TISSUES.index("WM")), shape)
    white_share = share_on_grid(tissue == TISSUES.index("WM"), shape)[1]
    structures: list[Sight] = []
    lesions: list[Sight] = []
    if placed is not None:
        for number, each in enumerate(placed.structures, start=1):
            against = white_share > 0.7 if each.against == "white" else brain
            structures.append(_sight(each.name, each.title, placed.regions == number, against))
        for number in range(1, int(placed.lesions.max()) + 1):
            lesions.append(_sight("lesion", f"lesion {number}", placed.lesions == number, brain))
    unlike = placed is not None and (placed.lesions > 0) | (placed.regions > 0)
    plain = np.where(unlike, len(TISSUES), tissue)
    labels, cortex = head.structures, np.where(head.structures > 0, 0, plain)
    body = nearest(tissue > 0, shape)
    return Sights(
        white=tissue_core(cortex, TISSUES.index("WM"), shape),
        grey=tissue_core(cortex, TISSUES.index("GM"), shape),
        nuclei={name: _nucleus(labels, name, shape) for name in DEEP},
        brain=brain,
        white_share=white_share,
        fluid_share=share_on_grid(tissue == TISSUES.index("CSF"), shape)[1],
        air=air_mask(body),
        body=body,
        structures=tuple(structures),
        lesions=tuple(lesions),
    )


def share_on_grid(mask: np.ndarray, shape: tuple[int, int, int], *, around: bool = False) -> tuple[Window, np.ndarray]:
    """How much of each voxel of a coarser grid a mask fills.

    Parameters
    ----------
    mask : (z, y, x) bool
        On the head's fine grid; voxel n//2 of both grids lies at the same place.
    shape
        (z, y, x) of the scan.
    around
        Only the voxels around the mask, not the whole grid.

    Returns
    -------
    window, share
        Part of the scan's grid, and the share there, (z, y, x) float32, 0 to 1.
    """
    window, places, crop = [], [], []
    for axis, (n, fine) in enumerate(zip(shape, mask.shape, strict=True)):
        ratio, first, last = fine / n, 0, n
        if around:
            inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
            if inside.size == 0:
                return (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.float32)
            low, high = ((edge - fine // 2) / ratio + n // 2 for edge in (inside[0], inside[-1]))
            first, last = max(int(low) - _MARGIN, 0), min(int(high) + _MARGIN + 2, n)
        position = (np.arange(first, last) - n // 2) * ratio + fine // 2
        start = max(int(position[0]) - 4, 0)
        window.append(slice(first, last))
        places.append((position - start).astype(np.float32))
        crop.append(slice(start, int(position[-1]) + 5))
    sigma = [0.3 * fine / n for n, fine in zip(shape, mask.shape, strict=True)]
    soft = gaussian_filter(mask[tuple(crop)].astype(np.float32), sigma)
    grid = np.meshgrid(*places, indexing="ij")
    share = map_coordinates(soft, grid, order=1, mode="constant", output=np.float32)
    return (window[0], window[1], window[2]), np.clip(share, 0, 1)


def surroundings(sight: Sight) -> np.ndarray:
    """Voxels of the window in the structure, or next to it and of what it is judged against, (z, y, x) bool."""
    inside = sight.share > 0.3
    near = binary_dilation(inside, np.ones((3, 3, 3), bool))
    return np.asarray(inside | (near & sight.against))


def _sight(name: str, title: str, mask: np.ndarray, against: np.ndarray) -> Sight:
    z, y, x = against.shape
    window, share = share_on_grid(mask, (z, y, x), around=True)
    return Sight(name, title, window, share, against[window])


def _nucleus(labels: np.ndarray, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    numbers = [number for title, number in STRUCTURES.items() if title.endswith(name)]
    return tissue_core(np.isin(labels, numbers).astype(np.uint8), 1, shape)

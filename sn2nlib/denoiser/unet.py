"""The network: a 2.5D U-Net that corrects the centre partition of a window."""

import torch
from torch import nn
from torch.nn import functional

from sn2nlib.errors import Sn2nError


class UNet25D(nn.Module):
    """U-Net on `slices` neighbouring partitions as channels; returns the centre partition plus a correction.

    Without biases and normalisation layers every operation commutes with a positive factor, f(a·x) = a·f(x):
    the network does not tie its behaviour to one noise level. That matters here, since the halves it learns
    from are noisier than the images it is used on.

    Levels hold two 3×3 convolutions with ReLU; widths double from level to level; 2×2 means going down, 2×2
    transposed convolutions going up. Images of any size are accepted: they are extended by repeating their
    edge to a multiple of the coarsest voxel and cut back.

    Parameters
    ----------
    width
        Channels of the first level.
    depth
        Number of halvings of the resolution.
    slices
        Partitions in a window, odd.
    bias
        Give the convolutions a bias (and lose the property above).
    unshuffle
        2: the first level works on 2×2 blocks of voxels as channels, a quarter of the positions, which is
        faster; the last one puts the blocks back. 1: at full resolution.

    References
    ----------
    Ronneberger O, Fischer P, Brox T. MICCAI 2015 (U-Net).
    Mohan S, Kadkhodaie Z, Simoncelli EP, Fernandez-Granda C. ICLR 2020 (bias-free networks).
    He K, Zhang X, Ren S, Sun J. ICCV 2015 (initial weights).
    """

    def __init__(
        self, *, width: int = 32, depth: int = 3, slices: int = 7, bias: bool = False, unshuffle: int = 1
    ) -> None:
        super().__init__()
        if width < 1 or depth < 0 or slices < 1 or slices % 2 == 0 or unshuffle < 1:
            raise Sn2nError(
                f"no such network: width {width}, depth {depth}, slices {slices}, unshuffle {unshuffle}; "
                "width and unshuffle must be at least 1, depth at least 0, slices odd"
            )
        self.architecture = {
            "width": width, "depth": depth, "slices": slices, "bias": bias, "unshuffle": unshuffle
        }
        self.centre = slices // 2
        self.multiple = unshuffle * 2**depth
        self.unshuffle = unshuffle
        widths = [width * 2**level for level in range(depth + 1)]
        sources = [slices * unshuffle**2, *widths]
        self.down = nn.ModuleList(_level(sources[i], widths[i], bias) for i in range(depth + 1))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2, bias=bias) for i in range(depth)
        )
        self.merge = nn.ModuleList(_level(2 * widths[i], widths[i], bias) for i in range(depth))
        self.last = nn.Conv2d(width, unshuffle**2, 1, bias=bias)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                # stride equals size: each output sums over input channels only; no ReLU follows
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            # start as the identity: from small random weights, learning took several times as many steps
            self.last.weight.zero_()

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Denoise the centre partitions.

        Parameters
        ----------
        window
            (n, slices, y, x) float32.

        Returns
        -------
        (n, 1, y, x) float32.
        """
        y, x = window.shape[-2:]
        padding = (0, -x % self.multiple, 0, -y % self.multiple)
        padded = functional.pad(window, padding, mode="replicate") if any(padding) else window
        correction = self._correct(functional.pixel_unshuffle(padded, self.unshuffle))
        correction = functional.pixel_shuffle(correction, self.unshuffle)[..., :y, :x]
        return window[:, self.centre : self.centre + 1] + correction.to(window.dtype)

    def _correct(self, features: torch.Tensor) -> torch.Tensor:
        skipped = []
        for level, down in enumerate(self.down):
            if level:
                features = functional.avg_pool2d(features, 2)
            features = down(features)
            skipped.append(features)
        for level in reversed(range(len(self.up))):
            features = self.merge[level](torch.cat([skipped[level], self.up[level](features)], dim=1))
        return self.last(features)


def _level(n_in: int, n_out: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias), nn.ReLU(inplace=True),
        nn.Conv2d(n_out, n_out, 3, padding=1, bias=bias), nn.ReLU(inplace=True),
    )

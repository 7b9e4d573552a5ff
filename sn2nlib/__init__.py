"""sn2nlib: self-supervised denoising of 3D MRI (MR-self Noise2Noise), from k-space to the study's tables.

Data walks through five rooms, once, in one direction::

    scans       where k-space comes from: digital and real heads, simulated acquisition, files
    recon       k-space → images: whitening, kz split, GRAPPA, Walsh combination, noise maps
    denoiser    images → better images: 2.5D U-Net, Noise2Noise training, α blend
    evaluation  numbers: PSNR, SSIM, NRMSE, the noise-level experiment, statistics
    reporting   paper: tables, figures, notebooks, the published numbers

The axis contract
-----------------
- k-space is ``(coil, kz, ky, kx)`` complex64; kx is the readout and contiguous, kz the partition axis: the one that is
  split, and the slice axis of the network.
- coil images and weights are ``(coil, z, y, x)``; images ``(z, y, x)``; masks ``(kz, ky)`` bool.
- DC is at index n//2 of every axis; FFTs are centred and orthonormal. Sizes may be odd and differ per axis.
- The network maps ``(n, 7, y, x)`` to ``(n, 1, y, x)``.
- `voxel_size` is (z, y, x) in mm; `affine` is the NIfTI affine (RAS+) of the image stored as (x, y, z).
- After whitening E[n nᴴ] = 2·I: the noise SD is 1 in the real and 1 in the imaginary part of every coil.
- The sampling lattice is ky = y0 + Ry·i, kz ≡ z0 + shift·i (mod Rz); `acceleration` is (Ry, Rz).
"""

__version__ = "0.1.0"

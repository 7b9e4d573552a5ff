"""K-space → images: whitening, GRAPPA, adaptive combination, and the half images of self Noise2Noise."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "any_size": ["ScanImages", "fits_memory", "largest_kspace", "raw_images", "scan_images"],
        "chain": ["Preparation", "apply_chain"],
        "coils": ["combine", "walsh"],
        "compression": ["Compression", "compress", "compression_matrix"],
        "grappa": ["GrappaKernel", "calibrate", "fill"],
        "noise": ["corner_noise", "covariance", "g_factor", "noise_map", "whiten", "whitening_matrix"],
        "partial_fourier": ["fill_partial", "phase_map"],
        "out_of_core": ["ImagePair", "image_pair"],
        "pairs": [
            "Pair",
            "apply_halves",
            "intensity_scale",
            "make_pair",
            "object_region",
            "reconstruct",
            "reconstruct_with_noise",
            "systematic_difference",
            "warn_if_folded",
        ],
        "replicas": ["map_errors"],
        "shifts": ["g_factors_of_shifts"],
    },
)

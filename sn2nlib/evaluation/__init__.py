"""Numbers: image quality against a reference, and the statistics of the paper's tables."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "agreement", "cohort", "metrics", "noise_levels", "participants", "readers", "regions", "signed_rank",
        "spectrum", "statistics", "vessel_scans", "vessels", "volumetry",
    ],
    submod_attrs={
        "metrics": ["psnr", "ssim", "nrmse", "dice", "image_quality"],
        "noise_levels": ["measure_scan", "model_experiment", "prepare_head"],
        "participants": ["scan_participant", "simulate_participant"],
        "statistics": ["paired_t", "weighted_kappa", "wilcoxon"],
        "vessel_scans": ["replica_images", "simulate_vessel_scan"],
        "vessel_sites": ["read_sites", "write_sites"],
        "vessels": ["measure_files", "measure_vessels", "scan_means"],
    },
)

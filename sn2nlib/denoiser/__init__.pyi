from .apply import PAPER_ALPHA, Denoiser, best_alphas, blend, choose_alpha, fit_alpha, set_alpha, sweep_alpha
from .coarser import CoarsePair, coarser_pair
from .image import PARTITIONS, choose_axis, denoise_image, derivation, settled_planes, short_derivation
from .slices import SliceWindows, TrainingVolume, noisier_magnitude, rician_variance, training_volume
from .train import train
from .unet import UNet25D
from .volumes import (
    PreparedScan,
    check_different,
    keeping_prepared,
    load_volume,
    prepare_scans,
    remove_prepared,
    save_volume,
    with_coarser,
)

__all__ = [
    "PAPER_ALPHA", "PARTITIONS", "CoarsePair", "Denoiser", "PreparedScan", "SliceWindows", "TrainingVolume", "UNet25D",
    "best_alphas", "blend", "check_different", "choose_alpha", "choose_axis", "coarser_pair", "denoise_image",
    "derivation", "fit_alpha", "keeping_prepared", "load_volume", "noisier_magnitude", "prepare_scans",
    "remove_prepared", "rician_variance", "save_volume", "set_alpha", "settled_planes", "short_derivation",
    "sweep_alpha", "train", "training_volume", "with_coarser",
]

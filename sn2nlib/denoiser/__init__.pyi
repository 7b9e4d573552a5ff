from .apply import Denoiser, best_alphas, blend, choose_alpha, fit_alpha, set_alpha, sweep_alpha
from .image import choose_axis, denoise_image, derivation
from .slices import SliceWindows, TrainingVolume, rician_variance, training_volume
from .train import train
from .unet import UNet25D

__all__ = [
    "Denoiser", "SliceWindows", "TrainingVolume", "UNet25D", "best_alphas", "blend", "choose_alpha",
    "choose_axis", "denoise_image", "derivation", "fit_alpha",
    "rician_variance", "set_alpha", "sweep_alpha", "train", "training_volume",
]

"""How good pictures and mouths are; each metric is checked against a closed form, other code or rendered truth."""

from portrait.metrics.correlation import ApertureFollow, aperture_follow, best_lag, correlation
from portrait.metrics.lip_aperture import lip_aperture
from portrait.metrics.perceptual import LPIPS
from portrait.metrics.reconstruction import l1, psnr

__all__ = [
    "LPIPS",
    "ApertureFollow",
    "aperture_follow",
    "best_lag",
    "correlation",
    "l1",
    "lip_aperture",
    "psnr",
]

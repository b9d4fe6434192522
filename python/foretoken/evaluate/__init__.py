"""Measures of what was decoded: of pictures, and of pictures and texts together."""

from .clip import Clip as Clip
from .clip import area_under_curve as area_under_curve
from .distance import frechet as frechet
from .distance import kernel_distance as kernel_distance
from .pictures import gmsd as gmsd
from .pictures import psnr as psnr
from .pictures import ssim as ssim

"""The feature networks by name, and what the figures made with them may be called; needs no torch."""

NAMES = ("mnist", "efficientnet-lite0", "inception")
"""Networks whose features the Fréchet and kernel distances compare."""
PERCEPTUAL_NAMES = ("mnist", "efficientnet-lite0", "lpips-alex", "lpips-vgg")
"""Networks whose maps the perceptual distance compares."""
NEEDS_WEIGHTS = ("inception", "lpips-alex", "lpips-vgg")
"""Networks whose weights the user brings, as a safetensors file."""

_LPIPS = {"lpips-alex": "LPIPS (alex)", "lpips-vgg": "LPIPS (vgg)"}


def frechet_name(network: str) -> str:
    """What a Fréchet distance on the features of ``network`` (a FeatureNetwork's name) may be called."""
    return "FID" if network == "inception" else f"FD ({network})"


def kernel_name(network: str) -> str:
    """What a kernel distance on the features of ``network`` may be called."""
    return "KID" if network == "inception" else f"KD ({network})"


def perceptual_name(network: str) -> str:
    """What a perceptual distance on the maps of ``network`` (a PerceptualNetwork's name) may be called."""
    return _LPIPS.get(network, f"perceptual distance ({network})")

"""Edits and restorations of images with a trained model: SDEdit, prompt-to-prompt, inversion, restoration,
anagrams, hybrids, denoising.
"""

from latentdiff.diffusion.operators import backprojection
from latentdiff.diffusion.trajectory import Frame, Recorder, SampleResult
from latentdiff.edit.denoise import add_noise, blur, denoise_iteratively, one_step
from latentdiff.edit.illusion import anagram, codec_error, hybrid
from latentdiff.edit.inversion import first_level, from_noise, invert, relative_error
from latentdiff.edit.p2p import Edit, Edited, prompt_to_prompt
from latentdiff.edit.restore import inpaint, latent_mask, measured, restore
from latentdiff.edit.sdedit import level_at, level_of, sdedit

__all__ = [
    "Edit",
    "Edited",
    "Frame",
    "Recorder",
    "SampleResult",
    "add_noise",
    "anagram",
    "backprojection",
    "blur",
    "codec_error",
    "denoise_iteratively",
    "first_level",
    "from_noise",
    "hybrid",
    "inpaint",
    "invert",
    "latent_mask",
    "level_at",
    "level_of",
    "measured",
    "one_step",
    "prompt_to_prompt",
    "relative_error",
    "restore",
    "sdedit",
]

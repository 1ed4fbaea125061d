"""Which studies there are, in the order to read them; imports no torch, so that listing them is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Budget = Literal["quick", "full"]
BUDGETS: tuple[Budget, ...] = ("quick", "full")


@dataclass(frozen=True)
class StudyInfo:
    """A line of `latentdiff reproduce --list`: the module below latentdiff.apps.studies, the title and what
    is asked.

    ``trains`` models; ``judged``: by a feature network that one may choose; ``colour``: looks at colour
    images too, where there are some; ``looks``: at one model, which may be given (``looks_colour``: at one of
    colour images).
    """

    module: str
    title: str
    question: str
    trains: bool
    colour: bool = False
    judged: bool = True
    looks: bool = False
    looks_colour: bool = False


STUDIES = {
    "schedules": StudyInfo(
        "process.schedules",
        "Noise schedules",
        "How fast do linear, scaled-linear, cosine and constant schedules add noise?",
        False,
    ),
    "forward-process": StudyInfo(
        "process.forward_process",
        "The forward process",
        "How far is a noised image from its original, and does theory say so?",
        False,
    ),
    "latent-size": StudyInfo(
        "latent_size.study",
        "Latents of 8 and of 32 numbers",
        "What does a larger latent, or a heavier KL term, buy and cost?",
        True,
    ),
    "denoiser-training": StudyInfo(
        "sampling.denoiser_training",
        "Training a denoiser",
        "How do the loss and the samples change from epoch to epoch?",
        True,
    ),
    "ddpm-ddim": StudyInfo(
        "sampling.ddpm_ddim",
        "DDPM and DDIM, eps and v",
        "Does it matter how one samples, and what the network predicts?",
        True,
    ),
    "ddim-steps": StudyInfo(
        "sampling.ddim_steps",
        "Steps and noise of DDIM",
        "How many steps are enough, and is noise on the way worth having?",
        True,
        colour=True,
    ),
    "noise-schedule-study": StudyInfo(
        "noise_schedules.study",
        "A small network under four noise schedules",
        "Does a low test loss mean good samples, and must alpha-bar reach zero?",
        True,
    ),
    "class-guidance": StudyInfo(
        "class_guidance.study",
        "Classes and guidance",
        "What do guidance scale and interval do to accuracy, quality and diversity?",
        True,
    ),
    "denoising": StudyInfo(
        "restoration.denoising",
        "Taking noise away",
        "What do a blur, one step and many steps make of a noisy image?",
        True,
        looks=True,
    ),
    "one-step-unet": StudyInfo(
        "restoration.one_step_unet",
        "A network for one amount of noise",
        "What does a denoiser do with noise and images that it has not met?",
        True,
        colour=True,
    ),
    "sdedit": StudyInfo(
        "restoration.sdedit",
        "Editing by noise",
        "How much of an image survives being noised and denoised?",
        True,
        looks=True,
    ),
    "restoration": StudyInfo(
        "restoration.restoration",
        "Restoring degraded images",
        "Which solver is right on a known posterior, and what do solvers make of digits?",
        True,
        colour=True,
        looks=True,
        looks_colour=True,
    ),
    "inpainting": StudyInfo(
        "restoration.inpainting",
        "Filling in",
        "What stands in a hole, and how well does it fit?",
        True,
        looks=True,
    ),
    "cold-diffusion": StudyInfo(
        "cold_diffusion.study",
        "Diffusion without noise",
        "Can images be made out of blur as they are out of noise?",
        True,
    ),
    "anagrams": StudyInfo(
        "illusions.anagrams",
        "Visual anagrams",
        "Which digits can be other digits when they are turned?",
        True,
        looks=True,
    ),
    "hybrids": StudyInfo(
        "illusions.hybrids",
        "Hybrid images",
        "Which digits can be one from afar and another close up?",
        True,
        colour=True,
        looks=True,
        looks_colour=True,
    ),
    "text-to-image": StudyInfo(
        "text.text_to_image",
        "Pictures for texts",
        "How much of what a text says does its picture show?",
        True,
        colour=True,
        judged=False,
        looks=True,
        looks_colour=True,
    ),
    "text-sdedit": StudyInfo(
        "text.text_sdedit",
        "Pictures told to be something else",
        "How much noise does a text need to change a picture, and what is left of it?",
        True,
        judged=False,
        looks=True,
    ),
    "prompt-to-prompt": StudyInfo(
        "text.prompt_to_prompt",
        "Editing pictures by their texts",
        "Does an edited text change what it should, and nothing else?",
        True,
        judged=False,
        looks=True,
    ),
    "text-anagrams": StudyInfo(
        "illusions.text_anagrams",
        "Anagrams of two texts",
        "Can a picture be of one text upright and of another when it is turned?",
        True,
        judged=False,
        looks=True,
    ),
    "text-hybrids": StudyInfo(
        "illusions.text_hybrids",
        "Hybrids of two texts",
        "Can a picture be of one text from afar, or in grey, and of another close up, or in colour?",
        True,
        judged=False,
        looks=True,
    ),
}

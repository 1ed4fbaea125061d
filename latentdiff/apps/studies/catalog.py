"""The studies in reading order; imports no torch, so that listing them is instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Budget = Literal["quick", "full"]
BUDGETS: tuple[Budget, ...] = ("quick", "full")


@dataclass(frozen=True)
class StudyInfo:
    """A line of `latentdiff reproduce --list`: title and question.

    ``module``: below latentdiff.apps.studies; ``variable``: the name of the study in it.
    ``trains``: it trains models. ``colour``: it has a part on colour images, by a model of the package where
    none are given if ``ships_colour``. ``scored``: --features chooses its feature network. ``takes_run``,
    ``takes_run_colour``: --run and --run-colour give its model.
    """

    module: str
    title: str
    question: str
    trains: bool = True
    colour: bool = False
    ships_colour: bool = False
    scored: bool = True
    takes_run: bool = False
    takes_run_colour: bool = False
    variable: str = "STUDY"


STUDIES = {
    "schedules": StudyInfo(
        "process.schedules",
        "Noise schedules",
        "How fast do linear, scaled-linear, cosine and constant schedules add noise?",
        trains=False,
    ),
    "forward-process": StudyInfo(
        "process.forward_process",
        "The forward process",
        "How far is a noised image from its original, and does the closed form agree?",
        trains=False,
    ),
    "latent-size": StudyInfo(
        "sampling.latent_size",
        "Latents of 8 and of 32 numbers",
        "What do a larger latent and a larger KL weight change in reconstructions and samples?",
    ),
    "denoiser-training": StudyInfo(
        "sampling.denoiser_training",
        "Training a denoiser",
        "How do the loss and the samples change from epoch to epoch?",
    ),
    "ddpm-ddim": StudyInfo(
        "sampling.ddpm_ddim",
        "DDPM and DDIM, eps and v",
        "How do the sampler and the prediction type change samples and errors?",
    ),
    "ddim-steps": StudyInfo(
        "sampling.ddim_steps",
        "Steps and noise of DDIM",
        "How do the number of steps and eta change the samples, and what does a student do in one call?",
        colour=True,
        takes_run=True,
        ships_colour=True,
        takes_run_colour=True,
    ),
    "noise-schedule-study": StudyInfo(
        "process.noise_schedules",
        "A small network under four noise schedules",
        "Does a low test loss mean good samples, and must alpha-bar reach zero?",
    ),
    "course-unets": StudyInfo(
        "sampling.course_unets",
        "The UNets of a first course",
        "What do a time-conditional and a class-conditional UNet draw after 1, 5, 10 and 15 epochs?",
    ),
    "class-guidance": StudyInfo(
        "sampling.class_guidance",
        "Classes and guidance",
        "What do guidance scale and interval do to accuracy, quality and diversity?",
    ),
    "denoising": StudyInfo(
        "restoration.denoising",
        "Denoising",
        "How do a blur, one step and many steps denoise an image?",
        takes_run=True,
    ),
    "one-step-unet": StudyInfo(
        "restoration.one_step_unet",
        "A denoiser for one noise level",
        "How does a denoiser do on noise levels and images outside its training?",
        colour=True,
    ),
    "sdedit": StudyInfo(
        "restoration.sdedit",
        "Editing by noise (SDEdit)",
        "How much of an image is kept when it is noised and denoised?",
        takes_run=True,
        colour=True,
        ships_colour=True,
        takes_run_colour=True,
    ),
    "restoration": StudyInfo(
        "restoration.restoration",
        "Restoring degraded images",
        "How close are solvers to a known posterior, and how do they restore digits?",
        colour=True,
        takes_run=True,
        takes_run_colour=True,
        ships_colour=True,
    ),
    "inpainting": StudyInfo(
        "restoration.inpainting",
        "Inpainting",
        "How well do four solvers fill in missing pixels?",
        takes_run=True,
        colour=True,
        ships_colour=True,
        takes_run_colour=True,
    ),
    "cold-diffusion": StudyInfo(
        "restoration.cold_diffusion",
        "Cold diffusion",
        "Can images be generated from blur instead of noise?",
    ),
    "anagrams": StudyInfo(
        "illusions.anagrams",
        "Visual anagrams",
        "Which digits can be another digit when the image is turned?",
        takes_run=True,
    ),
    "hybrids": StudyInfo(
        "illusions.hybrids",
        "Hybrid images",
        "Which digits can be one digit from afar and another close up?",
        colour=True,
        takes_run=True,
        takes_run_colour=True,
    ),
    "text-to-image": StudyInfo(
        "text.text_to_image",
        "Text to image",
        "How many attributes of a prompt does its image show?",
        colour=True,
        scored=False,
        takes_run=True,
        takes_run_colour=True,
    ),
    "text-sdedit": StudyInfo(
        "text.text_sdedit",
        "Editing by noise towards a prompt",
        "At what noise level does a prompt change an image, and what is kept?",
        scored=False,
        takes_run=True,
    ),
    "prompt-to-prompt": StudyInfo(
        "text.prompt_to_prompt",
        "Prompt-to-prompt",
        "Does an edited prompt change the right attribute and nothing else?",
        scored=False,
        takes_run=True,
    ),
    "text-anagrams": StudyInfo(
        "illusions.anagrams",
        "Anagrams of two prompts",
        "Can an image show one prompt upright and another when it is turned?",
        scored=False,
        takes_run=True,
        variable="TEXT_STUDY",
    ),
    "text-hybrids": StudyInfo(
        "illusions.hybrids",
        "Hybrids of two prompts",
        "Can an image show one prompt from afar, or in grey, and another close up, or in colour?",
        scored=False,
        takes_run=True,
        variable="TEXT_STUDY",
    ),
}

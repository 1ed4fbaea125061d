"""A sampler of your own by wrapping a step: after every move one step of Langevin dynamics at the new
level.
"""

import math

import torch

import latentdiff as ld
from latentdiff.apps.studies.process.analytic import Gaussian

schedule = ld.make_schedule("cosine", T=1000)
curves = Gaussian.smooth(16)


def with_langevin(step: ld.SamplerStep, share: float = 0.1) -> ld.SamplerStep:
    """x_s + h score + sqrt(2 h) z with h = share sigma_s^2: the corrector of Song et al.

    2021 (score SDE), once a move.
    """

    def move(denoise, x, t, s, key, previous):
        x, estimate = step(denoise, x, t, s, key, previous)
        alpha, sigma = schedule.at(s)
        if s > 0:
            h, drift = share * sigma**2, alpha * denoise(x, s).x0() - x  # = sigma^2 score
            x = (
                x
                + share * drift
                + math.sqrt(2 * h) * key.with_purpose("ald").normal(x.shape[1:], dtype=x.dtype)
            )
        return x, estimate

    return move


key = ld.Key.of(seed=0, n=4000)
start = ld.start(key, (16,), dtype=torch.float64)
off = {}
for name, step in {"ddpm": ld.ddpm(schedule), "ddpm + Langevin": with_langevin(ld.ddpm(schedule))}.items():
    x = ld.run(curves.denoiser(schedule), start, schedule.levels(20), step, key)
    off[name] = curves.apart(x)[1]
    print(f"{name}, 20 moves: the covariance is off by {off[name]:.1%}")
assert off["ddpm + Langevin"] < off["ddpm"]

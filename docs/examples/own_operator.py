"""An operator of your own: 784 pixels seen through 196 random sums, and digits brought back from them."""

import math

import torch

import latentdiff as ld
from latentdiff.apps.studies.process.analytic import Gaussian
from latentdiff.diffusion.operators import Operator
from latentdiff.diffusion.samplers import diffpir_step
from latentdiff.diffusion.solvers import corrected, half_quadratic
from latentdiff.edit import measured

digits = ld.load_dataset("mnist5k")
train, test = (ld.to_float(part.images).flatten(1).double() for part in (digits.train, digits.test))
prior = Gaussian(train.mean(0), train.T.cov() + 1e-3 * torch.eye(784))  # stands in for a trained model

sums = ld.Key.of(0, 196).at("degrade").normal((784,), dtype=torch.float64) / math.sqrt(784)
operator = Operator("random sums", (784,), (196,), lambda x: x @ sums.T, lambda y: y @ sums)
x, y = test[:16], measured(operator, test[:16], sigma=0.01)
torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum())  # <A x, y> = <x, A^T y>

schedule, key = ld.make_schedule("cosine", T=1000), ld.Key.of(seed=0, n=16)
denoise = corrected(prior.denoiser(schedule), half_quadratic(operator, y, schedule, sigma=0.01))
noise = ld.start(key, (784,), dtype=torch.float64)
found = ld.run(denoise, noise, schedule.levels(20), diffpir_step(schedule), key)


def psnr(guess: torch.Tensor) -> float:
    return float(-10 * ((guess.clamp(-1, 1) - x) / 2).square().mean(1).log10().mean())


flat = psnr(y @ torch.linalg.pinv(sums).T)  # the shortest image that explains y
print(f"least squares {flat:.1f} dB, DiffPIR with a Gaussian prior {psnr(found):.1f} dB")
assert psnr(found) > flat + 3

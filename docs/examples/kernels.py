"""The fused operations by hand: noising with its training target, and one guided reverse step."""

import torch

import latentdiff as ld
from latentdiff import ops
from latentdiff.diffusion.prediction import target, to_x0
from latentdiff.diffusion.samplers import ddim_coefficients

schedule, t, s, w = ld.make_schedule("cosine", T=1000), 500, 480, 3.0
alpha, sigma = schedule.at(t)
key = ld.Key.of(seed=0, n=8)
x0, cond, uncond = (key.at(use).normal((4, 32, 32)) for use in ("posterior", "known", "augment"))

at = key.at("train", level=t)
row = torch.tensor([[alpha, sigma, *target("v", alpha, sigma)]])
x_t, v = ops.add_noise(
    x0, row, seeds=at.seeds, stream=at.stream_tensor()
)  # one pass; the noise is never stored
z = at.normal((4, 32, 32))
torch.testing.assert_close(x_t, alpha * x0 + sigma * z)
torch.testing.assert_close(v, alpha * z - sigma * x0)

(p, q), move = to_x0("v", alpha, sigma), ddim_coefficients(schedule, t, s)
row = torch.tensor([[move.k, move.m, move.c, p, w * q, (1 - w) * q]])
x_s = ops.step(x_t, [cond, uncond], row, clip=1.0)  # guidance, prediction type, clip and update
guess = (alpha * x_t - sigma * (w * cond + (1 - w) * uncond)).clamp(-1, 1)
torch.testing.assert_close(x_s, move.k * x_t + move.m * guess)

alone = ops.add_noise(
    x0[5:6], torch.tensor([[alpha, sigma, 0, 1]]), seeds=at.seeds[5:6], stream=at.stream_tensor()
)[0]
assert torch.equal(alone, x_t[5:6])  # to the bit, whatever the batch
print(f"kernels: {ops.implementation()}")

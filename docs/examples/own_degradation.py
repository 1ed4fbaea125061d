"""A degradation of your own for cold diffusion: a curtain falls row by row, and is lifted again."""

import torch

import latentdiff as ld
from latentdiff.apps.studies.process.analytic import Gaussian
from latentdiff.diffusion.cold import Degradation, cold_step

T = 14
row = torch.arange(28)[None, :, None].expand(T + 1, 28, 28)
curtain = Degradation(T, (1, 28, 28), mask=(row >= 2 * torch.arange(T + 1)[:, None, None]).float())

digits = ld.load_dataset("mnist5k")
train, test = (ld.to_float(part.images) for part in (digits.train, digits.test))
flat = train.flatten(1).double()
prior = Gaussian(
    flat.mean(0), flat.T.cov() + 1e-2 * torch.eye(784)
)  # stands in for a network of `train-cold`


def restore(x, t):
    """The mean of all digits whose rows below the curtain are those of x."""
    seen = torch.eye(784, dtype=torch.float64)[curtain.mask[t].flatten() > 0]
    gain = torch.linalg.solve(seen @ prior.covariance @ seen.T, seen @ prior.covariance)
    x0 = prior.mean + (x.flatten(1).double() - prior.mean) @ seen.T @ gain
    return ld.Estimate.from_x0(x, t, x0=x0.view_as(x).to(x.dtype))


x0, half = test[:16], T // 2
found = ld.run(restore, curtain(x0, half), range(half, -1, -1), cold_step(curtain), ld.Key.of(0, 16))
error, grey = ((image - x0).square().mean().sqrt() for image in (found, curtain(x0, half)))
print(f"root mean square error: half hidden {grey:.2f}, restored {error:.2f}")
torch.testing.assert_close(found[:, :, 14:], x0[:, :, 14:], rtol=0, atol=1e-4)  # what could be seen is kept
assert error < 0.8 * grey

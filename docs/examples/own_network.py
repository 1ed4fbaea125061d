"""A network and a training loop of your own: points on a ring, v-prediction, seconds of training."""

import torch
from torch import nn

import latentdiff as ld
from latentdiff import ops
from latentdiff.diffusion.prediction import target

schedule = ld.make_schedule("cosine", T=100)
angles = torch.arange(4096) * 2.399963
ring = torch.stack([angles.cos(), angles.sin()], 1)
layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))


def network(x, timesteps, labels):
    return layers(torch.cat([x, timesteps[:, None] / 50 - 1], 1))


table = torch.stack([schedule.alpha, schedule.sigma, *target("v", schedule.alpha, schedule.sigma)], 1).float()
optimizer = torch.optim.AdamW(layers.parameters(), lr=3e-3)
for i in range(800):
    rows = torch.arange(256 * i, 256 * (i + 1))  # positions name the points, the levels and the noise
    t = 1 + (rows * 37) % schedule.T
    key = ld.Key(rows).at("train")
    x_t, v = ops.add_noise(ring[rows % len(ring)], table[t], seeds=key.seeds, stream=key.stream_tensor())
    loss = (network(x_t, t - 1.0, None) - v).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

key = ld.Key.of(seed=0, n=2000)
denoise = ld.denoiser(network, schedule, prediction="v")
radius = ld.run(denoise, ld.start(key, (2,)), schedule.levels(25), ld.ddim(schedule), key).norm(dim=1)
print(f"radius of 2000 samples: {radius.mean():.2f} +- {radius.std():.2f} (the ring: 1)")
assert abs(float(radius.mean()) - 1) < 0.1 and float(radius.std()) < 0.25

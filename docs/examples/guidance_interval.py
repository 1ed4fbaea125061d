"""Guidance as a function of the level: any wrapper of two denoisers.

Here full strength in the middle, none at the ends.
"""

import torch

import latentdiff as ld

schedule = ld.make_schedule("cosine", T=1000)
centres = torch.tensor([-1.0, 1.0])  # two classes N(centre, 0.25) of numbers


def expected(x, t, centre):
    """E[x_0 | x_t] of one class."""
    alpha, sigma = schedule.at(t)
    return centre + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x - alpha * centre)


def conditional(x, t):
    return ld.Estimate.from_x0(x, t, x0=expected(x, t, 1.0))


def unconditional(x, t):
    alpha, sigma = schedule.at(t)
    distance = (x - alpha * centres) ** 2 / (alpha**2 * 0.25 + sigma**2)
    share = (-distance / 2).softmax(1)  # of each class, given x_t
    return ld.Estimate.from_x0(x, t, x0=(share * expected(x, t, centres)).sum(1, keepdim=True))


def guided_by(w):
    return lambda x, t: ld.guided(conditional(x, t), unconditional(x, t), w(t / schedule.T))


key, means = ld.Key.of(seed=0, n=4000), {}
weights = {
    "w = 1": lambda u: 1.0,
    "w = 4": lambda u: 4.0,
    "w = 4 in the middle": lambda u: 4.0 if 0.2 < u < 0.6 else 1.0,
}
for name, w in weights.items():
    x = ld.run(guided_by(w), ld.start(key, (1,)), schedule.levels(50), ld.ddim(schedule), key)
    means[name] = float(x.mean())
    print(f"{name}: mean {x.mean():.2f}, deviation {x.std():.2f} (the class: 1.00, 0.50)")
assert means["w = 1"] < means["w = 4 in the middle"] < means["w = 4"]

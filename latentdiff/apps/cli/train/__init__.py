"""Commands that train: train, train-vae, train-denoiser, train-cold, encode."""

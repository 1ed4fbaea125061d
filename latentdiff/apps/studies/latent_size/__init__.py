"""Study: latent sizes and KL weights."""

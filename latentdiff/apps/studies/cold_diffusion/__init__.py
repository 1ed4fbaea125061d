"""Study: cold diffusion with blur, fewer pixels and masks."""

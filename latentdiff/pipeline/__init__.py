"""A trained model: in memory, on disk, and as diffusers has it."""

"""Files and paths: reading what is not trusted, locks, names while writing, safetensors."""

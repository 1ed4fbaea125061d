"""Model folders: manifests and atomic writes, the model index, runs, shipped models, diffusers folders."""

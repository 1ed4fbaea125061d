"""Where work runs: devices, threads that share a batch, processes."""

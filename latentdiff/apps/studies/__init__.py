"""The studies of `latentdiff reproduce`: a catalog, a runner, and one folder a theme."""

"""Studies: each regenerates its figures, its numbers and a page to read; `latentdiff reproduce` runs them."""

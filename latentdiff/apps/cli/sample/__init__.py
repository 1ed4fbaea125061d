"""`latentdiff sample` and `sample-cold`, and the files they write."""

"""Pages of the studies: blocks, figures and HTML."""

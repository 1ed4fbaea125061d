"""Pages of the studies: blocks, figures, HTML, and the environment they were made in."""

"""Image grids and files, figures with axes, rows of labelled images."""

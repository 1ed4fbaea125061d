"""Commands that show or convert: info, inspect, models, datasets, plot-schedule, export, ui."""

"""What studies share: their context, models, training presets, scores and comparisons."""

"""What commands share: options, inputs, outputs, progress, the choice of a model."""

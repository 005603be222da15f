"""Training data: sources of samples, decoded pools, augmentation, batches that are functions of their step."""

"""From a recipe to an artifact: configuration, packing and the ordered pipeline."""

"""Numbers only: from float weights to integers and scales."""

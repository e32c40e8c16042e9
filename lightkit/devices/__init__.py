"""Where a run computes and in which number format."""

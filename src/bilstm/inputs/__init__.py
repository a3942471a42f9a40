"""What X and y may be in Python: arrays, lists and data frames, read into numbers, labels and quantities."""

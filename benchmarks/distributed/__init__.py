"""Predictions and training by several processes."""

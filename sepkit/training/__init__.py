"""Losses, the training loop, checkpoints, the GPU budget."""

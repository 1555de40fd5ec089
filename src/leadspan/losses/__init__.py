"""Divergences, and the fused loss over the vocabulary. Knows nothing about sequences, models or files."""

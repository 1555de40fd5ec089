"""Train a student."""

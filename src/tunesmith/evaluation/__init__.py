"""Evaluation: what a model was before training and what it is after."""

"""Inference: from prompts to answers."""

"""Scores: numbers that say how good answers are. Pure functions of answers and references."""

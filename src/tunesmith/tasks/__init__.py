"""Tasks: what a model is to learn, and so how a held-out row is asked."""

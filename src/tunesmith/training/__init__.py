"""From batches to a trained method: the loss, the step, the loop, and what makes it resumable."""

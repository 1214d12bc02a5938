"""The `tunesmith` command: one file a verb; everything printed goes through `output`. No torch."""

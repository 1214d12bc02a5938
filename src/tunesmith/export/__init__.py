"""Takes what was trained to where it is used."""

"""From a model's name to weights: source -> (fetch, hub, gguf) -> cache -> facts, load."""

"""Word vectors: GloVe counting and training, neighbours, analogies. No torch."""

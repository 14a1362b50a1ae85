"""Text: reading and writing documents, standardizing, tokenizing. No torch."""

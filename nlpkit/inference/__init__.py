"""What a trained model is for: fill a mask, generate, classify, embed, score pairs."""

"""CT-Transformer: marks between the words of a recognised text, for whole texts and for text that is still growing."""

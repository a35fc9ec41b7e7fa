"""Text before and after recognition."""

"""Text recipes: language models, classification, tagging, and the data they read."""

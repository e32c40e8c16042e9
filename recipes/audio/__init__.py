"""Recipes for sound: classification of clips, and recognition of short utterances with CTC."""

"""Ready-made training jobs on lightkit's public API: a module and its data, one folder per field.

Each recipe is started by a config (`lightkit list` shows them) and is meant to be read and copied.
"""

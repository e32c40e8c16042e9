"""Ready-made training jobs on lightkit's public API: a module and its data, one folder per field.

`datamodule.py`, `splits.py`, `classes.py`, `schedules.py` and `plots.py` hold what the fields share.
Each recipe is started by a config (`lightkit list` shows them) and is meant to be read and copied.
"""

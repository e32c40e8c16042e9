"""Image recipes: classification (`classification.py`) on several sources of images (`data.py`)."""

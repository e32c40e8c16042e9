"""What a checkpoint file is: plain content, atomic write, verified read."""

from lightkit.checkpoint.files import explain_state_dict_mismatch, is_whole, load, newest_whole, save
from lightkit.checkpoint.plain import to_plain

__all__ = ["explain_state_dict_mismatch", "is_whole", "load", "newest_whole", "save", "to_plain"]

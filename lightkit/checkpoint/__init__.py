"""What a checkpoint file is: plain content, atomic write, verified read."""

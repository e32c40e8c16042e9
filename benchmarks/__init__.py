"""How much time lightkit takes beyond a hand-written PyTorch loop, side by side with its peers."""

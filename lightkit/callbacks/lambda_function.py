"""LambdaCallback, under the name that Lightning has for its file."""

from lightkit.callbacks.lambda_callback import LambdaCallback

__all__ = ["LambdaCallback"]

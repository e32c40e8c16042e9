"""What a checkpoint keeps of the training loop, gathered between two steps and given back before the first."""

from __future__ import annotations

from typing import Any

from lightkit.loops.outputs import KeptOutputs
from lightkit.results import metric_states, restore_metric_states


def gather(loop: Any) -> dict[str, Any]:
    """Position, running metrics, order of the data, kept outputs."""
    trainer, module = loop.trainer, loop.trainer.lightning_module
    return {
        "progress": loop.progress.state_dict(),
        "results": loop.results.state_dict(module),
        "metrics": metric_states(module),
        "board": trainer.board.state_dict(),
        "data": loop.source.state_dict() if loop.source is not None else None,
        "outputs": loop.kept.outputs if loop.kept is not None else [[]],
    }


def give(loop: Any, saved: dict[str, Any], rng: dict[str, Any]) -> None:
    """Take back what `gather` gave; rng: of the moment of the checkpoint, set when the epoch begins."""
    trainer, module = loop.trainer, loop.trainer.lightning_module
    device = trainer.strategy.root_device
    loop.progress.load_state_dict(saved["progress"])
    loop.results.load_state_dict(saved["results"], device, module)
    restore_metric_states(module, saved["metrics"], device)
    trainer.board.load_state_dict(saved["board"])
    loop.kept = KeptOutputs(module, "training_epoch_end", is_training=True)
    loop.kept.outputs = saved["outputs"]
    loop.resume_state = {"data": saved["data"], "rng": rng}

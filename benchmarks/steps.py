"""Workloads by the step: bare, with everything on, accumulation, a CNN, data in memory, validation, short epochs."""

from __future__ import annotations

from benchmarks.jobs import Data, Job, cnn, mlp

OWN, TENSOR = "data set with its own __getitem__", "DataLoader(TensorDataset)"


def jobs(quick: bool) -> list[Job]:
    """All of them; quick: a tenth of the steps."""
    scale = 1 if quick else 10
    found = [job for own in (True, False) for job in _both(own, scale)]
    images = Data((1, 28, 28), 32, 20 * scale, own=True)
    found.append(Job("cnn", f"small CNN, batch 32, {OWN}", images, model=cnn))
    keyed = Data((32,), 4, 200 * scale, own=True)
    found.append(Job("keyed", f"bare step after seed_everything(workers=True), {OWN}", keyed, keyed=True))
    memory = Data((784,), 128, 47 if quick else 469)
    found.append(Job("in_memory", "in memory, 60,000 x 784, batch 128", memory, model=lambda: mlp(784, 64, 10)))
    found.append(_staying(4 if quick else 40))
    return found


def _staying(epochs: int) -> Job:
    data = Data((32,), 4, 8, 2, own=True, workers=2)
    title = f"{epochs} short epochs (8 + 2 batches), two workers that stay for each loader, {OWN}"
    return Job("workers_own", title, data, kind="epochs", epochs=epochs, units=epochs)


def _both(own: bool, scale: int) -> list[Job]:
    kind, text = ("own", OWN) if own else ("tensor", TENSOR)
    small = ((32,), 4)
    steps = Data(*small, 200 * scale, own=own)
    evaluated = Data((32,), 16, 4, 300 * scale, own=own)
    short = Data(*small, 8, 2, own=own)
    everything = Data(*small, 70 * scale, own=own)
    epochs = 20 * scale
    return [
        Job(f"bare_{kind}", f"bare step, {text}", steps),
        Job(f"everything_{kind}", f"logged metric, TensorBoard, bar, epoch checkpoints, {text}", everything,
            kind="everything", epochs=3),
        Job(f"validation_{kind}", f"validation, one epoch-mean metric, batch 16, {text}", evaluated, kind="validation",
            units=300 * scale),
        Job(f"epochs_{kind}", f"{epochs} short epochs (8 + 2 batches), {text}", short, kind="epochs", epochs=epochs,
            units=epochs),
        Job(f"accumulate_{kind}", f"accumulate 4, clip, OneCycleLR, {text}", steps, kind="accumulate"),
    ]  # fmt: skip

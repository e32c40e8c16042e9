"""Arguments that the Trainer does not have: what to write instead of those that Lightning once had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightkit.errors import ConfigError, did_you_mean

# Lightning's arguments that were renamed or removed, and what to write now
REMOVED = {
    "gpus": "accelerator='gpu', devices={value}", "num_processes": "accelerator='cpu', devices={value}",
    "tpu_cores": "nothing: lightkit runs on CPU, CUDA and MPS", "ipus": "nothing: lightkit runs on CPU, CUDA and MPS",
    "auto_select_gpus": "devices='auto'", "distributed_backend": "strategy={value}",
    "resume_from_checkpoint": "trainer.fit(model, ckpt_path={value})",
    "num_tpu_cores": "nothing: lightkit runs on CPU, CUDA and MPS",
    "print_nan_grads": "nan_check='step'",
    "checkpoint_callback": "enable_checkpointing={value}",
    "early_stop_callback": "callbacks=[EarlyStopping(monitor='val_loss')]",
    "weights_summary": "enable_model_summary=True, or callbacks=[ModelSummary(max_depth=...)]",
    "weights_save_path": "default_root_dir={value}", "default_save_path": "default_root_dir={value}",
    "progress_bar_refresh_rate": "enable_progress_bar={is_on}",
    "process_position": "nothing: the progress bar finds its place", "row_log_interval": "log_every_n_steps={value}",
    "log_save_interval": "CSVLogger(flush_logs_every_n_steps={value})",
    "flush_logs_every_n_steps": "CSVLogger(flush_logs_every_n_steps={value})",
    "train_percent_check": "limit_train_batches={value}", "val_percent_check": "limit_val_batches={value}",
    "test_percent_check": "limit_test_batches={value}", "max_nb_epochs": "max_epochs={value}",
    "min_nb_epochs": "min_epochs={value}", "nb_sanity_val_steps": "num_sanity_val_steps={value}",
    "reload_dataloaders_every_epoch": "reload_dataloaders_every_n_epochs={is_on_number}",
    "stochastic_weight_avg": "callbacks=[StochasticWeightAveraging(swa_lrs=...)]",
    "terminate_on_nan": "nan_check='step'",
    "track_grad_norm": "on_before_optimizer_step: self.log_dict(grad_norm(self, norm_type={value}))",
    "use_amp": "precision='16-mixed'", "amp_level": "precision='16-mixed'", "amp_backend": "precision='16-mixed'",
    "log_gpu_memory": "callbacks=[DeviceStatsMonitor()]",
    "auto_lr_find": "callbacks=[LearningRateFinder()]", "auto_scale_batch_size": "callbacks=[BatchSizeFinder()]",
    "replace_sampler_ddp": "use_distributed_sampler={value}",
    "truncated_bptt_steps": "a loop over the sequence in training_step",
    "prepare_data_per_node": "nothing: prepare_data runs once",
    "multiple_trainloader_mode": "CombinedLoader(loaders, {value}) where the training loaders are given",
}  # fmt: skip

PLANNED = ("model_registry",)


def what_now(name: str, value: object) -> str:
    """What to write instead of an argument that Lightning once had."""
    now = REMOVED[name].format(value=repr(value), is_on=bool(value), is_on_number=int(bool(value)))
    verb = "" if now.startswith(("a ", "nothing")) else "write "
    return f"this argument is gone; {verb}{now}"


def refuse_unknown(arguments: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise ConfigError for arguments that Trainer does not have; says what to write now, all at once."""
    problems = []
    for name, value in arguments.items():
        if name in REMOVED:
            problems.append(f"Trainer({name}={value!r}): {what_now(name, value)}")
        elif name in PLANNED:
            problems.append(f"Trainer({name}={value!r}): not in this version of lightkit; leave it out")
        else:
            problems.append(f"Trainer({name}={value!r}): no such argument{did_you_mean(name, known)}")
    if problems:
        raise ConfigError("\n".join(problems))

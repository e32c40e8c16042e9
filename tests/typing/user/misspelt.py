# mypy: disallow-any-generics, disallow-untyped-defs, disallow-untyped-calls, disallow-untyped-decorators
# mypy: disallow-subclassing-any, warn-return-any, no-implicit-reexport, strict-equality, extra-checks
"""A user's file with a name that no Trainer has, in each place where a user meets one."""

import torch

import lightkit as lk


class Model(lk.LightModule):
    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.log("epoch", self.trainer.curent_epoch)
        return batch.sum()


class Watch(lk.Callback):
    def on_train_epoch_end(self, trainer: lk.Trainer, pl_module: lk.LightModule) -> None:
        print(trainer.curent_epoch)
        print(pl_module.trainer.curent_epoch)


class Data(lk.LightDataModule):
    def setup(self, stage: str) -> None:
        if self.trainer is not None:
            print(self.trainer.curent_epoch)


print(lk.Trainer().curent_epoch)

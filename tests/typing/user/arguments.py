"""A user's file with an argument that Trainer does not have."""

import lightkit as lk

lk.Trainer(max_epoch=3)

"""A user's file with names that no room has; their files are imported when first asked for, which hides nothing."""

from lightkit import Trainr
from lightkit.callbacks import ModelChekpoint
from lightkit.cli import LightkitCLl
from lightkit.data import TensorLoder
from lightkit.loggers import CSVLoger
from lightkit.profilers import SimpleProfilr

print(Trainr, ModelChekpoint, LightkitCLl, TensorLoder, CSVLoger, SimpleProfilr)

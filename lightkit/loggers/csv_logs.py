"""CSVLogger, under the name that Lightning has for its file."""

from lightkit.loggers.csv import CSVExperiment, CSVLogger
from lightkit.loggers.csv import CSVExperiment as ExperimentWriter

__all__ = ["CSVExperiment", "CSVLogger", "ExperimentWriter"]

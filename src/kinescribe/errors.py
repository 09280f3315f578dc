"""The errors a user can meet: one line each, saying what was wrong, the value seen, and what to do.

The class decides the exit code of the command line; the library raises the same objects.
"""


class KinescribeError(Exception):
    """Anything Kinescribe refuses or cannot do; the message is an instruction, not a symptom."""

    exit_code: int = 1


class BatchError(KinescribeError):
    """Some items of a batch failed; the others are done and stay."""


class OptionError(KinescribeError, ValueError):
    """An option, prompt, size or path that cannot be honoured."""

    exit_code = 2


class MissingExtraError(KinescribeError, ImportError):
    """An optional package is absent; the message holds the one pip line that brings it."""

    exit_code = 2


class WeightsError(KinescribeError):
    """Weights or a model folder that are missing, damaged, foreign or of another family."""

    exit_code = 3


class MemoryLimitError(KinescribeError):
    """The request does not fit into memory."""

    exit_code = 4


class NumbersError(KinescribeError):
    """Infinite or undefined numbers appeared; the message names the step and the module."""

    exit_code = 5


class WriteError(KinescribeError, OSError):
    """A result could not be written whole; nothing is left under its final name."""

    exit_code = 6


class DataError(KinescribeError):
    """Training data, a training configuration or a checkpoint of a run that cannot be used."""

    exit_code = 7


class PolicyError(KinescribeError):
    """A prompt that the usage policy refuses."""

    exit_code = 8


class Cancelled(KinescribeError):
    """The user stopped the work; no partial file is left."""

    exit_code = 130


class KinescribeWarning(UserWarning):
    """Something the user can act upon, said once in one line; the work goes on."""


class PromptWarning(KinescribeWarning):
    """A prompt that the model will not see as it was written: too long, in another language, unknown words."""

"""Every exception of our own. Wrong arguments raise ValueError or TypeError instead."""


class MlpfastError(Exception):
    """Base class of the errors below."""


class DivergenceError(MlpfastError):
    """The loss stopped being finite; the weights are those before that step."""


class CheckpointError(MlpfastError):
    """A model file cannot be read or written."""


class DataError(MlpfastError):
    """A dataset is missing or damaged."""


class DeviceError(MlpfastError):
    """The wanted device cannot do what was asked."""

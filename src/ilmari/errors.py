"""What a user can get wrong, as exceptions.

IlmariError
├── ConfigError        a YAML file or a command-line override
├── CheckpointError    a Hugging Face folder: config, tensors, tokenizer files
├── TargetError        a CPU that is unknown or cannot run what was asked
├── ArtifactError      a compiled folder that is absent, altered, truncated or from another version
├── RequestError       a prompt, a message or a sampling parameter
├── DataError          a data set: a file to calibrate or to measure with
├── GroupError         ranks that cannot be started together, or one of them that is lost
├── OutputError        a place that cannot be written
├── ServerError        a server to be measured that cannot be reached, or refuses
└── DownloadError      something that had to be fetched and could not be

Every message is one sentence that names the file, key or field, what was found, what was expected and what to do.
The command line prints it and exits with code 2; a server answers 400. Anything else that is raised is a bug.
"""


class IlmariError(Exception):
    """A mistake that the user can mend; the message says how."""


class ConfigError(IlmariError):
    """A compile configuration that cannot be used."""


class CheckpointError(IlmariError):
    """A checkpoint folder that cannot be read as an InternLM model."""


class TargetError(IlmariError):
    """A target CPU that is unknown, or lacks what the code needs."""


class ArtifactError(IlmariError):
    """A compiled artifact that cannot be loaded."""


class RequestError(IlmariError):
    """A request to the engine that cannot be served."""


class DataError(IlmariError):
    """A data set on disk that cannot be read as what it should be."""


class GroupError(IlmariError):
    """Ranks that cannot run a model together, or no longer can."""


class OutputError(IlmariError):
    """An output path that cannot be written."""


class ServerError(IlmariError):
    """A server over HTTP that cannot be reached, or does not do what is asked of it."""


class DownloadError(IlmariError):
    """A download that failed or brought something else than expected."""

"""Every exception that ichnode raises on purpose.

    IchnodeError
    ├── ConfigError(problems)            the configuration is not usable; each problem is "section.key: reason"
    ├── MalformedDataset(detail)         received bytes are not a data set in the syntax they claim
    │   └── DatasetTooLarge              deflated bytes that inflate beyond the cap
    ├── NotStored(status, comment)       an instance is refused; what the C-STORE is answered
    ├── RefusedSeries(reason, detail)    a series cannot become an honest volume, or is not what a model reads
    ├── InferenceError(reason, detail)   a model, or the process it runs in, failed
    │   └── BundleError                  a bundle is missing, altered or not understood
    ├── DeliveryError(status, permanent) a destination did not take an instance
    ├── BackupError                      no verified copy of the database could be made
    ├── Undecided                        a transaction took too long to wait for; it may still be committed
    ├── NothingToJudge                   a job has no results that a person could judge
    └── StaleClaim                       the job row is no longer in the state that this work started from

Facts travel as attributes. The stage alone decides whether to retry or to fail.
"""


class IchnodeError(Exception):
    """Root of the tree."""


class ConfigError(IchnodeError):
    """The configuration is not usable."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class MalformedDataset(IchnodeError):
    """Received bytes are not a complete data set in the transfer syntax that they claim."""


class DatasetTooLarge(MalformedDataset):
    """A deflated data set inflates beyond the cap."""


class NotStored(IchnodeError):
    """A received instance is not kept; `status` and `comment` go into the C-STORE response."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(f"0x{status:04X} {comment}")
        self.status = status
        self.comment = comment


class RefusedSeries(IchnodeError):
    """A series is not analysed. `reason` is a `domain.reasons.Reason` value, `detail` the measured fact."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class InferenceError(IchnodeError):
    """A model, or the process it runs in, failed. `reason` is one word: crash, deadline, memory, error, bundle.

    `errno` is that of the OSError, where it was one.
    """

    def __init__(self, reason: str, detail: str, *, errno: int | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.errno = errno


class BundleError(InferenceError):
    """A bundle is missing, altered or not understood."""

    def __init__(self, detail: str) -> None:
        super().__init__("bundle", detail)


class DeliveryError(IchnodeError):
    """A destination did not take an instance. `permanent` says that sending the same again cannot help."""

    def __init__(self, status: int | None, detail: str, *, permanent: bool) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.permanent = permanent


class BackupError(IchnodeError):
    """No verified copy of the database could be made; nothing is left of the attempt."""


class Undecided(IchnodeError):
    """A transaction took longer than its sender can wait; it may be committed yet."""


class StaleClaim(IchnodeError):
    """The job row is no longer in the state that this work started from; its result must not be used."""


class NothingToJudge(IchnodeError):
    """A job has no results that a person could judge; the message says why, in words for that person."""

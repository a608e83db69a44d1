"""Why a stream ends: its errors, and ours under those of Bytewax."""

from __future__ import annotations

from feature_repo.errors import HeadraceError


class StreamError(HeadraceError):
    """The stream cannot run, or a worker of it died; the log holds everything it had not committed."""


class PeerLostError(StreamError):
    """A worker ended because another one did."""


class RecoveryError(StreamError):
    """Bytewax could not resume from its recovery files."""


def own_error(error: BaseException | None) -> HeadraceError | None:
    """The error of ours under one of Bytewax's, which wraps what its parts raise; `None` if there is none."""
    while error is not None and not isinstance(error, HeadraceError):
        error = error.__cause__
    return error

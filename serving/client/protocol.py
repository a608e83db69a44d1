"""The client without I/O: builds requests, reads answers, and decides what may be retried."""

from __future__ import annotations

import logging
import random
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict, TypeVar

import httpx
import msgspec
from msgspec import Struct

from .request_id import new_request_id

log = logging.getLogger(__name__)

T = TypeVar("T")
Candidates: TypeAlias = Sequence[str] | Sequence[tuple[str, float]]
RANK_TIMEOUT_S = 0.15
"""A page does not wait longer for a ranking."""
EVENTS_TIMEOUT_S = 2.0
_RETRIED = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """Events could not be delivered, or a request was refused as malformed.

    Attributes:
        status: HTTP status; 0 if the service was not reached.
        code: machine-readable reason; ``unreachable`` if there was no answer.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Ranked(Struct, frozen=True):
    """One item of a ranking."""

    item_id: str
    score: float
    position: int
    base_position: int
    why: dict[str, float] | None = None
    propensity: float | None = None


class Ranking(Struct, frozen=True, kw_only=True):
    """A ranking.

    Attributes:
        fallback: why the client fell back to the given order; `None` for an answer of the service.
    """

    request_id: str
    items: list[Ranked]
    tier: str = "base"
    degraded: list[str] = []
    ages: dict[str, float] = {}
    timings_ms: dict[str, float] = {}
    dropped: list[dict[str, str]] = []
    arms: dict[str, str] = {}
    fallback: str | None = None


class Sent(Struct, frozen=True):
    """The number of accepted records, and the rejected ones with the reasons."""

    accepted: int
    rejected: list[dict[str, Any]] = []


class ClientOptions(TypedDict, total=False):
    """Options of both clients.

    Attributes:
        api_key: a key with the scopes that the calls need.
        rank_timeout_s, events_timeout_s: maximum time of a call, including retries and pauses.
        attempts: maximum number of attempts of a call.
    """

    api_key: str | None
    rank_timeout_s: float
    events_timeout_s: float
    attempts: int


class RankOptions(TypedDict, total=False):
    """Options of a ranking; see the API's reference of `POST /v1/rank`.

    Attributes:
        query: the search query.
        explain: whether each item lists the contributions to its score.
        request_id: identifies the ranking in the decision records; generated if absent.
        consent: whether personalization is permitted; absent: not stated here.
        overrides: experiment arms forced for testing; needs the admin scope.
    """

    user_id: str | None
    session_id: str | None
    query: str | None
    explain: bool
    request_id: str | None
    consent: bool | None
    overrides: Mapping[str, str] | None


class Post(Struct, frozen=True):
    """A request to make; `budget_s` limits all attempts until the whole answer is read."""

    path: str
    body: bytes
    budget_s: float


Call: TypeAlias = Generator[Post, httpx.Response, T]
"""A call without I/O: it yields one request, receives the outcome, and returns the result."""


class Protocol:
    """The calls of both clients: their requests, and how answers are read."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        rank_timeout_s: float = RANK_TIMEOUT_S,
        events_timeout_s: float = EVENTS_TIMEOUT_S,
        attempts: int = 3,
    ) -> None:
        authorization = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self.headers = {"content-type": "application/json", **authorization}
        self.rank_timeout_s = rank_timeout_s
        self.events_timeout_s = events_timeout_s
        self.attempts = attempts

    def rank(self, candidates: Candidates, limit: int | None, options: RankOptions) -> Call[Ranking]:
        """Rank, or fall back to the given order if there is no answer in time."""
        request_id, body, item_ids = self._rank_body(candidates, {"limit": limit, **options})
        try:
            return _ranking_of((yield Post("/v1/rank", body, self.rank_timeout_s)), item_ids, limit)
        except (httpx.HTTPError, ClientError) as error:
            return _as_given(request_id, item_ids, limit, error)

    def send(self, records: Sequence[Mapping[str, Any]]) -> Call[Sent]:
        """Send records.

        Raises:
            ClientError: the records were not stored.
        """
        body = msgspec.json.encode(list(records))
        try:
            return _sent_of((yield Post("/v1/events", body, self.events_timeout_s)))
        except httpx.HTTPError as error:
            message = f"the service was not reached ({type(error).__name__}: {error})"
            raise ClientError(0, "unreachable", message) from error

    def pause_s(self, error: Exception, attempt: int, left_s: float, budget_s: float) -> float | None:
        """Return the seconds to wait before the next attempt, with full jitter, or `None` to give up.

        Args:
            error: the error of attempt number `attempt` (from 1).
            left_s: seconds left of `budget_s`, the time limit of the whole call.
        """
        if attempt >= self.attempts or not _may_be_retried(error):
            return None
        pause = random.uniform(0.0, min(budget_s / 4, budget_s / 50 * 2**attempt))
        return pause if pause < left_s else None

    @staticmethod
    def _rank_body(candidates: Candidates, options: Mapping[str, Any]) -> tuple[str, bytes, list[str]]:
        """Return the request id, the body and the item ids of a ranking."""
        rows = [
            {"item_id": c} if isinstance(c, str) else {"item_id": c[0], "score": c[1]} for c in candidates
        ]
        request_id = options.get("request_id") or new_request_id()
        given = {name: value for name, value in options.items() if value is not None}
        body = msgspec.json.encode({**given, "request_id": request_id, "candidates": rows})
        return request_id, body, [str(row["item_id"]) for row in rows]


def outcome_of(call: Call[T], outcome: httpx.Response | Exception) -> T:
    """Resume a call with the outcome of its request, and return its result."""
    try:
        if isinstance(outcome, Exception):
            call.throw(outcome)
        else:
            call.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError  # pragma: no cover - a call asks for one request only


def _ranking_of(response: httpx.Response, item_ids: Sequence[str], limit: int | None) -> Ranking:
    """Read the ranking from an answer.

    Raises:
        ClientError: the answer is an error, or its items are not those of the request.
    """
    _raise_for_status(response)
    try:
        ranking = msgspec.json.decode(response.content, type=Ranking)
    except msgspec.MsgspecError as error:
        raise ClientError(
            response.status_code, "bad_answer", f"the answer is not a ranking: {error}"
        ) from error
    returned = [item.item_id for item in ranking.items]
    if len(set(returned)) != len(returned) or not set(returned) <= set(item_ids):
        message = "the answer repeats items or names some that were not in the request"
        raise ClientError(response.status_code, "bad_answer", message)
    wanted = len(item_ids) - len(ranking.dropped)
    if len(returned) != (wanted if limit is None else min(limit, wanted)):
        message = f"the answer holds {len(returned)} of {wanted} items"
        raise ClientError(response.status_code, "bad_answer", message)
    return ranking


def _sent_of(response: httpx.Response) -> Sent:
    """Read the answer to events. "All rejected" is an answer, not an error."""
    if response.status_code != httpx.codes.UNPROCESSABLE_ENTITY or b'"rejected"' not in response.content:
        _raise_for_status(response)
    try:
        return msgspec.json.decode(response.content, type=Sent)
    except msgspec.MsgspecError as error:
        raise ClientError(response.status_code, "bad_answer", f"the answer is malformed: {error}") from error


def _as_given(request_id: str, item_ids: Sequence[str], limit: int | None, error: Exception) -> Ranking:
    """Return the given order as a ranking."""
    reason = error.code if isinstance(error, ClientError) else type(error).__name__
    log.warning("ranking %s falls back to the given order: %s", request_id, reason)
    n = len(item_ids)
    items = [Ranked(item_id, 1.0 - i / max(n - 1, 1), i, i) for i, item_id in enumerate(item_ids)]
    return Ranking(request_id=request_id, items=items[:limit], degraded=["client_fallback"], fallback=reason)


def _may_be_retried(error: BaseException) -> bool:
    """Whether a failure is likely temporary: a failed connection or a busy service, not a late answer."""
    if isinstance(error, ClientError):
        return error.status in _RETRIED
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.TimeoutException)


def raise_to_retry(response: httpx.Response) -> None:
    """Raise for a status that is worth a retry."""
    if response.status_code in _RETRIED:
        _raise_for_status(response)


def _raise_for_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        problem = msgspec.json.decode(response.content)["error"]
        code, message = str(problem["code"]), str(problem["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        code, message = "http_error", f"the service answered {response.status_code}"
    raise ClientError(response.status_code, code, message)

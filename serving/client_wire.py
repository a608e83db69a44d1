"""What the sync and the async client share: requests built, answers read, what is tried again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import httpx
import msgspec
from msgspec import Struct
from tenacity import retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from feature_repo.errors import HeadraceError
from serving.request_id import new_request_id

log = logging.getLogger(__name__)

Candidates: TypeAlias = Sequence[str] | Sequence[tuple[str, float]]
RANK_TIMEOUT_S = 0.15
"""A ranking that takes longer is no use to a page."""
EVENTS_TIMEOUT_S = 2.0
_TRIED_AGAIN = frozenset({429, 502, 503, 504})


class ClientError(HeadraceError):
    """Events could not be delivered, or a request was refused as malformed.

    Attributes:
        status: HTTP status; 0 where the service was not reached.
        code: its machine-readable reason, ``unreachable`` where there was no answer.
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
        fallback: why it is the order given; `None` for an answer of the service.
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
    """What became of the records that were sent."""

    accepted: int
    rejected: list[dict[str, Any]] = []


class Wire:
    """What both clients share: requests built, answers read, what is tried again."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        rank_timeout_s: float,
        events_timeout_s: float,
        attempts: int,
    ) -> None:
        self.options: dict[str, Any] = {
            "base_url": base_url,
            "headers": {} if api_key is None else {"authorization": f"Bearer {api_key}"},
        }
        self.rank_timeout_s = rank_timeout_s
        self.events_timeout_s = events_timeout_s
        self.attempts = attempts

    def retrying(self, budget_s: float) -> dict[str, Any]:
        """How to try again: with full jitter, and no longer than the caller waits."""
        stop = stop_after_attempt(self.attempts) | stop_after_delay(budget_s)
        return {
            "stop": stop,
            "wait": wait_random_exponential(multiplier=budget_s / 50, max=budget_s / 4),
            "retry": retry_if_exception(_may_be_tried_again),
            "reraise": True,
        }

    @staticmethod
    def rank_body(candidates: Candidates, options: Mapping[str, Any]) -> tuple[str, bytes, list[str]]:
        """Request id, body and item ids of a ranking."""
        rows = [
            {"item_id": c} if isinstance(c, str) else {"item_id": c[0], "score": c[1]} for c in candidates
        ]
        request_id = options.get("request_id") or new_request_id()
        given = {name: value for name, value in options.items() if value is not None}
        body = msgspec.json.encode({**given, "request_id": request_id, "candidates": rows})
        return request_id, body, [str(row["item_id"]) for row in rows]

    @staticmethod
    def read_ranking(response: httpx.Response, item_ids: Sequence[str]) -> Ranking:
        """The ranking of an answer.

        Raises:
            ClientError: it is an error, or names items that were not asked for.
        """
        _raise_for_status(response)
        try:
            ranking = msgspec.json.decode(response.content, type=Ranking)
        except msgspec.MsgspecError as error:
            raise ClientError(response.status_code, "bad_answer", f"no ranking: {error}") from error
        returned = [item.item_id for item in ranking.items]
        if len(set(returned)) != len(returned) or not set(returned) <= set(item_ids):
            message = "the answer doubles items or names some that were not asked for"
            raise ClientError(response.status_code, "bad_answer", message)
        return ranking

    @staticmethod
    def read_sent(response: httpx.Response) -> Sent:
        """What became of events. All refused is an answer too, not an error."""
        if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY and b'"rejected"' in response.content:
            return msgspec.json.decode(response.content, type=Sent)
        _raise_for_status(response)
        return msgspec.json.decode(response.content, type=Sent)

    @staticmethod
    def as_given(request_id: str, item_ids: Sequence[str], limit: int | None, error: Exception) -> Ranking:
        """The order given, for when there is no other."""
        reason = error.code if isinstance(error, ClientError) else type(error).__name__
        log.warning("ranking %s falls back to the order given: %s", request_id, reason)
        n = len(item_ids)
        items = [Ranked(item_id, 1.0 - i / max(n - 1, 1), i, i) for i, item_id in enumerate(item_ids)]
        return Ranking(
            request_id=request_id, items=items[:limit], degraded=["client_fallback"], fallback=reason
        )


JSON = {"content-type": "application/json"}


def _may_be_tried_again(error: BaseException) -> bool:
    """What passes: a connection that failed, a service that is busy. A late answer stays late."""
    if isinstance(error, ClientError):
        return error.status in _TRIED_AGAIN
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.TimeoutException)


def raise_to_retry(response: httpx.Response) -> None:
    if response.status_code in _TRIED_AGAIN:
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


def unreachable(error: httpx.HTTPError) -> ClientError:
    return ClientError(0, "unreachable", f"the service was not reached ({type(error).__name__}: {error})")

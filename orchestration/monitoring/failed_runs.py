"""Reports of failed runs, for the log, the file that `headrace status` reads, and a webhook."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from feature_repo.clock import Clock
from quality.run_failures import RunFailure

TIMEOUT_S = 5.0
TRIES = 3

logger = logging.getLogger(__name__)


def said(error: SerializableErrorInfo | None) -> str:
    """Return the first line of the first error that is not one of Dagster's wrappers."""
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    if error is None:
        return "failed"
    text = error.message.strip().splitlines()[0]
    return text.partition(": ")[2] or text


def failed_check(events: Iterable[dg.DagsterEvent]) -> tuple[str, str] | None:
    """Return the asset and the finding of its blocking check; `None` if no check failed."""
    for event in events:
        if event.event_type_value != "ASSET_CHECK_EVALUATION":
            continue
        found = event.asset_check_evaluation_data
        if found.blocking and not found.passed and found.severity is dg.AssetCheckSeverity.ERROR:
            return found.asset_key.to_user_string(), found.description or "failed"
    return None


def failure_of_run(run: dg.DagsterRun, events: Iterable[dg.DagsterEvent], clock: Clock) -> RunFailure:
    """Describe the first failure: a blocking check, a step, or the run as a whole."""
    events = list(events)
    step = next((e for e in events if e.is_step_failure), None)
    messages = [e.message for e in events if e.is_failure and e.message]
    if (check := failed_check(events)) is not None:
        where, error = f"check of {check[0]}", check[1]
    elif step is not None:
        where, error = step.step_key or "", said(step.step_failure_data.error)
    else:
        where, error = "", messages[0] if messages else "failed before any step ran"
    partition = run.tags.get("dagster/partition", "")
    return RunFailure(run.run_id, run.job_name, partition, where, error, clock())


def send(url: str, failure: RunFailure, timeout_s: float = TIMEOUT_S, wait_s: float = 1.0) -> bool:
    """POST a failure as JSON with a few retries; return whether it was accepted. Never raises.

    Args:
        wait_s: delay before the first retry; doubled before each further one.
    """
    import httpx  # noqa: PLC0415 - only where a webhook is set and something failed
    import msgspec  # noqa: PLC0415
    from tenacity import (  # noqa: PLC0415
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        wait_exponential,
    )

    body = {"text": failure.line, **msgspec.to_builtins(failure)}
    retrying = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(wait_s),
        retry=retry_if_exception_type(httpx.HTTPError),
        reraise=True,
    )
    try:
        for attempt in retrying:
            with attempt:
                httpx.post(url, json=body, timeout=timeout_s).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # The rest of the URL is often a secret, and httpx's message contains the URL.
        logger.warning("HEADRACE_FAILURE_WEBHOOK: %s: %s", urlsplit(url).hostname, type(error).__name__)
        return False
    return True

"""The online store as a Bytewax sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from streaming.dataflow.store_writer import WriteJob


class JobSink(Protocol):
    """Where the flow's rows go."""

    def write(self, jobs: Sequence[WriteJob]) -> None:
        """Take jobs; may return before they are written."""
        ...

    def flush(self) -> None:
        """Return once everything taken is written."""
        ...


class _StorePart(StatefulSinkPartition[WriteJob, None]):  # type: ignore[misc]
    def __init__(self, sink: JobSink) -> None:
        self._sink = sink

    def write_batch(self, values: list[WriteJob]) -> None:
        self._sink.write(values)

    def snapshot(self) -> None:
        """Called before the epoch is committed: what it wrote must be in the store by then."""
        self._sink.flush()


@dataclass(frozen=True)
class OnlineSink(FixedPartitionedSink[WriteJob, None]):  # type: ignore[misc]
    """The online store as a Bytewax sink: a part per shard, so that one key has one writer."""

    parts: tuple[str, ...]
    sink: JobSink

    def list_parts(self) -> list[str]:
        """Names of the shards."""
        return list(self.parts)

    def part_fn(self, item_key: str) -> int:
        """The part of a shard."""
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _StorePart:
        """A writer; it has no state of its own."""
        return _StorePart(self.sink)

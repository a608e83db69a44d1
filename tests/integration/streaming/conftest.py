"""A real Kafka broker for the tests that ask for one; skipped, visibly, where Java or Maven is missing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from feature_repo.settings import Settings
from tests.services.kafka.broker import KafkaBroker, Unavailable


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    try:
        broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    except Unavailable as reason:
        pytest.skip(f"no Kafka: {reason}")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def kafka_settings(kafka_broker: KafkaBroker, settings: Settings) -> Settings:
    """Settings of a topic of this test's own."""
    return settings.model_copy(
        update={
            "event_log": "kafka",
            "kafka_bootstrap": kafka_broker.bootstrap,
            "kafka_topic": f"test-{uuid.uuid4().hex[:12]}",
        }
    )

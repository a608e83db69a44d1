"""Servers of the event log that stop, restart, fill up or ask for a password."""

from __future__ import annotations

import signal
import socket
import threading
from datetime import timedelta

import pytest
import redis

from feature_repo.errors import LogError, SettingsError
from feature_repo.home import Home
from feature_repo.settings import Settings
from streaming.log import EventLog, PositionLostError, open_log, partition_of
from streaming.log.kafka import KafkaLog
from streaming.log.redis_streams import RedisLog
from tests.conftest import RedisServer, free_port
from tests.services.kafka.broker import KafkaBroker


def read_all(log: EventLog, start: str | None = None) -> list[bytes]:
    found: list[bytes] = []
    for partition in range(log.partitions):
        at = start or log.start(partition)
        while (batch := log.read(partition, at, 100)).position != at:
            found += batch.records
            at = batch.position
    return found


@pytest.mark.redis
class TestRedis:
    def test_while_it_is_down_nothing_is_acknowledged_and_afterwards_the_log_goes_on(
        self, own_redis: RedisServer
    ) -> None:
        log = RedisLog(own_redis.url, "t", 1)
        log.publish([("k", b"before")])
        at = log.end(0)
        own_redis.stop()
        with pytest.raises(LogError, match=r"cannot write .*is Redis up, and HEADRACE_REDIS_URL right\?"):
            log.publish([("k", b"lost to nobody")])
        with pytest.raises(LogError, match=r"cannot read .*is Redis up"):
            log.read(0, at, 1)
        own_redis.start()  # empty: nothing was kept on disk
        log.publish([("k", b"after")])
        assert log.read(0, at, 10).records == [b"after"]
        log.close()

    def test_a_server_that_hangs_is_an_error_not_a_wait_for_ever(self, own_redis: RedisServer) -> None:
        log = RedisLog(own_redis.url, "t", 1, timeout_s=0.2)
        own_redis.signal(signal.SIGSTOP)
        with pytest.raises(LogError, match=r"cannot write \(Timeout"):
            log.publish([("k", b"x")])
        own_redis.signal(signal.SIGCONT)
        log.publish([("k", b"x")])
        assert b"x" in read_all(log)
        log.close()

    def test_out_of_memory_is_reported(self, own_redis: RedisServer) -> None:
        log = RedisLog(own_redis.url, "t", 1)
        client = redis.Redis.from_url(own_redis.url)
        client.config_set("maxmemory", 1)
        with pytest.raises(LogError, match=r"cannot write, out of memory .*raise maxmemory or trim the log"):
            log.publish([("k", b"x")])
        client.config_set("maxmemory", 0)
        log.publish([("k", b"y")])
        assert read_all(log) == [b"y"]
        client.close()
        log.close()

    def test_a_password_passes_through_the_url(self, own_redis: RedisServer) -> None:
        client = redis.Redis.from_url(own_redis.url)
        client.config_set("requirepass", "secret")
        with pytest.raises(
            LogError, match=r"access denied .*put user and password into HEADRACE_REDIS_URL"
        ) as told:
            RedisLog(own_redis.url, "t", 1)
        assert "secret" not in str(told.value)
        log = RedisLog(own_redis.url.replace("//", "//:secret@"), "t", 1)
        log.publish([("k", b"x")])
        assert read_all(log) == [b"x"]
        log.close()
        client.close()

    def test_a_missing_server_is_reported(self) -> None:
        with pytest.raises(LogError, match=r"cannot open .*is Redis up"):
            RedisLog(f"redis://127.0.0.1:{free_port()}/0", "t", 1)

    def test_tls_is_asked_for_by_the_url(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            first: list[bytes] = []

            def answer() -> None:
                for _ in range(2):  # one retry is made
                    connection, _ = server.accept()
                    with connection:
                        first.append(connection.recv(1))

            listener = threading.Thread(target=answer, daemon=True)
            listener.start()
            with pytest.raises(LogError, match=r"cannot open .*is Redis up"):
                RedisLog(f"rediss://127.0.0.1:{server.getsockname()[1]}/0", "t", 1)
            assert first[0] == b"\x16"  # the handshake of TLS, not a command in the clear

    def test_an_invalid_url_is_reported(self) -> None:
        with pytest.raises(SettingsError, match=r"HEADRACE_REDIS_URL: .*rediss://:password@host:6379/0"):
            RedisLog("http://x", "t", 1)


@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
class TestKafka:
    def test_while_it_is_down_nothing_is_acknowledged_and_restarted_it_has_all_it_acknowledged(
        self, kafka_broker: KafkaBroker, kafka_settings: Settings, home: Home
    ) -> None:
        log = open_log(kafka_settings, home)
        log.publish([(f"k{n}", b"%d" % n) for n in range(100)])
        ends = [log.end(p) for p in range(log.partitions)]
        name, hour = kafka_settings.kafka_topic, timedelta(hours=1)
        hasty = KafkaLog(kafka_broker.bootstrap, name, log.partitions, hour, timeout_s=1.0)
        kafka_broker.stop()
        try:
            with pytest.raises(LogError, match=r"2 of 2 records refused, .*is a broker up at HEADRACE_KAFKA"):
                hasty.publish([("k", b"1"), ("k", b"2")])
            with pytest.raises(LogError, match=r"cannot read .*is a broker up"):
                hasty.end(0)
        finally:
            kafka_broker.start()
            hasty.close()
        assert [log.end(p) for p in range(log.partitions)] == ends
        log.publish([(f"k{n}", b"%d" % n) for n in range(100, 200)])
        assert sorted(map(int, read_all(log))) == list(range(200))
        log.close()

    def test_retention_is_a_setting_of_the_topic(
        self, kafka_broker: KafkaBroker, kafka_settings: Settings, home: Home
    ) -> None:
        from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

        open_log(kafka_settings.model_copy(update={"log_retention_hours": 2.0}), home).close()
        admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
        asked = ConfigResource(ResourceType.TOPIC, kafka_settings.kafka_topic)
        (future,) = admin.describe_configs([asked]).values()
        assert future.result()["retention.ms"].value == str(int(timedelta(hours=2).total_seconds() * 1000))

    def test_a_missing_broker_is_reported(self) -> None:
        nowhere = f"127.0.0.1:{free_port()}"
        with pytest.raises(
            LogError, match=rf"cannot open .*is a broker up at HEADRACE_KAFKA_BOOTSTRAP={nowhere}"
        ):
            KafkaLog(nowhere, "t", 1, timedelta(hours=1), timeout_s=1.0)

    def test_a_recreated_topic_is_noticed_by_a_reader_ahead_of_it(
        self, kafka_settings: Settings, home: Home
    ) -> None:
        log = open_log(kafka_settings, home)
        log.publish([("k", b"1")])
        with pytest.raises(
            PositionLostError, match=r"position 0+7 is beyond its end 0+1; the log was replaced"
        ):
            log.read(partition_of("k", log.partitions), f"{7:020d}", 1)
        log.close()

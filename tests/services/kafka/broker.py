"""A real Kafka broker in KRaft mode, from the artifacts on Maven Central; Java 17 and Maven are all it needs.

By hand: `python -m tests.services.kafka.broker /tmp/kafka` starts one and prints its address.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
CLUSTER = "aGVhZHJhY2UtdGVzdHMtMQ"
MEMORY = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
START_S = 90


class Unavailable(Exception):
    """This machine cannot run a broker; says why."""


def classpath(folder: Path) -> str:
    """The broker's jars, fetched by Maven into its local repository.

    Raises:
        Unavailable: no Java, no Maven, or Maven cannot fetch them.
    """
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            msg = f"no {tool} on the PATH"
            raise Unavailable(msg)
    out = folder / "classpath"
    command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:build-classpath", f"-Dmdep.outputFile={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode != 0:
        msg = f"Maven could not resolve Kafka: {done.stdout.strip().splitlines()[-1:]}"
        raise Unavailable(msg)
    return out.read_text().strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KafkaBroker:
    """One broker that is its own controller, on ports the system chose; can be stopped and restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._classpath = classpath(folder)
        self._port, controller = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = folder / "server.properties"
        self._properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self._port}
controller.listener.names=CONTROLLER
log.dirs={folder / "data"}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=1
num.io.threads=2
"""
        )
        self._run("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self._properties))

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> KafkaBroker:
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *MEMORY, "-cp", self._classpath, "kafka.Kafka", str(self._properties)],
                stdout=log,
                stderr=log,
            )
        self._await()
        return self

    def _await(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        assert self._process is not None
        deadline = time.monotonic() + START_S
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if admin.list_topics(timeout=2).brokers:
                    return
            except KafkaException:
                continue
        self.stop()
        tail = (self._folder / "broker.log").read_text()[-2000:]
        msg = f"Kafka on {self.bootstrap} did not answer within {START_S} s:\n{tail}"
        raise RuntimeError(msg)

    def stop(self) -> None:
        """Kill it, as a crash would; what it acknowledged is on the disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _run(self, *args: str) -> None:
        command = ["java", *MEMORY, "-cp", self._classpath, *args]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    home.mkdir(parents=True, exist_ok=True)
    broker = KafkaBroker(home).start()
    sys.stdout.write(f"HEADRACE_KAFKA_BOOTSTRAP={broker.bootstrap}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    try:
        assert broker._process is not None
        broker._process.wait()
    except KeyboardInterrupt:
        broker.stop()

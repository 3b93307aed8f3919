"""The parts of an installation as processes of their own: PostgreSQL, Prefect's server and worker, a Ray cluster, an S3 store.

Each has passwords of its own, that are new for each test run, and a log. Whatever is started here is ended by its process id.
"""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from deployed import FINAL, free_port
from needs import POSTGRES_FOLDERS
from places import ROOT
from raylets import NodeSpec, RayCluster, Raylet
from support import descendants

START_S = 240.0
"""Seconds for a part to come up on a busy machine."""
STEP_S = 240.0
"""Seconds for a step of docker/steps.sh."""
TAIL = 4_000
"""Characters of a log that a failure shows."""
LEFT_OUT = ("AWS_", "RAY_", "PREFECT_", "MODERATION_", "PG", "PYTHONPATH")
"""Variables of whoever runs the tests that parts must not find."""


@dataclass(frozen=True)
class Passwords:
    """New ones for each test run."""

    database: str = field(default_factory=lambda: secrets.token_hex(16))
    prefect: str = field(default_factory=lambda: secrets.token_hex(16))
    s3: str = field(default_factory=lambda: secrets.token_hex(20))


def until(holds: Callable[[], Any], seconds: float, otherwise: str, *logs: Path) -> Any:
    """What `holds` says, as soon as that is something; after so long a failure that shows the ends of the logs."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError("\n".join([f"{otherwise} after {seconds:g} s", *map(tail, logs)]))
        time.sleep(0.5)
    return found


def tail(log: Path) -> str:
    """The end of a log."""
    return f"--- {log}\n{log.read_text(errors='replace')[-TAIL:] if log.exists() else 'is not there'}"


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all below it at once, as a machine does that goes away."""
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def stop(process: subprocess.Popen[bytes], how: int = signal.SIGTERM, seconds: float = 30.0) -> None:
    """Have a process end itself; what is left below it after that is killed."""
    below = descendants(process.pid)
    if process.poll() is None:
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    for pid in [process.pid, *below]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


class Part:
    """A program with a log, that can be stopped and started again."""

    def __init__(self, name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path, **how: Any) -> None:
        self._words, self._environment, self._how = list(words), dict(environment), how
        self.log = folder / f"{name}.log"
        self.process = self._popen()

    def _popen(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._words,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._how,
            )

    def start(self) -> None:
        """Again, after it was stopped."""
        self.process = self._popen()

    def up(self, answers: Callable[[], Any]) -> None:
        """Wait until it does its work."""

        def holds() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with code {self.process.returncode}\n{tail(self.log)}")
            return bool(answers())

        until(holds, START_S, f"{self._words[0]} does not come up", self.log)


class Postgres:
    """A database server on loopback that asks for a password. It refuses to run as root: it runs as `nobody` then."""

    NAME = "prefect"

    def __init__(self, password: str, environment: Mapping[str, str], logs: Path) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # which `nobody` must get into
        self._environment = {**environment, "PGPASSWORD": password, "HOME": str(self.folder)}
        self._user: dict[str, Any] = {"cwd": self.folder}
        secret = self.folder / "password"
        secret.touch(0o600)
        secret.write_text(password)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (self.folder, secret):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            self._user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data = self.folder / "data"
        self._run("initdb", "-D", data, "-U", self.NAME, "--pwfile", secret, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale")
        secret.unlink()
        words = [_postgres("postgres"), "-D", data, "-p", self.port, "-h", "127.0.0.1", "-k", self.folder]
        self.part = Part("postgres", list(map(str, words)), self._environment, logs, **self._user)
        try:
            self.wait()
            self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", self.NAME, "-w", self.NAME)
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Until it takes connections."""
        words = [_postgres("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        self.part.up(lambda: subprocess.run(words, check=False, **self._user).returncode == 0)

    def dump(self) -> str:
        """All that it holds, as SQL."""
        return self._run("pg_dump", "-h", "127.0.0.1", "-p", self.port, "-U", self.NAME, "-w", self.NAME)

    def stop(self, how: int = signal.SIGINT) -> None:
        """`SIGINT` cuts its connections, `SIGQUIT` is a crash."""
        stop(self.part.process, how)

    def close(self) -> None:
        """Stop, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *words: Any) -> str:
        command = [_postgres(program), *map(str, words)]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=120, **self._user
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout


def _postgres(program: str) -> str:
    found = shutil.which(program, path=os.pathsep.join([*map(str, POSTGRES_FOLDERS), os.environ["PATH"]]))
    assert found, f"there is no {program} here: install PostgreSQL's server (apt-get install postgresql)"
    return found


class Cluster(RayCluster):
    """A Ray cluster whose nodes tell their numbers at a port that is known."""

    def __init__(self, head: NodeSpec) -> None:
        self.metrics: list[str] = []
        super().__init__(head, {}, client_server=False)

    def _start(self, options: Sequence[str], spec: NodeSpec) -> Raylet:
        port = free_port()
        self.metrics.append(f"http://127.0.0.1:{port}/metrics")
        return super()._start([*options, f"--metrics-export-port={port}"], spec)

    def sample(self, name: str, **labels: str) -> float:
        """The sum of a metric over nodes, jobs and processes, of those whose labels are these."""
        total = 0.0
        for url in self.metrics:
            with contextlib.suppress(httpx.HTTPError):
                for line in httpx.get(url, timeout=20).text.splitlines():
                    found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
                    if found and all(f'{key}="{value}"' in found[1] for key, value in labels.items()):
                        total += float(found[2])
        return total


class Checkout:
    """A fresh copy of this repository: what git would clone, with what is not committed yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
        for name in os.fsdecode(listed.stdout).split("\0"):
            if name and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def edit(self, **values: str) -> None:
        """Change lines of the block of prefect.yaml that is there to be edited."""
        file = self.folder / "prefect.yaml"
        before, block, after = re.split(
            r"(?<=-- edit from here \.\.\.\n)|(?=^# -+ \.\.\. to here)", file.read_text(), flags=re.M
        )
        for key, value in values.items():
            block, count = re.subn(
                rf"^(  {key}: &{key}) .*$", lambda found, value=value: f"{found[1]} {value}", block, flags=re.M
            )
            assert count == 1, f"prefect.yaml has no line for {key}"
        file.write_text(before + block + after)


class Api:
    """Prefect's API as an administrator sees it."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=f"{url}/", auth=("admin", password), timeout=30)

    def post(self, path: str, content: Any = None) -> Any:
        answer = self._client.post(path, json=content or {})
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    def run(self, run_id: str) -> dict[str, Any] | None:
        """A flow run; None while nobody answers, or the database is away."""
        try:
            answer = self._client.get(f"flow_runs/{run_id}")
        except httpx.HTTPError:
            return None
        return answer.json() if answer.is_success else None

    def pause(self, *deployments: str) -> None:
        for name in deployments:
            self.post(f"deployments/{self.get(f'deployments/name/{name}')['id']}/pause_deployment")

    def start_run(self, deployment: str, parameters: dict[str, Any]) -> str:
        found = self.get(f"deployments/name/{deployment}")
        return str(self.post(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"])

    def scheduled(self) -> list[dict[str, Any]]:
        """Flow runs that a schedule made and that have begun, the first one first."""
        found = self.post("flow_runs/filter", {"flow_runs": {"start_time": {"is_null_": False}}, "sort": "START_TIME_ASC"})
        return [run for run in found if run["auto_scheduled"]]

    def states(self, run_id: str) -> list[str]:
        rows = self.get(f"flow_run_states/?flow_run_id={run_id}")
        return [f"{row['name']}: {row['message']}" for row in sorted(rows, key=lambda row: str(row["timestamp"]))]

    def logs(self, run_id: str) -> str:
        rows = self.post("logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(row["message"] for row in rows)

    def artifacts(self, run_id: str) -> dict[str, Any]:
        """The data of a flow run's artifacts, by key."""
        found = self.post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
        return {artifact["key"]: artifact["data"] for artifact in found}

    def close(self) -> None:
        self._client.close()


class Platform:
    """All parts, started in order, and stopped in the other."""

    def __init__(self, folder: Path) -> None:
        self.passwords, self.folder, self.logs = Passwords(), folder, folder / "logs"
        self.took: dict[str, float] = {}
        """Seconds of each step."""
        self._parts: list[Part] = []
        self._began = time.monotonic()
        self.logs.mkdir()
        (folder / "home").mkdir()
        self._undo = contextlib.ExitStack()
        try:
            self._bring_up()
        except BaseException:
            self.close()
            raise

    def lap(self, name: str) -> None:
        """Note how long it took since the last lap."""
        now = time.monotonic()
        self.took[name], self._began = round(now - self._began, 1), now

    def _bring_up(self) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
        quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "RAY_USAGE_STATS_ENABLED": "0", "GX_ANALYTICS_ENABLED": "False"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._base = {
            **clean,
            **quiet,
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "PATH": path,
            "HOME": str(self.folder / "home"),
        }

        self.checkout = Checkout(self.folder / "clone")
        self._base["PYTHONPATH"] = str(self.checkout.folder)  # the environment's own is that of the repository
        self.lap("checkout")

        self.database = Postgres(self.passwords.database, self._base, self.logs)
        self._undo.callback(self.database.close)
        self.lap("postgres")

        port = free_port()
        self.aws = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "moderation",
            "AWS_SECRET_ACCESS_KEY": self.passwords.s3,
            "AWS_REGION": "us-east-1",
        }
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        objects = self._part("s3", words, self._base, self.folder)
        self.server = self._server()

        self.cluster = Cluster(NodeSpec(2, environment={**self._base, **self.aws}))
        self._undo.callback(self.cluster.stop)
        self.cluster.add(NodeSpec(2, environment={**self._base, **self.aws}))
        self.lap("ray")
        objects.up(lambda: _answers(self.aws["AWS_ENDPOINT_URL"]))
        self.environment = {
            **self._base,
            **self.aws,
            **self.cluster.environment,
            "RAY_ADDRESS": self.cluster.address,
            "PREFECT_API_URL": self.api.url,
            "PREFECT_API_AUTH_STRING": f"admin:{self.passwords.prefect}",
            "PREFECT_HOME": str(self.folder / "home" / "client"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_WEBSERVER_PORT": str(free_port()),
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        }
        self.steps("wait_for_prefect", "create_work_pool", "upload_demo_images")
        self.lap("prefect server, work pool, images")

    def _server(self) -> Part:
        port = free_port()
        self.api = Api(f"http://127.0.0.1:{port}/api", self.passwords.prefect)
        self._undo.callback(self.api.close)
        environment = {
            **self._base,
            "PREFECT_HOME": str(self.folder / "home" / "server"),
            "PREFECT_SERVER_API_AUTH_STRING": f"admin:{self.passwords.prefect}",
            "PREFECT_SERVER_DATABASE_DRIVER": "postgresql+asyncpg",
            "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
            "PREFECT_SERVER_DATABASE_PORT": str(self.database.port),
            "PREFECT_SERVER_DATABASE_NAME": Postgres.NAME,
            "PREFECT_SERVER_DATABASE_USER": Postgres.NAME,
            "PREFECT_SERVER_DATABASE_PASSWORD": self.passwords.database,
        }
        words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        return self._part("server", words, environment, self.folder)

    def restart_server(self, away_s: float) -> None:
        """Stop Prefect's server, wait, and start it again."""
        stop(self.server.process)
        time.sleep(away_s)
        self.server.start()
        self.server.up(lambda: _answers(f"{self.api.url}/health"))

    def restart_database(self, away_s: float) -> None:
        """Have PostgreSQL crash, wait, and start it again."""
        self.database.stop(signal.SIGQUIT)
        time.sleep(away_s)
        self.database.part.start()
        self.database.wait()

    def _part(self, name: str, words: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Part:
        part = Part(name, words, environment, self.logs, cwd=cwd)
        self._undo.callback(lambda: stop(part.process))
        self._parts.append(part)
        return part

    def worker(self) -> Part:
        """A process worker of Prefect's."""
        return self._part("worker", ["sh", "docker/steps.sh", "work"], self.environment, self.checkout.folder)

    def steps(self, *names: str, **environment: str) -> str:
        """Steps of docker/steps.sh, as compose takes them."""
        return self.command("sh", "docker/steps.sh", *names, **environment)

    def command(self, *words: str, **environment: str) -> str:
        """A command in the checkout; what it said."""
        with (self.logs / "commands.log").open("a") as log:
            done = subprocess.run(
                words,
                env={**self.environment, **environment},
                cwd=self.checkout.folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=STEP_S,
            )
            log.write(f"{words}\n{done.stdout}\n{done.stderr}\n")
        assert done.returncode == 0, f"{' '.join(words)} ended with code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def log_files(self) -> list[Path]:
        """All that the parts wrote to disk in words: logs, and what Ray keeps beside its."""
        folders = [self.logs, self.folder / "home", *(node.temp for node in self.cluster.nodes)]
        return [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]

    def command_lines(self) -> Iterator[str]:
        """What every process below the parts was called with."""
        processes = [part.process for part in [*self._parts, self.database.part]]
        for process in [*processes, *(node.process for node in self.cluster.nodes)]:
            yield from descendants(process.pid).values()

    def ended(self, run_id: str, seconds: float, states: Sequence[str] = FINAL) -> dict[str, Any]:
        """A flow run, as soon as its state is one of these types."""

        def holds() -> dict[str, Any] | None:
            found = self.api.run(run_id)
            return found if found and found["state_type"] in states else None

        try:
            return until(
                holds, seconds, f"the flow run is not {' or '.join(states)}", self.logs / "worker.log", self.logs / "server.log"
            )
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n--- states\n{self.api.states(run_id)}\n--- logs\n{self.api.logs(run_id)[-TAIL:]}"
            ) from None

    def close(self) -> None:
        self._undo.close()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).is_success
    return False

"""The running local stack: what was started, where it listens, how it is ended."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from stack.deployed import STACK_NAME, Deployed, outputs_of, parameters_of
from stack.errors import UserError
from stack.template import ROOT

from . import processes
from .deployment import deploy

MINISTACK = ROOT / ".tools" / "ministack" / "bin" / "ministack"
MODEL = ROOT / "training" / "model" / "model.onnx"
HOME = ROOT / ".local"
REGION = "us-east-1"
ENDPOINT_NAME = "loading-bay"


@dataclass(frozen=True)
class Options:
    """How a stack is brought up.

    `endpoint_url` replaces the endpoint of this machine by another; `wait_scale` multiplies every wait between
    retries; `enforce_iam` makes the local AWS hold the functions to their roles.
    """

    model: Path = MODEL
    capture_percentage: int = 100
    parameters: Mapping[str, str] = field(default_factory=dict)
    endpoint_url: str | None = None
    wait_scale: float = 1.0
    enforce_iam: bool = False


@dataclass
class Stack:
    """A local stack in `folder`, which holds its logs, its captures and the record of what runs."""

    folder: Path
    aws_url: str = ""
    endpoint_url: str = ""
    pids: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path = HOME) -> "Stack":
        """Return the stack that runs in `folder`.

        Raises:
            UserError: none does.
        """
        stack = cls._recorded(folder)
        if not stack or not stack.outputs or not all(map(processes.is_alive, stack.pids.values())):
            raise UserError("no local stack is running; start one with: python -m local up")
        return stack

    @classmethod
    def up(cls, folder: Path, options: Options, say: Callable[[str], None]) -> "Stack":
        """Start the local AWS and the endpoint, build and deploy the template; all or nothing.

        Raises:
            UserError: one is running already, or something is missing or failed.
        """
        earlier = cls._recorded(folder)
        if earlier and any(map(processes.is_alive, earlier.pids.values())):
            raise UserError("a local stack is running already; stop it with: python -m local down")
        if earlier:
            earlier.down()
        if not MINISTACK.exists():
            raise UserError("the local AWS is not installed here; run: make setup")
        stack = cls(folder)
        try:
            stack._start(options, say)
        except BaseException:  # Ctrl-C too must leave nothing behind
            stack.down()
            raise
        return stack

    def down(self) -> None:
        """End the processes and remove what they kept in temporary folders; logs and captures stay."""
        for pid in self.pids.values():
            processes.stop(pid)
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        self._record.unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """Return the variables that point AWS's own tools at this stack."""
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }

    def client(self, service: str) -> Any:
        """Return a boto3 client of the local AWS."""
        return self.deployed.client(service)

    @property
    def deployed(self) -> Deployed:
        """The deployed stack, as operate sees it."""
        return Deployed.on_this_machine(self.environment(), self.outputs, self.parameters)

    @property
    def _record(self) -> Path:
        return self.folder / "stack.json"

    @classmethod
    def _recorded(cls, folder: Path) -> "Stack | None":
        try:
            record = json.loads((folder / "stack.json").read_text())
        except FileNotFoundError:
            return None
        known = {each.name: record[each.name] for each in fields(cls)}
        return cls(**known | {"folder": folder})

    def _save(self) -> None:
        self._record.write_text(
            json.dumps(asdict(self) | {"folder": str(self.folder), "environment": self.environment()}, indent=2) + "\n"
        )

    def _start(self, options: Options, say: Callable[[str], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self._start_aws(options)
        say(f"local AWS at {self.aws_url}")
        if options.endpoint_url:
            self.endpoint_url = options.endpoint_url
        else:
            self._start_endpoint(options)
        say(f"endpoint {ENDPOINT_NAME} at {self.endpoint_url}")
        say("sam build and sam deploy of template.yaml …")
        parameters = {"EndpointUrl": self.endpoint_url, "EndpointName": ENDPOINT_NAME, **options.parameters}
        deploy(self.folder, self.environment(), parameters)
        described = self.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"][0]
        self.outputs, self.parameters = outputs_of(described), parameters_of(described)
        self._save()
        say(f"stack {STACK_NAME} is up after {time.monotonic() - started:.1f} s")

    def _start_aws(self, options: Options) -> None:
        temporary = self.folder / "run"
        temporary.mkdir(exist_ok=True)
        port = processes.free_port()
        self.aws_url = f"http://127.0.0.1:{port}"
        # A clean environment: the functions inherit it, and must not find anyone's credentials.
        env = self.environment() | {
            "PATH": os.environ["PATH"],
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "DOCKER_HOST": "unix:///nonexistent",
            "SFN_WAIT_SCALE": str(options.wait_scale),
            "AUTH": str(options.enforce_iam).lower(),
        }
        log = self.folder / "aws.log"
        self.pids["aws"] = processes.start([str(MINISTACK)], log, cwd=temporary, env=env)
        self._save()
        processes.wait_until_healthy(f"{self.aws_url}/_ministack/health", self.pids["aws"], log)

    def _start_endpoint(self, options: Options) -> None:
        if not options.model.exists():
            raise UserError(f"there is no model at {options.model}; train one with: python -m training train")
        port = processes.free_port()
        self.endpoint_url = f"http://127.0.0.1:{port}"
        log = self.folder / "endpoint.log"
        command = [sys.executable, "-m", "local.endpoint", "--model", str(options.model), "--port", str(port)]
        command += ["--name", ENDPOINT_NAME, "--capture-folder", str(self.folder / "capture")]
        command += ["--capture-percentage", str(options.capture_percentage)]
        self.pids["endpoint"] = processes.start(command, log, cwd=ROOT, env=os.environ)
        self._save()
        processes.wait_until_healthy(f"{self.endpoint_url}/ping", self.pids["endpoint"], log)

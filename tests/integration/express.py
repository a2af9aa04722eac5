"""Makes Express executions of the local AWS behave as on AWS; the local AWS treats them as Standard.

This module runs inside the local AWS. Express executions get another kind of ARN, without describe, list, stop or
history; five minutes, in which waits count in full even if tests shorten them; no `.sync`; and events in CloudWatch
Logs. They run at least once: shares of ClassifyPhoto's executions (in `express.json`) run twice in parallel under one
ARN (`twice`), lose their state at some call and restart (`restart`), or end there silently (`dies`).

`express.jsonl` gets a line when a run begins and one when it ends, with facts that the AWS log leaves out.
"""

import contextvars
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

LIMIT = 300.0
CALLS = 8  # of ClassifyPhoto, on the longest usual path
REFUSED = "This operation is not supported by this type of state machine"
Record = dict[str, Any]
current: contextvars.ContextVar["Run | None"] = contextvars.ContextVar("current", default=None)


class Run:
    """A run of an execution, which may have several runs."""

    def __init__(self, record: Record, dies_at: int | None = None) -> None:
        self.record = record
        self.dies_at = dies_at
        self.calls = 0
        self.waited = 0.0
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """The duration so far, with full waits."""
        return time.monotonic() - self.began + self.waited


class Express:
    """The Express executions of one local AWS."""

    def __init__(self, stepfunctions: Any, logs: Any, folder: Path) -> None:
        self._sf = stepfunctions
        self._logs = logs
        self._folder = folder
        self._lock = threading.Lock()
        self._start = stepfunctions._start_execution
        self._start_sync = stepfunctions._start_sync_execution
        self._invoke = stepfunctions._invoke_resource
        self._nested_sync = stepfunctions._invoke_nested_start_execution_sync
        self._sleep = stepfunctions._scaled_sleep

    def install(self) -> None:
        """Replace the implementation of the local AWS; executions under an earlier one are lost."""
        self._note({"event": "up"})
        sf = self._sf
        sf._start_execution, sf._start_sync_execution = self.start, self.start_sync
        sf._invoke_resource, sf._invoke_nested_start_execution_sync = self.invoke, self.nested_sync
        sf._scaled_sleep = self.sleep
        for name, field in {
            "_describe_execution": "executionArn",
            "_stop_execution": "executionArn",
            "_get_execution_history": "executionArn",
            "_list_executions": "stateMachineArn",
        }.items():
            setattr(sf, name, self._refusing(getattr(sf, name), field))

    def start(self, data: Record) -> Any:
        """Start an execution, which may have more or less than one complete run."""
        if not self._is_express(data.get("stateMachineArn")):
            # A Standard execution that an Express execution starts does not share its five minutes.
            return contextvars.copy_context().run(self._outside, self._start, data)
        record = self._new(data)
        threading.Thread(target=contextvars.copy_context().run, args=(self._live, record), daemon=True).start()
        return self._sf.json_response({"executionArn": record["executionArn"], "startDate": record["startDate"]})

    def start_sync(self, data: Record) -> Any:
        """Run an execution to its end, like StartSyncExecution."""
        if not self._is_express(data.get("stateMachineArn")):
            return self._sf.error_response_json("StateMachineTypeNotSupported", REFUSED, 400)
        record = self._new(data)
        contextvars.copy_context().run(self._run, Run(record))
        answer = {name: record[name] for name in ("executionArn", "stateMachineArn", "name", "startDate", "input")}
        answer |= {"stopDate": record["stopDate"] or self._sf.now_iso(), "status": record["status"]}
        if record["status"] == "SUCCEEDED":
            return self._sf.json_response(answer | {"output": record["output"]})
        error = {"error": record.get("error", "States.Timeout"), "cause": record.get("cause", "")}
        return self._sf.json_response(answer | error)

    def nested_sync(self, resource: str, data: Record) -> Any:
        """Refuse to wait for an Express execution with `.sync`."""
        if self._is_express(data.get("StateMachineArn")):
            raise self._sf._ExecutionError("StepFunctions.StateMachineTypeNotSupported", REFUSED)
        self._sf._start_sync_execution = self._start_sync
        try:
            return self._nested_sync(resource, data)
        finally:
            self._sf._start_sync_execution = self.start_sync

    def invoke(self, resource: str, data: Any) -> Any:
        """Make a call, unless the run dies before or after it."""
        run = current.get()
        if run is None or run.dies_at is None:
            return self._invoke(resource, data)
        run.calls += 1
        if run.calls == run.dies_at:
            if random.random() < 0.5:
                self._invoke(resource, data)
            raise SystemExit
        return self._invoke(resource, data)

    def sleep(self, seconds: float) -> None:
        """Wait between retries, with the full jitter that the local AWS leaves out, within the five minutes."""
        run = current.get()
        if run:
            run.waited += seconds * random.random()
            if run.seconds > LIMIT:
                run.record["status"] = "TIMED_OUT"
                raise SystemExit
        self._sleep(seconds)

    def _live(self, record: Record) -> None:
        chance, fate = self._shares(record), random.random()
        twice, restart, dies = (chance.get(name, 0.0) for name in ("twice", "restart", "dies"))
        if fate < twice:
            second = contextvars.copy_context()
            later = threading.Timer(random.uniform(0, 0.6), second.run, (self._run, Run(self._again(record))))
            later.daemon = True
            later.start()
            self._run(Run(record))
        elif fate < twice + restart:
            self._run(Run(record, random.randint(1, CALLS)))
            if record["status"] == "LOST":
                self._run(Run(self._again(record)))
        else:
            self._run(Run(record, random.randint(1, CALLS) if fate < twice + restart + dies else None))

    def _run(self, run: Run) -> None:
        current.set(run)
        record = run.record
        self._write("began", record)
        self._sf._executions[record["executionArn"]] = record
        try:
            self._sf._run_execution(record["executionArn"])
        except SystemExit:
            pass
        finally:
            current.set(None)
        if record["status"] == "RUNNING":
            record["status"] = "LOST"
        self._sf._executions.pop(record["executionArn"], None)
        self._log(record)
        self._write("ended", record)

    def _outside(self, start: Any, data: Record) -> Any:
        current.set(None)
        return start(data)

    def _new(self, data: Record) -> Record:
        sf, machine = self._sf, self._sf._state_machines[data["stateMachineArn"]]
        name = data.get("name") or sf.new_uuid()
        where = f"{sf.get_region()}:{sf.get_account_id()}:express:{machine['name']}"
        record = {
            "executionArn": f"arn:aws:states:{where}:{name}:{sf.new_uuid()}",
            "stateMachineArn": machine["stateMachineArn"],
            "name": name,
            "startDate": sf.now_iso(),
            "input": data.get("input", "{}"),
            "inputDetails": {"included": True},
            "outputDetails": {"included": True},
            "testCase": "",
            "mockAttempts": {},
            "sync": True,
        }
        return self._again(record)

    def _again(self, record: Record) -> Record:
        started = {"id": 1, "type": "ExecutionStarted", "timestamp": record["startDate"]}
        return record | {"status": "RUNNING", "stopDate": None, "output": None, "events": [started]}

    def _shares(self, record: Record) -> dict[str, float]:
        if "ClassifyPhoto" not in record["stateMachineArn"]:
            return {}
        path = self._folder / "express.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _is_express(self, arn: str | None) -> bool:
        machine = self._sf._state_machines.get((arn or "").split("#")[0])
        return bool(machine) and machine["type"] == "EXPRESS"

    def _refusing(self, original: Any, field: str) -> Any:
        def refusing(data: Record) -> Any:
            value = data.get(field) or ""
            if field == "stateMachineArn" and self._is_express(value):
                return self._sf.error_response_json("StateMachineTypeNotSupported", REFUSED, 400)
            if ":express:" in value:
                return self._sf.error_response_json("InvalidArn", REFUSED, 400)
            return original(data)

        return refusing

    def _write(self, event: str, record: Record) -> None:
        names = ("executionArn", "stateMachineArn", "input", "status", "error", "cause", "output")
        self._note({"event": event} | {name: record.get(name) for name in names})

    def _note(self, line: Record) -> None:
        with self._lock, (self._folder / "express.jsonl").open("a") as file:
            file.write(json.dumps({"at": time.time()} | line) + "\n")

    def _log(self, record: Record) -> None:
        """Write the execution's events to its log group, like AWS at level ALL without execution data."""
        machine = self._sf._state_machines[record["stateMachineArn"]]
        # As in the template; the local AWS ignores it.
        configuration = machine["loggingConfiguration"]
        if configuration.get("Level") != "ALL":
            return
        arn = configuration["Destinations"][0]["CloudWatchLogsLogGroup"]["LogGroupArn"]
        group, stream = arn.split(":log-group:")[1].removesuffix(":*"), f"states/{self._sf.new_uuid()}"
        events = []
        for event in record["events"]:
            at = self._sf._iso_to_epoch_ms(event["timestamp"])
            details: Record = next((value for name, value in event.items() if name.endswith("EventDetails")), {})
            kept = {name: details[name] for name in ("name", "resource", "resourceType", "error") if name in details}
            line = {"id": str(event["id"]), "type": event["type"], "details": kept, "event_timestamp": str(at)}
            line |= {"execution_arn": record["executionArn"], "redrive_count": "0"}
            events.append({"timestamp": at, "message": json.dumps(line)})
        self._logs._create_log_stream({"logGroupName": group, "logStreamName": stream})
        self._logs._put_log_events({"logGroupName": group, "logStreamName": stream, "logEvents": events})

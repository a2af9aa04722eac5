"""A function can be run alone with any event; an error is one line."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from loading_bay.cli.main import main


@pytest.mark.parametrize("event", ["5", "null", '"detail"', "[]", "{}", '{"detail": {"inferences": []}}', "{", "\x00"])
def test_any_event_is_passed_on_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    given: list[object] = []
    monkeypatch.setattr("loading_bay.cli.local.Stack.load", lambda: SimpleNamespace(outputs={"InboxBucket": "inbox"}))

    def invoke_function(_stack: object, _name: str, event: object) -> tuple[None, str]:
        given.append(event)
        return None, "KeyError: no\nscores"

    monkeypatch.setattr("loading_bay.cli.local.invoke_function", invoke_function)
    (tmp_path / "event.json").write_text(event)

    done = CliRunner(mix_stderr=False).invoke(main, ["invoke", "threshold", str(tmp_path / "event.json")])

    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    if given:
        read = json.loads(event)
        assert given == [read["detail"] if isinstance(read, dict) and "detail" in read else read]

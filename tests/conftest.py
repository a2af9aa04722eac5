"""Which tests share a process where the suite is spread over several: those of one stack, or else those of a file."""

import pytest

STACKS = ("express_bay", "troubled_bay", "standard_bay")


@pytest.hookimpl(tryfirst=True)  # before the suite is spread
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group the tests; bringing a stack up takes longer than most files' tests."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    used = set(getattr(item, "fixturenames", ()))
    if callspec := getattr(item, "callspec", None):
        # Where a parameter chooses the stack, that one alone is brought up.
        chosen = [value for value in callspec.params.values() if value in STACKS]
        used = set(chosen) if chosen else used
    return next((stack for stack in STACKS if stack in used), item.path.stem)

"""The part of DynamoDB that the workflow's writes use: conditions and updates of one item."""

import re
from collections.abc import Mapping
from typing import Any

Item = dict[str, Any]
CONDITION = [
    (r"attribute_not_exists\((\w+)\)", r"('\1' not in item)"),
    (r"attribute_exists\((\w+)\)", r"('\1' in item)"),
    (r"contains\((\w+), :(\w+)\)", r"(values[':\2'] in item.get('\1', ()))"),
    (r"begins_with\((\w+), :(\w+)\)", r"item.get('\1', '').startswith(values[':\2'])"),
    (r"\b(\w+) <> :(\w+)", r"(item.get('\1') != values[':\2'])"),
    (r"\b(\w+) = :(\w+)", r"(item.get('\1') == values[':\2'])"),
    (r"\b(\w+) < :(\w+)", r"('\1' in item and item['\1'] < values[':\2'])"),
    (r"\bNOT\b", "not"),
    (r"\bAND\b", "and"),
    (r"\bOR\b", "or"),
]


def update(stored: Item | None, request: Mapping[str, Any]) -> Item | None:
    """Return the item after an UpdateItem, or None if the condition does not hold."""
    names = request.get("ExpressionAttributeNames", {})
    values = {name: plain(value) for name, value in request["ExpressionAttributeValues"].items()}
    item = dict(stored or {})

    def named(expression: str) -> str:
        return re.sub(r"#\w+", lambda name: names[name[0]], expression)

    if not holds(named(request.get("ConditionExpression", "")), item, values):
        return None
    item["photo"] = plain(request["Key"]["photo"])
    actions = re.split(r"\b(SET|REMOVE)\b", named(request["UpdateExpression"]))[1:]
    for action, what in zip(actions[::2], actions[1::2], strict=True):
        for part in re.split(r",\s*(?![^(]*\))", what.strip()):
            name, _, value = part.strip().partition(" = ")
            if action == "REMOVE":
                item.pop(name, None)
            elif match := re.fullmatch(r"if_not_exists\((\w+), (:\w+)\)", value):
                item[name] = item.get(match[1], values[match[2]])
            else:
                item[name] = values[value]
    return item


def holds(condition: str, item: Item, values: Item) -> bool:
    """Tell whether a condition holds of an item."""
    for pattern, python in CONDITION:
        condition = re.sub(pattern, python, condition)
    return bool(not condition or eval(condition, {"item": item, "values": values}))  # noqa: S307 - trusted


def plain(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "L":
        return tuple(map(plain, content))
    return int(content) if kind == "N" else content

"""Reads from a module's code which AWS operations it calls."""

import ast
from collections.abc import Iterable
from pathlib import Path

import botocore.session
from botocore import xform_name

SERVICES = botocore.session.get_session()


def services_of(modules: Iterable[Path]) -> set[str]:
    """The services for which these modules make clients, by `client("SERVICE")`."""
    calls = [node for node in _nodes(modules) if isinstance(node, ast.Call) and node.args]
    clients = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "client"]
    return {str(call.args[0].value) for call in clients if isinstance(call.args[0], ast.Constant)}


def calls_of(modules: Iterable[Path], services: Iterable[str]) -> set[str]:
    """The operations of these services that the code calls, or names as text for a paginator or a signer."""
    nodes = _nodes(modules)
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    names |= {"put_object"} if "generate_presigned_post" in names else set()
    names |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {
        f"{service}:{operation}"
        for service in services
        for operation in SERVICES.get_service_model(service).operation_names
        if xform_name(operation) in names
    }


def _nodes(modules: Iterable[Path]) -> list[ast.AST]:
    return [node for module in modules for node in ast.walk(ast.parse(module.read_text()))]

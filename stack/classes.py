"""The classes of vehicles that a stack tells apart, as the template's parameter `VehicleClasses` lists them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VehicleClass:
    """A vehicle, the loading bay where its drivers go, and the orders they take there: near or far."""

    name: str
    bay: str
    orders: str


def parse_classes(text: str) -> list[VehicleClass]:
    """Return the classes of `bicycle:1:near,motorcycle:2:far`, in the order of the model's answers."""
    return [VehicleClass(*entry.split(":")) for entry in text.split(",")]

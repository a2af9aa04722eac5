"""The vehicle classes of a stack, as the template's parameter `VehicleClasses` lists them."""

from dataclasses import dataclass

NEITHER = "neither"  # the answer where a photo shows no vehicle of any class; also the folder of such labels


@dataclass(frozen=True)
class VehicleClass:
    """A vehicle, the loading bay where its drivers go, and the orders they take there: near or far."""

    name: str
    bay: str
    order_range: str


def parse_classes(text: str) -> dict[str, VehicleClass]:
    """Return the classes of `bicycle:1:near,motorcycle:2:far` by name, in the order of the model's answers."""
    classes = (VehicleClass(*entry.split(":")) for entry in text.split(","))
    return {each.name: each for each in classes}

"""The vehicle classes of a stack, as the template parameter `VehicleClasses` lists them."""

from dataclasses import dataclass

NEITHER = "neither"  # the answer for a photo that shows no vehicle of any class; also the folder for such labels


@dataclass(frozen=True)
class VehicleClass:
    """A vehicle, the loading bay for its drivers, and the orders that they take there: near or far."""

    name: str
    bay: str
    order_range: str


def parse_classes(text: str) -> dict[str, VehicleClass]:
    """Return the classes of `bicycle:1:near,motorcycle:2:far` by name, in the order of the model's scores."""
    classes = (VehicleClass(*entry.split(":")) for entry in text.split(","))
    return {each.name: each for each in classes}

"""An endpoint's monthly cost, known before anything is created."""

from loading_bay.stack.prices import HOURS_A_MONTH, Prices


def monthly(instance_type: str, instances: int) -> float | None:
    """Return the monthly cost (US dollars) of instances that run all the time; None for an unlisted type."""
    hourly = Prices.read().units.get(f"hosting_{instance_type.replace('.', '_')}")
    return None if hourly is None else hourly * HOURS_A_MONTH * instances


def sentence(instance_type: str, least: int, most: int) -> str:
    """Describe the cost of an endpoint, from its minimum to its maximum number of instances."""
    low, high = monthly(instance_type, least), monthly(instance_type, most)
    if low is None or high is None:
        return f"{instance_type} is not in our price list: see https://aws.amazon.com/sagemaker/pricing/"
    span = f"${low:.0f}" if least == most else f"${low:.0f} to ${high:.0f}"
    return f"{least} to {most} × {instance_type} all the time: about {span} a month (us-east-1 list price)"

"""What an endpoint costs a month, before anything is created."""

from loading_bay.stack.prices import HOURS_A_MONTH, Prices


def monthly(instance_type: str, instances: int) -> float | None:
    """Return US dollars per month of instances that run all the time; None for a type that is not listed."""
    hourly = Prices.read().units.get(f"hosting_{instance_type.replace('.', '_')}")
    return None if hourly is None else hourly * HOURS_A_MONTH * instances


def sentence(instance_type: str, least: int, most: int) -> str:
    """Say what an endpoint costs, from its least to its most instances."""
    low, high = monthly(instance_type, least), monthly(instance_type, most)
    if low is None or high is None:
        return f"{instance_type} is not in our price list: see https://aws.amazon.com/sagemaker/pricing/"
    span = f"${low:.0f}" if least == most else f"${low:.0f} to ${high:.0f}"
    return f"{least} to {most} × {instance_type} all the time: about {span} a month (us-east-1 list price)"

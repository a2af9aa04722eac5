"""What an endpoint costs a month, before anything is created."""

# US dollars per hour of SageMaker hosting in us-east-1, from https://aws.amazon.com/sagemaker/pricing/,
# noted in November 2026; other regions differ by up to half.
HOURLY = {
    "ml.t2.medium": 0.056,
    "ml.t2.large": 0.111,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.c5.large": 0.102,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
}
HOURS_PER_MONTH = 730


def monthly(instance_type: str, instances: int) -> float | None:
    """Return US dollars per month of instances that run all the time; None for a type that is not listed."""
    hourly = HOURLY.get(instance_type)
    return None if hourly is None else hourly * HOURS_PER_MONTH * instances


def sentence(instance_type: str, least: int, most: int) -> str:
    """Say what an endpoint costs, from its least to its most instances."""
    low, high = monthly(instance_type, least), monthly(instance_type, most)
    if low is None or high is None:
        return f"{instance_type} is not in our price list: see https://aws.amazon.com/sagemaker/pricing/"
    span = f"${low:.0f}" if least == most else f"${low:.0f} to ${high:.0f}"
    return f"{least} to {most} × {instance_type} all the time: about {span} a month (us-east-1 list price)"

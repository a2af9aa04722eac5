"""The safeguards of an endpoint: alarms, canary updates, scaling."""

from botocore.exceptions import ClientError

from loading_bay.stack.errors import is_missing

from .hosting import VARIANT, Clients, RealTime, alarm_names

CANARY_WAIT_SECONDS = 300
TERMINATION_WAIT_SECONDS = 120
UPDATE_LIMIT_SECONDS = 3600
SCALE_IN_SECONDS = 300
SCALE_OUT_SECONDS = 60
# Microseconds (the unit of ModelLatency) for one call; the pipeline gives up after a few seconds.
LATENCY_LIMIT = 1_000_000
SCALABLE_DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def put_alarms(clients: Clients, endpoint: str) -> None:
    """Create or refresh the two alarms that roll an update back: 5xx answers and slow answers."""
    errors, latency = alarm_names(endpoint)
    common = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": [
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": VARIANT},
        ],
        "Period": 60,
        "EvaluationPeriods": 1,
        "TreatMissingData": "notBreaching",
        "ComparisonOperator": "GreaterThanThreshold",
    }
    clients.cloudwatch.put_metric_alarm(
        AlarmName=errors,
        AlarmDescription=f"Endpoint {endpoint} answered a call with 5xx.",
        MetricName="Invocation5XXErrors",
        Statistic="Sum",
        Threshold=0,
        **common,
    )
    clients.cloudwatch.put_metric_alarm(
        AlarmName=latency,
        AlarmDescription=f"Endpoint {endpoint} took more than a second for one call in twenty.",
        MetricName="ModelLatency",
        ExtendedStatistic="p95",
        Threshold=LATENCY_LIMIT,
        **common,
    )


def canary_request(endpoint: str) -> dict[str, object]:
    """Return the `DeploymentConfig` of a blue/green update: one instance first, the rest after five quiet minutes.

    https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green-canary.html
    """
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
                "WaitIntervalInSeconds": CANARY_WAIT_SECONDS,
            },
            "TerminationWaitInSeconds": TERMINATION_WAIT_SECONDS,
            "MaximumExecutionTimeoutInSeconds": UPDATE_LIMIT_SECONDS,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm} for alarm in alarm_names(endpoint)]},
    }


def put_scaling(clients: Clients, endpoint: str, variant: RealTime) -> None:
    """Keep the calls per minute and instance near the target, within the minimum and maximum number of instances.

    The number of burstable instances stays fixed.
    """
    if is_burstable(variant.instance_type):
        return
    target = scaling_target(endpoint)
    clients.autoscaling.register_scalable_target(**target, MinCapacity=variant.least, MaxCapacity=variant.most)
    clients.autoscaling.put_scaling_policy(
        **target,
        PolicyName=f"{endpoint}-invocations",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": float(variant.calls_per_instance),
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            "ScaleInCooldown": SCALE_IN_SECONDS,
            "ScaleOutCooldown": SCALE_OUT_SECONDS,
        },
    )


def is_burstable(instance_type: str) -> bool:
    """Tell whether an instance type runs on CPU credits: SageMaker does not scale these automatically."""
    return instance_type.startswith(("ml.t2.", "ml.t3."))


def scaling_target(endpoint: str) -> dict[str, str]:
    """Return the name that Application Auto Scaling has for the endpoint's instance count."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
        "ScalableDimension": SCALABLE_DIMENSION,
    }


def deregister_scaling(clients: Clients, endpoint: str) -> bool:
    """Stop scaling an endpoint; return whether it was scaled."""
    try:
        clients.autoscaling.deregister_scalable_target(**scaling_target(endpoint))
    except ClientError as error:
        if is_missing(error):
            return False
        raise
    return True

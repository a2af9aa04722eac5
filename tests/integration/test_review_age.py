"""The age of the oldest photo that needs review is a metric."""

from datetime import UTC, datetime, timedelta

from .bay import Bay, wait_for


def test_the_oldest_waiting_photo_s_age_is_published(bay: Bay) -> None:
    # Given a photo that has needed review for two hours
    waiting_since = int((datetime.now(UTC) - timedelta(hours=2)).timestamp())
    item = {
        "photo": {"S": "s3://bucket/uploads/waiting.jpg#0"},
        "s3_bucket": {"S": "bucket"},
        "s3_key": {"S": "uploads/waiting.jpg"},
        "status": {"S": "REVIEW"},
        "queue": {"S": "REVIEW#7"},
        "due_at": {"N": str(waiting_since)},
    }
    bay.dynamodb.put_item(TableName=bay.table, Item=item)
    cloudwatch = bay.stack.client("cloudwatch")

    bay.sweep()

    def ages() -> list[float]:
        answer = cloudwatch.get_metric_statistics(
            Namespace="LoadingBay/loading-bay",
            MetricName="OldestReviewAge",
            Dimensions=[{"Name": "service", "Value": "loading-bay"}],
            StartTime=datetime.now(UTC) - timedelta(minutes=10),
            EndTime=datetime.now(UTC) + timedelta(minutes=10),
            Period=60,
            Statistics=["Maximum"],
        )
        return [point["Maximum"] for point in answer["Datapoints"]]

    # Then it is two hours, even if an earlier scheduled run published another age
    assert wait_for(lambda: [age for age in ages() if 7200 <= age < 7300])
    bay.dynamodb.delete_item(TableName=bay.table, Key={"photo": item["photo"]})

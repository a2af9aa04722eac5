"""The driver's other photos of the day: those of the same driver, within twelve hours."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from functions.decisions.decision import Decision
from functions.decisions.table import DecisionsTable, UnknownPhoto
from functions.photo.errors import StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NEAR = timedelta(hours=12)
MOST = 4


@dataclass(frozen=True)
class DriversPhotos:
    """The uploads, with one folder per driver below `prefix`, and the decisions about them."""

    s3: "S3Client"
    table: DecisionsTable
    prefix: str

    def beside(self, decision: Decision) -> list[Decision]:
        """Return the decisions about a few other photos of the driver, those nearest in time, in order.

        The search ends after the first thousand photos of the folder.

        Raises:
            StorageUnavailable: S3 did not list the photos.
        """
        if not decision.driver:
            return []
        folder = f"{self.prefix}{decision.driver}/"
        try:
            listed = self.s3.list_objects_v2(Bucket=decision.bucket, Prefix=folder).get("Contents", [])
        except (ClientError, BotoCoreError) as error:
            raise StorageUnavailable(f"S3 did not list the driver's photos: {error}") from error
        nearest = sorted(listed, key=lambda each: abs(each["LastModified"] - _moment(decision)))[: MOST + 1]
        names = [f"s3://{decision.bucket}/{each['Key']}#{each['ETag'].strip(chr(34))}" for each in nearest]
        others = [other for other in self.table.named(names) if self._stands_beside(decision, other)]
        return sorted(others, key=_moment)[:MOST]

    def read(self, photo: str, decision: Decision) -> Decision:
        """Return the decision about one of the driver's other photos of the day.

        Raises:
            UnknownPhoto: it is not one of those photos.
        """
        other = self.table.get(photo)
        if other is None or not self._stands_beside(decision, other):
            raise UnknownPhoto("this is not a photo of the same driver and day")
        return other

    def _stands_beside(self, decision: Decision, other: Decision) -> bool:
        return (
            other.photo != decision.photo
            and other.bucket == decision.bucket
            and other.driver == decision.driver
            and bool(decision.driver)
            and abs(_moment(other) - _moment(decision)) <= NEAR
        )


def _moment(decision: Decision) -> datetime:
    return decision.uploaded_at or decision.claimed_at

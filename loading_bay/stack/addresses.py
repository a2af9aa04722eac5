"""An address in S3: s3://bucket/prefix."""

from dataclasses import dataclass

from .errors import UserError


@dataclass(frozen=True)
class Address:
    """A bucket and a prefix in it."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: str) -> "Address":
        """Read `s3://bucket/prefix`.

        Raises:
            UserError: it is not an S3 address.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket:
            raise UserError(f"{uri} is not an S3 address: write s3://BUCKET/PREFIX")
        return cls(bucket, prefix)

    @property
    def folder(self) -> "Address":
        """The same address as a folder: its prefix is empty or ends with one slash."""
        prefix = self.prefix.rstrip("/")
        return Address(self.bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        """Return the address as an S3 URI."""
        return f"s3://{self.bucket}/{self.prefix}"


def require_separate(upload: str, batch: str) -> None:
    """Check that uploads and batches do not overlap: a batch's photo would be classified when it is uploaded.

    Raises:
        UserError: one of the two prefixes is, holds or lies in the other.
    """
    if upload.startswith(batch) or batch.startswith(upload):
        raise UserError(f"UploadPrefix {upload} and BatchPrefix {batch} overlap: choose two separate prefixes")

"""The bucket from which CloudFormation takes the functions' code: one per account and Region, made when missing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.sessions import AwsError, call, pages
from crr_monitor.aws.stacks import StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_THERE = frozenset({"404", "NoSuchBucket", "NotFound"})
NOT_OURS = frozenset({"403", "AccessDenied"})
ELSEWHERE = frozenset({"301", "PermanentRedirect"})
NOT_EMPTY = "BucketNotEmpty"
TRIES = 5


def bucket_name(account: str, region: str) -> str:
    """The name of the bucket that is made."""
    return f"crr-monitor-artifacts-{account}-{region}"


class Bucket:
    """One bucket of the account. Every method may raise :class:`AwsError`."""

    def __init__(self, client: Any, name: str, account: str, region: str, partition: str = "aws") -> None:  # noqa: ANN401 - where it is
        self._client = client
        self.name = name
        self._account = account
        self._region = region
        self._partition = partition
        self._given = {"Bucket": name, "ExpectedBucketOwner": account}

    def exists(self) -> bool:
        """Whether it is there, in this account and Region.

        Raises:
            StackError: somebody else has it, it is in another Region, or one may not look.
        """
        try:
            told = call(f"s3:HeadBucket of {self.name}", self._client.head_bucket, **self._given)
        except AwsError as error:
            if error.code in NOT_THERE:
                return False
            if error.code in NOT_OURS:
                message = (
                    f"bucket {self.name} belongs to another account, or these credentials may not use it:"
                    " name another one with --artifacts-bucket, or allow s3:ListBucket"
                )
                raise StackError(message) from error
            if error.code in ELSEWHERE:
                raise StackError(self._wrong_region("another Region")) from error
            raise
        place = told.get("BucketRegion") or self._region
        if place != self._region:
            raise StackError(self._wrong_region(place))
        return True

    def _wrong_region(self, place: str) -> str:
        return f"bucket {self.name} is in {place}: code has to be in the stack's own Region, {self._region}"

    def make(self) -> None:
        """Make it, or bring it in order: encrypted, private, versioned, by TLS only. Doing it again changes nothing."""
        if not self.exists():
            # API Reference, "CreateBucket": us-east-1 is what is meant when nothing is said, and cannot be said.
            place = {"LocationConstraint": self._region} if self._region != "us-east-1" else None
            more = {"CreateBucketConfiguration": place} if place else {}
            call(f"s3:CreateBucket {self.name}", self._client.create_bucket, Bucket=self.name, **more)
        private = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        )
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        arn = f"arn:{self._partition}:s3:::{self.name}"
        statement = {
            "Sid": "OnlyEncryptedTransport",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        for operation, settings in (
            ("put_public_access_block", {"PublicAccessBlockConfiguration": private}),
            ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}),
            ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
            ("put_bucket_policy", {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}),
        ):
            function = getattr(self._client, operation)
            call(f"s3:{operation.title().replace('_', '')} of {self.name}", function, **self._given, **settings)

    def put(self, key: str, body: bytes) -> bool:
        """Store an object unless it is there already; whether it was stored. The key has to name the content."""
        try:
            call(f"s3:HeadObject of {key}", self._client.head_object, **self._given, Key=key)
        except AwsError as error:
            # Without the right to list, what is missing answers 403 as well; writing it once more does no harm.
            if error.code not in NOT_THERE | NOT_OURS:
                raise
        else:
            return False
        call(f"s3:PutObject to {self.name}", self._client.put_object, **self._given, Key=key, Body=body)
        return True

    def remove(self, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Empty the bucket, all versions, and delete it; whether it was there.

        A trail writes its last files minutes after it was deleted, so what came in between is removed, too.

        Raises:
            StackError: it does not stay empty, or an object could not be deleted.
        """
        if not self.exists():
            return False
        for _ in range(TRIES):
            for batch in self._versions():
                self._delete(batch)
            try:
                call(f"s3:DeleteBucket {self.name}", self._client.delete_bucket, **self._given)
            except AwsError as error:
                if error.code != NOT_EMPTY:
                    raise
                sleep(2.0)
            else:
                return True
        message = f"bucket {self.name} does not stay empty: something still writes to it; try again in some minutes"
        raise StackError(message)

    def _versions(self) -> Iterator[list[dict[str, str]]]:
        found = pages(f"s3:ListObjectVersions of {self.name}", self._client, "list_object_versions", **self._given)
        for page in found:
            batch = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            ]
            if batch:
                yield batch

    def _delete(self, batch: list[dict[str, str]]) -> None:
        operation = f"s3:DeleteObjects in {self.name}"
        told = call(operation, self._client.delete_objects, **self._given, Delete={"Objects": batch, "Quiet": True})
        for error in told.get("Errors", []):
            message = f"bucket {self.name}: {error['Key']} could not be deleted: {error.get('Message', error['Code'])}"
            raise StackError(message)

"""The bucket from which CloudFormation takes code and templates: one per account and Region, made when missing."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.sessions import AwsError, call, pages
from crr_monitor.aws.stacks import STORED_TEMPLATE_BYTES, StackError, StoredTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOT_THERE = frozenset({"404", "NoSuchBucket", "NotFound"})
NOT_OURS = frozenset({"403", "AccessDenied"})
ELSEWHERE = frozenset({"301", "PermanentRedirect"})
NOT_EMPTY = "BucketNotEmpty"
NO_POLICY = "NoSuchBucketPolicy"
READERS = "AgentsIn"
"""With an organization's id behind it, the name of the statement that lets its accounts read."""
TRIES = 5


def template_key(template: str) -> str:
    """The key of a template: it names the content, as the key of the functions' code does."""
    return f"crr-monitor-{hashlib.sha256(template.encode()).hexdigest()[:32]}.template"


def bucket_name(account: str, region: str) -> str:
    """The name of the bucket that is made."""
    return f"crr-monitor-artifacts-{account}-{region}"


def reading(partition: str, bucket: str, organization: str) -> dict[str, Any]:
    """The statement of a bucket's policy that lets all accounts of an organization read the code.

    It does not make the bucket public (S3 User Guide, "The meaning of public": a fixed ``aws:PrincipalOrgID``).
    """
    return {
        "Sid": READERS + organization.replace("-", ""),
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:{partition}:s3:::{bucket}/crr-monitor-*",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": organization}},
    }


class Bucket:
    """One bucket of the account. Every method may raise :class:`AwsError`."""

    def __init__(self, client: Any, name: str, account: str, region: str, partition: str = "aws") -> None:  # noqa: ANN401 - where it is
        self._client = client
        self.name = name
        self._account = account
        self._region = region
        self.partition = partition
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

    def make(self, organization: str = "") -> None:
        """Make it, or bring it in order: encrypted, private, versioned, by TLS only. Doing it again changes nothing.

        All accounts of an ``organization`` may read what is in it, so that its agents have their code from there. That
        stays allowed when another stack without an organization has its code there, too.
        """
        if not self.exists():
            # API Reference, "CreateBucket": us-east-1 is what is meant when nothing is said, and cannot be said.
            place = {"LocationConstraint": self._region} if self._region != "us-east-1" else None
            more = {"CreateBucketConfiguration": place} if place else {}
            call(f"s3:CreateBucket {self.name}", self._client.create_bucket, Bucket=self.name, **more)
        private = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        )
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        arn = f"arn:{self.partition}:s3:::{self.name}"
        statement = {
            "Sid": "OnlyEncryptedTransport",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        statements = [statement, *self._readers(organization)]
        for operation, settings in (
            ("put_public_access_block", {"PublicAccessBlockConfiguration": private}),
            ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}),
            ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Enabled"}}),
            ("put_bucket_policy", {"Policy": json.dumps({"Version": "2012-10-17", "Statement": statements})}),
        ):
            function = getattr(self._client, operation)
            call(f"s3:{operation.title().replace('_', '')} of {self.name}", function, **self._given, **settings)

    def _readers(self, organization: str) -> list[dict[str, Any]]:
        """The statements that let organizations read: those that are there, and that of one more."""
        try:
            told = call(f"s3:GetBucketPolicy of {self.name}", self._client.get_bucket_policy, **self._given)
        except AwsError as error:
            if error.code != NO_POLICY:
                raise
            told = {"Policy": '{"Statement": []}'}
        known = {
            each["Sid"]: each for each in json.loads(told["Policy"])["Statement"] if READERS in each.get("Sid", "")
        }
        if organization:
            statement = reading(self.partition, self.name, organization)
            known[statement["Sid"]] = statement
        return list(known.values())

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

    def put_template(self, template: str) -> tuple[StoredTemplate, bool]:
        """Store a template; where CloudFormation finds it, and whether it was not there before.

        Raises:
            StackError: it is longer than CloudFormation takes.
        """
        body, key = template.encode(), template_key(template)
        if len(body) > STORED_TEMPLATE_BYTES:
            message = (
                f"the template has {len(body):,} bytes, and CloudFormation takes at most {STORED_TEMPLATE_BYTES:,}"
            )
            raise StackError(message)
        new = self.put(key, body)
        return StoredTemplate(self.address(key)), new

    def address(self, key: str) -> str:
        """The URL of an object.

        The service's own address with the bucket in its path, as "aws cloudformation package" writes it: right in every
        partition, and at an endpoint of one's own.
        """
        return f"{self._client.meta.endpoint_url}/{self.name}/{key}"

    def take_back(self, key: str) -> None:
        """Remove an object, with all its versions.

        Raises:
            StackError: it could not be deleted.
        """
        for batch in self._versions(Prefix=key):
            self._delete(batch)

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

    def _versions(self, **more: str) -> Iterator[list[dict[str, str]]]:
        operation = f"s3:ListObjectVersions of {self.name}"
        found = pages(operation, self._client, "list_object_versions", **self._given, **more)
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

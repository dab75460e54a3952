"""SSE-KMS without a key means the account's AWS managed key; the emulator refuses it.

S3 User Guide, "Using server-side encryption with AWS KMS keys": without a key id, S3 uses ``aws/s3``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import points, storage

if TYPE_CHECKING:
    from collections.abc import Callable

_responses = points.module("core.responses")

_ALGORITHM = "x-amz-server-side-encryption"
_KEY = "x-amz-server-side-encryption-aws-kms-key-id"


def with_managed_key(old: Callable[[dict[str, str], str], Any]) -> Callable[[dict[str, str], str], Any]:
    """The headers of a write, with the managed key where it names none."""

    def resolve(headers: dict[str, str], bucket_name: str) -> Any:  # noqa: ANN401 - headers or an error
        if headers.get(_ALGORITHM) == "aws:kms" and not headers.get(_KEY):
            place = f"{storage.region(bucket_name)}:{_responses.get_account_id()}"
            headers = {**headers, _KEY: f"arn:aws:kms:{place}:alias/aws/s3"}
        return old(headers, bucket_name)

    return resolve

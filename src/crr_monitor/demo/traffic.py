"""The traffic: puts, multipart uploads, copies and delete markers at a modest rate, with keys of every kind."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

from crr_monitor.aws.sessions import call
from crr_monitor.demo.scenario import BUCKETS, PREFIXES
from crr_monitor.demo.truth import Written, written

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = (
    "report.pdf",
    "a b+c é.txt",
    "100% sure.csv",
    "日本語/写真.jpg",
    "quote\"s 'n' more",
    "<xml>&amp;.xml",
    "back\\slash",
    "?query=1&b=#frag",
    "double//slash",
    "tab\there",
    "%2B%25.bin",
    "e\u0301 and é",
    "trailing space ",
)
"""Ends of keys that something on the way might not take as they are."""

KINDS = ("put",) * 14 + ("multipart", "copy", "mark", "mark")
"""What is done, in these shares."""

FIRST = (
    ("orders", "invoices/"),
    ("photos", "partner/"),
    ("logs", "web/"),
    ("orders", "baskets/"),
    ("photos", "holiday/"),
    ("logs", "api/"),
)
"""What is put first, so that also a short demo has something of everything."""

COPIED = 50
"""What is copied or deleted is one of so many objects that were written last."""


class Traffic:
    """Writes one version after another, and keeps what it wrote.

    ``client`` gives the S3 client of an account and Region. Every :meth:`write` is one call by somebody, and may raise
    :class:`crr_monitor.aws.sessions.AwsError`.
    """

    def __init__(self, client: Callable[[str, str], Any], seed: int) -> None:
        self._client = client
        self._dice = random.Random(seed)  # noqa: S311 - repeatable, not unpredictable
        self._lock = threading.Lock()
        self._versions: list[Written] = []
        self._puts: dict[str, list[str]] = {bucket: [] for bucket in PREFIXES}

    @property
    def versions(self) -> list[Written]:
        """Everything written so far."""
        with self._lock:
            return list(self._versions)

    @property
    def count(self) -> int:
        """How many versions were written so far."""
        with self._lock:
            return len(self._versions)

    def write(self) -> Written:
        """Write one version, whatever comes up."""
        number = self.count
        if number < len(FIRST):
            kind, (bucket, prefix) = "put", FIRST[number]
        else:
            kind, bucket = self._dice.choice(KINDS), self._dice.choice(list(PREFIXES))
            prefix = self._dice.choice(PREFIXES[bucket])
        key = f"{prefix}{number:05}-{NAMES[number % len(NAMES)]}"
        client = self._client(BUCKETS[bucket].account, BUCKETS[bucket].region)
        puts = self._puts[bucket][-COPIED:]
        if kind == "mark" and puts:
            version = self._mark(client, bucket, self._dice.choice(puts))
        elif kind == "copy" and puts:
            version = self._copy(client, bucket, key, self._dice.choice(puts))
        elif kind == "multipart":
            version = self._multipart(client, bucket, key)
        else:
            version = self._put(client, bucket, key)
        with self._lock:
            self._versions.append(version)
        return version

    def _put(self, client: Any, bucket: str, key: str) -> Written:  # noqa: ANN401 - boto3 makes its classes at run time
        told = call("s3:PutObject", client.put_object, Bucket=bucket, Key=key, Body=self._body())
        self._puts[bucket].append(key)
        return written(bucket, key, told["VersionId"])

    def _copy(self, client: Any, bucket: str, key: str, source: str) -> Written:  # noqa: ANN401
        place = {"Bucket": bucket, "Key": source}
        told = call("s3:CopyObject", client.copy_object, Bucket=bucket, Key=key, CopySource=place)
        return written(bucket, key, told["VersionId"])

    def _mark(self, client: Any, bucket: str, key: str) -> Written:  # noqa: ANN401
        told = call("s3:DeleteObject", client.delete_object, Bucket=bucket, Key=key)
        self._puts[bucket].remove(key)
        return written(bucket, key, told["VersionId"], marker=True)

    def _multipart(self, client: Any, bucket: str, key: str) -> Written:  # noqa: ANN401
        named = {"Bucket": bucket, "Key": key}
        upload = call("s3:CreateMultipartUpload", client.create_multipart_upload, **named)["UploadId"]
        part = call("s3:UploadPart", client.upload_part, **named, UploadId=upload, PartNumber=1, Body=self._body())
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        finish = client.complete_multipart_upload
        told = call("s3:CompleteMultipartUpload", finish, **named, UploadId=upload, MultipartUpload=parts)
        return written(bucket, key, told["VersionId"])

    def _body(self) -> bytes:
        return self._dice.randbytes(self._dice.randrange(1, 4096))

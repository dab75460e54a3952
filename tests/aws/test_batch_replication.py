"""Orders of batch jobs, their shell commands, and the reading of completion reports, whatever is in them."""

from __future__ import annotations

import csv
import importlib
import io
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crr_monitor.aws.batch_replication import (
    JOINED_LINES,
    Job,
    Location,
    Order,
    follow,
    open_report,
    parse_location,
    read_report,
    rows,
)
from crr_monitor.aws.sessions import AwsError
from crr_monitor.core.batch_report import Outcome
from crr_monitor.core.times import parse_time
from tests.aws.making import HOME, HUB, make_bucket, sessions

if TYPE_CHECKING:
    from pathlib import Path

    from crr_monitor.sandbox import Sandbox

ORDER = Order(
    HUB,
    HOME,
    f"arn:aws:iam::{HUB}:role/batch",
    Location("work", "a b/c"),
    "orders.DstBucketNotFound.01234567.retry",
    "0" * 32,
    "1" * 64,
)
WRITTEN_AT = "2026-11-22T09:00:00.125Z"
DONE = Outcome("orders", "a", "v1", "completed")


def put(sandbox: Sandbox, bucket: str, **files: bytes | str) -> Any:  # noqa: ANN401 - boto3's client
    """A bucket with a report in it; gives its owner's client."""
    make_bucket(sandbox, bucket)
    s3 = sessions(sandbox).client("s3", HOME)
    for name, body in files.items():
        s3.put_object(Bucket=bucket, Key=f"job-1/{name}", Body=body)
    return s3


def manifest(bucket: str, *files: str, **more: Any) -> str:  # noqa: ANN401 - any field
    """A report's manifest, as AWS writes it."""
    results = [{"TaskExecutionStatus": "failed", "Bucket": bucket, "Key": f"job-1/{name}"} for name in files]
    return json.dumps({"Format": "Report_CSV_20180820", "ReportCreationDate": WRITTEN_AT, "Results": results, **more})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://work", Location("work", "")),
        ("s3://work/a/b/", Location("work", "a/b/")),
        ("work/a", None),
        ("s3://", None),
        ("https://work/a", None),
    ],
)
def test_location(text: str, expected: Location | None) -> None:
    """``s3://bucket/prefix`` names a place, and nothing else does."""
    assert parse_location(text) == expected


def test_below_a_location() -> None:
    """Names are joined by one slash, and none begins with one."""
    assert str(Location("work", "a/").below("b")) == str(Location("work", "a").below("b")) == "s3://work/a/b"
    assert str(Location("work", "").below("b")) == "s3://work/b"


@pytest.mark.parametrize(
    "changed",
    [
        replace(ORDER, sha256="2" * 64),
        replace(ORDER, role_arn=f"arn:aws:iam::{HUB}:role/other"),
        replace(ORDER, work=Location("work", "other")),
        replace(ORDER, region="eu-west-1"),
        replace(ORDER, attempt=1),
    ],
)
def test_another_order_is_another_job(changed: Order) -> None:
    """Another manifest, role, place or attempt has another token, the same order the same; S3 takes 64 characters."""
    assert changed.token != ORDER.token
    assert replace(ORDER).token == ORDER.token
    assert len(ORDER.token) == 64


def test_attempts_are_about_the_same() -> None:
    """What an order is about does not change with its attempts."""
    assert replace(ORDER, attempt=3).subject == ORDER.subject


def test_commands_say_what_the_request_says(tmp_path: Path) -> None:
    """The shell reads from the commands what boto3 would send, however odd a path is."""
    path = tmp_path / "it's $HOME `x`.csv"
    put_object, create_job = (shlex.split(line) for line in ORDER.commands(path))
    request = ORDER.request()
    assert put_object[:3] == ["aws", "s3api", "put-object"]
    stored = _pairs(put_object[3:])
    assert stored["--body"] == str(path)
    place = f"arn:aws:s3:::{stored['--bucket']}/{stored['--key']}"
    assert place == request["Manifest"]["Location"]["ObjectArn"]
    options = _pairs([each for each in create_job[3:] if each != "--no-confirmation-required"])
    assert json.loads(options["--operation"]) == request["Operation"]
    assert json.loads(options["--manifest"]) == request["Manifest"]
    assert json.loads(options["--report"]) == request["Report"]
    assert options["--role-arn"] == request["RoleArn"]
    assert options["--client-request-token"] == request["ClientRequestToken"]
    assert options["--region"] == HOME
    assert options["--account-id"] == HUB


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_partition_follows_from_the_region() -> None:
    """ARNs in China have China's partition."""
    request = replace(ORDER, region="cn-north-1").request()
    assert request["Report"]["Bucket"] == "arn:aws-cn:s3:::work"
    assert request["Manifest"]["Location"]["ObjectArn"].startswith("arn:aws-cn:s3:::work/a b/c/manifests/")


def test_following_tells_changes_only() -> None:
    """A job is told when it has changed; pauses grow up to a limit, and the end is waited for."""
    states = ["New", "Active", "Active", *["Active"] * 30, "Complete"]
    told: list[Job] = []
    slept: list[float] = []

    class Control:
        def describe_job(self, **_: str) -> dict[str, Any]:
            return {"Job": {"Status": states.pop(0)}}

    assert follow(Control(), HUB, "1", told.append, slept.append).status == "Complete"
    assert [job.status for job in told] == ["New", "Active", "Complete"]
    assert slept == sorted(slept)
    assert slept[-1] == 20.0


def unknown_job(times: int) -> Any:  # noqa: ANN401 - S3 Control's client
    """S3 Control does not know the job so many times, and then it is complete."""
    refused: Any = importlib.import_module("botocore.exceptions").ClientError

    class Control:
        left = times

        def describe_job(self, **_: str) -> dict[str, Any]:
            self.left -= 1
            if self.left >= 0:
                raise refused({"Error": {"Code": "NoSuchJob", "Message": "no"}}, "DescribeJob")
            return {"Job": {"Status": "Complete"}}

    return Control()


def test_new_job_may_not_be_known_yet() -> None:
    """Right after it was made a job may not be found; that it is never found is an error."""
    told: list[Job] = []
    assert follow(unknown_job(3), HUB, "1", told.append, lambda _: None).status == "Complete"
    assert [job.status for job in told] == ["New", "Complete"]
    with pytest.raises(AwsError, match="NoSuchJob"):
        follow(unknown_job(1_000), HUB, "1", told.append, lambda _: None)


# ---- reports


@given(st.lists(st.lists(st.text(), min_size=2), min_size=1))
def test_rows_are_those_of_a_csv_file(table: list[list[str]]) -> None:
    """What a CSV writer wrote is read back, with quotes and with line ends within cells."""
    clean = [[cell.replace("\r", "\n") for cell in row] for row in table]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(clean)
    lines = text.getvalue().removesuffix("\n").split("\n")
    if all(sum(cell.count("\n") for cell in row) < JOINED_LINES for row in clean):
        assert list(rows(lines)) == clean


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]))))
def test_rows_of_anything_end(lines: list[str]) -> None:
    """Whatever the lines are, reading ends, and gives no more records than there are lines."""
    assert len(list(rows(lines))) <= len(lines)


def test_unclosed_quote_costs_one_line() -> None:
    """A quote that is never closed spoils its own line; all lines after it are read."""
    good = [f"orders,a{number},v" for number in range(2 * JOINED_LINES)]
    assert list(rows(['orders,"a,v', *good])) == [None, *(line.split(",") for line in good)]
    assert list(rows([*good, 'orders,"a,v'])) == [*(line.split(",") for line in good), None]


def test_report_is_read(sandbox: Sandbox) -> None:
    """All files of a report are read in turn, and lines that cannot be are given as such."""
    first = b'orders,a,v1,succeeded,,200,"Success\nful"\nnonsense\n\xff,\xff,\xff,succeeded\n'
    second = "orders,b%20c+d,v2,failed,DstBucketNotFound,404,\n"
    s3 = put(sandbox, "reports", one=first, two=second, **{"manifest.json": manifest("reports", "one", "two")})
    report = open_report(s3, Location("reports", "job-1"))
    assert report.written_at == parse_time(WRITTEN_AT)[0]
    told = list(read_report(s3, report))
    assert told == [DONE, None, None, Outcome("orders", "b c d", "v2", "failed", "DstBucketNotFound")]


def test_report_without_its_time(sandbox: Sandbox) -> None:
    """Where the manifest tells no time, S3's own time of the manifest stands for it."""
    text = manifest("untimed", ReportCreationDate="yesterday")
    s3 = put(sandbox, "untimed", **{"manifest.json": text})
    written = s3.head_object(Bucket="untimed", Key="job-1/manifest.json")["LastModified"]
    report = open_report(s3, Location("untimed", "job-1/manifest.json"))
    assert report.written_at == int(written.timestamp() * 1_000)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Results": 7}', '{"Results": [{"Bucket": "b"}]}', "a,b"])
def test_no_report(text: str, sandbox: Sandbox) -> None:
    """Something else at that place is told as such, with what to name."""
    s3 = put(sandbox, "other", **{"manifest.json": text})
    with pytest.raises(AwsError, match=r"no completion report of S3 Batch Operations: name its manifest\.json"):
        open_report(s3, Location("other", "job-1"))


def test_missing_report(sandbox: Sandbox) -> None:
    """A place where nothing lies is told with S3's own code."""
    s3 = put(sandbox, "empty")
    with pytest.raises(AwsError) as caught:
        open_report(s3, Location("empty", "job-2"))
    assert caught.value.code == "NoSuchKey"

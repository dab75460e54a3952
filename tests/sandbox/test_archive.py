"""Firehose and Athena in the sandbox: what is collected, converted and refused; partitions and views as in AWS."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from crr_monitor.sandbox import Sandbox, SandboxError, Settings
from tests.sandbox.making import EAST, HOME, World

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = [
    {"Name": "key", "Type": "string"},
    {"Name": "size", "Type": "bigint"},
    {"Name": "written", "Type": "timestamp"},
]
PARTS = [{"Name": "day", "Type": "string"}, {"Name": "hour", "Type": "string"}]
PROJECTION = {
    "projection.enabled": "true",
    "projection.day.type": "date",
    "projection.day.format": "yyyy-MM-dd",
    "projection.day.range": "2026-01-01,NOW+1DAYS",
    "projection.hour.type": "integer",
    "projection.hour.range": "0,23",
    "projection.hour.digits": "2",
}
PARQUET = "org.apache.hadoop.hive.ql.io.parquet"
DELIVERY = "arn:aws:iam::111122223333:role/delivery"


class Archive:
    """A database with a table, a stream that feeds it, and a work group to ask it."""

    def __init__(self, world: World) -> None:
        self.sandbox = world.sandbox
        self.bucket = world.bucket("archive", versioned=False)
        self.name = self.bucket.replace("-", "_")
        self.s3 = world.s3()
        self.glue = self.sandbox.client("glue", HOME, EAST)
        self.athena = self.sandbox.client("athena", HOME, EAST)
        self.firehose = self.sandbox.client("firehose", HOME, EAST)
        self.glue.create_database(DatabaseInput={"Name": self.name})
        answers = {"ResultConfiguration": {"OutputLocation": f"s3://{self.bucket}/answers/"}}
        self.athena.create_work_group(Name=self.name, Configuration=answers)

    def table(self, name: str = "rows", **parameters: str) -> None:
        """A table of Parquet files by day and hour."""
        storage = {
            "Columns": COLUMNS,
            "Location": f"s3://{self.bucket}/rows/",
            "InputFormat": f"{PARQUET}.MapredParquetInputFormat",
            "OutputFormat": f"{PARQUET}.MapredParquetOutputFormat",
            "SerdeInfo": {"SerializationLibrary": f"{PARQUET}.serde.ParquetHiveSerDe"},
        }
        table = {"Name": name, "StorageDescriptor": storage, "PartitionKeys": PARTS, "Parameters": parameters}
        self.glue.create_table(DatabaseName=self.name, TableInput=table)

    def view(self, name: str, sql: str, *columns: str, schema: str | None = None) -> None:
        """A view in the form in which Athena keeps one."""
        said = {
            "originalSql": sql,
            "catalog": "awsdatacatalog",
            "schema": schema or self.name,
            "columns": [{"name": column, "type": "varchar"} for column in columns],
        }
        text = base64.b64encode(json.dumps(said).encode()).decode()
        view = {
            "Name": name,
            "TableType": "VIRTUAL_VIEW",
            "ViewOriginalText": f"/* Presto View: {text} */",
            "StorageDescriptor": {"Columns": [{"Name": column, "Type": "string"} for column in columns]},
        }
        self.glue.create_table(DatabaseName=self.name, TableInput=view)

    def stream(self, role: str = DELIVERY) -> None:
        """A delivery stream into the table."""
        schema = {"DatabaseName": self.name, "TableName": "rows", "RoleARN": role, "Region": EAST}
        self.firehose.create_delivery_stream(
            DeliveryStreamName=self.name,
            ExtendedS3DestinationConfiguration={
                "RoleARN": role,
                "BucketARN": f"arn:aws:s3:::{self.bucket}",
                "Prefix": "rows/day=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/",
                "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
                "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 900},
                "DataFormatConversionConfiguration": {
                    "Enabled": True,
                    "SchemaConfiguration": schema,
                    "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
                    "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
                },
            },
        )

    def put(self, *records: bytes) -> Any:  # noqa: ANN401 - boto3's answer
        """Send records in one call."""
        given = [{"Data": record} for record in records]
        return self.firehose.put_record_batch(DeliveryStreamName=self.name, Records=given)

    def files(self, prefix: str) -> list[str]:
        """What lies below a prefix."""
        return [each["Key"] for each in self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])]

    def ask(self, sql: str) -> list[list[str]]:
        """What Athena answers, without the heading."""
        context = {"Database": self.name}
        started = self.athena.start_query_execution(QueryString=sql, WorkGroup=self.name, QueryExecutionContext=context)
        query = started["QueryExecutionId"]
        while True:
            status = self.athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["Status"]
            if status["State"] == "FAILED":
                raise LookupError(status["StateChangeReason"])
            if status["State"] == "SUCCEEDED":
                break
            time.sleep(0.01)
        rows = self.athena.get_query_results(QueryExecutionId=query)["ResultSet"]["Rows"]
        return [[cell.get("VarCharValue", "") for cell in row["Data"]] for row in rows[1:]]


@pytest.fixture
def archive(world: World) -> Iterator[Archive]:
    """An archive of its own for each test."""
    made = Archive(world)
    yield made
    made.glue.delete_database(Name=made.name)


def row(number: int) -> bytes:
    """A row as JSON, with a time in the form that the OpenX SerDe takes."""
    return (
        json.dumps({"key": f"k{number}", "size": number, "written": f"2026-11-22T07:00:00.{number:03}Z"}).encode()
        + b"\n"
    )


def test_records_become_one_object(archive: Archive) -> None:
    """Records of several calls, some with several rows in them, become one Parquet object that Athena reads."""
    archive.table(**PROJECTION)
    archive.stream()
    archive.put(row(1) + row(2), row(3))
    archive.put(row(4))
    archive.sandbox.settle()
    (name,) = archive.files("rows/")
    today = time.strftime("rows/day=%Y-%m-%d/hour=", time.gmtime())
    assert name.startswith(today)
    assert archive.ask("SELECT key, size, written FROM rows ORDER BY key") == [
        [f"k{number}", str(number), f"2026-11-22 07:00:00.{number:03}000"] for number in (1, 2, 3, 4)
    ]


def test_what_does_not_fit_is_put_aside(archive: Archive) -> None:
    """A record that does not fit the columns goes to the error prefix with its reason, the others into the table."""
    archive.table(**PROJECTION)
    archive.stream()
    archive.put(row(1), b'{"key": "k2", "size": "much"}\n', b"no JSON\n")
    archive.sandbox.settle()
    names = archive.files("errors/format-conversion-failed/")
    told = [json.load(archive.s3.get_object(Bucket=archive.bucket, Key=name)["Body"]) for name in names]
    assert {base64.b64decode(each["rawData"]) for each in told} == {
        b'{"key": "k2", "size": "much"}\n',
        b"no JSON\n",
    }
    assert archive.ask("SELECT key FROM rows") == [["k1"]]


def test_a_part_of_a_call_is_refused(archive: Archive) -> None:
    """A fault refuses records in their places; what is taken is delivered."""
    archive.table(**PROJECTION)
    archive.stream()
    archive.sandbox.fault("refuse", times=1)
    answer = archive.put(row(1), row(2))
    assert answer["FailedPutCount"] == 1
    assert [each.get("ErrorCode") for each in answer["RequestResponses"]] == ["ServiceUnavailableException", None]
    archive.sandbox.settle()
    assert archive.ask("SELECT key FROM rows") == [["k2"]]


def test_too_much_for_a_call(archive: Archive) -> None:
    """A call of more than 4 MiB is refused as a whole."""
    archive.table(**PROJECTION)
    archive.stream()
    with pytest.raises(archive.firehose.exceptions.ClientError, match="4 MB"):
        archive.put(*[b"x" * 900_000] * 5)


def test_only_registered_partitions_are_seen(archive: Archive) -> None:
    """Without projection a file is seen once its partition is registered; with it, when the properties give it."""
    archive.table()
    archive.table("projected", **PROJECTION)
    archive.table("later", **(PROJECTION | {"projection.day.range": "NOW+1DAYS,NOW+9DAYS"}))
    archive.table("unpadded", **{name: value for name, value in PROJECTION.items() if not name.endswith("digits")})
    archive.stream()
    archive.put(row(1))
    archive.sandbox.settle()
    (name,) = archive.files("rows/")
    archive.s3.copy_object(
        Bucket=archive.bucket, Key="rows/day=2026-01-02/hour=03/a", CopySource={"Bucket": archive.bucket, "Key": name}
    )
    archive.s3.delete_object(Bucket=archive.bucket, Key=name)
    counts = {
        table: archive.ask(f"SELECT count(*) FROM {table}")  # noqa: S608 - our names
        for table in ("rows", "projected", "later", "unpadded")
    }
    assert counts == {"rows": [["0"]], "projected": [["1"]], "later": [["0"]], "unpadded": [["0"]]}
    storage = {"Columns": COLUMNS, "Location": f"s3://{archive.bucket}/rows/day=2026-01-02/hour=03/"}
    archive.glue.create_partition(
        DatabaseName=archive.name,
        TableName="rows",
        PartitionInput={"Values": ["2026-01-02", "03"], "StorageDescriptor": storage},
    )
    assert archive.ask("SELECT day, hour FROM rows") == [["2026-01-02", "03"]]


def test_views(archive: Archive) -> None:
    """A view stands for its query, whatever it is called in the one that asks; a broken one is refused."""
    archive.table(**PROJECTION)
    archive.stream()
    archive.put(row(1), row(2))
    archive.sandbox.settle()
    archive.view("large", "SELECT key FROM rows WHERE size > 1", "key")
    assert archive.ask("SELECT key FROM large") == archive.ask("SELECT l.key FROM large AS l") == [["k2"]]
    assert archive.ask("WITH large AS (SELECT 1 AS one) SELECT one FROM large") == [["1"]]
    archive.view("stale", "SELECT key FROM rows", "key", schema="elsewhere")
    with pytest.raises(LookupError, match="view stale is stale or in invalid state"):
        archive.ask("SELECT * FROM stale")


def test_the_role_has_to_be_allowed() -> None:
    """A stream whose role lacks a permission delivers nothing, and whoever waits is told which."""
    with Sandbox(Settings(seed=1)) as sandbox:
        refused(Archive(World(sandbox)))


def refused(archive: Archive) -> None:
    """Deliver with a role that may use S3, and nothing else."""
    iam = archive.sandbox.client("iam", HOME, EAST)
    trust = {"Effect": "Allow", "Principal": {"Service": "firehose.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="delivery", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
    policy = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}
    iam.put_role_policy(RoleName="delivery", PolicyName="p", PolicyDocument=json.dumps({"Statement": [policy]}))
    archive.table(**PROJECTION)
    archive.stream()
    archive.put(row(1))
    with pytest.raises(SandboxError, match="may not glue:GetTableVersions on"):
        archive.sandbox.settle()
    assert archive.files("") == []

"""The archive in the hub's template: columns, view and queries are those of the code, and all of it is optional."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from crr_monitor import templates
from crr_monitor.core.times import SECOND_MS
from crr_monitor.history import athena
from crr_monitor.history.queries import QUERIES
from crr_monitor.history.schema import COVERAGE_FOLDER, PARTITIONS, TABLE, VIEW, glue_columns, glue_partitions
from crr_monitor.history.views import last_word
from crr_monitor.sinks.coverage import STANDS_MS
from tools import permissions, saved_queries

HUB = permissions.load(templates.text(templates.HUB))
RESOURCES = HUB["Resources"]
ARCHIVE = {name: each for name, each in RESOURCES.items() if each.get("Condition") == "Archives"}
STREAM = RESOURCES["ArchiveStream"]["Properties"]
DESTINATION = STREAM["ExtendedS3DestinationConfiguration"]
SERVICES = ("s3", "firehose", "athena", "glue")
PRESTO = {"string": "varchar"}
"""Types that Athena's SQL calls otherwise than Hive."""


def table(name: str) -> dict[str, Any]:
    """What a table of the template is made from."""
    made: dict[str, Any] = RESOURCES[name]["Properties"]["TableInput"]
    return made


def named(columns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Names and types of columns."""
    return [{"Name": column["Name"], "Type": column["Type"]} for column in columns]


def test_table() -> None:
    """The table has the archive's columns and partitions under its name, and Athena works out the partitions."""
    made = table("ArchiveTable")
    assert made["Name"] == TABLE
    assert named(made["StorageDescriptor"]["Columns"]) == glue_columns()
    assert named(made["PartitionKeys"]) == glue_partitions()
    projection = {name: value for name, value in made["Parameters"].items() if name.startswith("projection.")}
    assert projection == {
        "projection.enabled": "true",
        "projection.day.type": "date",
        "projection.day.format": "yyyy-MM-dd",
        "projection.day.range": {"Fn::Sub": "${ArchiveSince},NOW+1DAYS"},
        "projection.hour.type": "integer",
        "projection.hour.range": "0,23",
        "projection.hour.digits": "2",
    }
    folders = "/".join(f"{column.name}=${{!{column.name}}}" for column in PARTITIONS)
    place = made["StorageDescriptor"]["Location"]["Fn::Sub"]
    assert made["Parameters"]["storage.location.template"] == {"Fn::Sub": f"{place}{folders}/"}
    assert not [each for each in RESOURCES.values() if each["Type"] == "AWS::Glue::Crawler"]


def test_files_lie_where_the_table_looks() -> None:
    """Firehose files rows by day and hour of arrival below the table's place, and errors beside it."""
    place = table("ArchiveTable")["StorageDescriptor"]["Location"]["Fn::Sub"]
    patterns = zip(PARTITIONS, ("yyyy-MM-dd", "HH"), strict=True)
    folders = "/".join(f"{column.name}=!{{timestamp:{pattern}}}" for column, pattern in patterns)
    below = place.removeprefix("s3://${ArchiveBucket}/")
    assert DESTINATION["Prefix"]["Fn::Sub"] == f"{below}{folders}/"
    errors = DESTINATION["ErrorOutputPrefix"]["Fn::Sub"]
    answers = RESOURCES["ArchiveWorkGroup"]["Properties"]["WorkGroupConfiguration"]["ResultConfiguration"]
    assert not errors.startswith(below)
    assert not answers["OutputLocation"]["Fn::Sub"].startswith(place)


def test_view() -> None:
    """The view gives the last word by the same SQL as elsewhere, in the form in which Athena keeps views."""
    made = table("ArchiveView")
    text, given = made["ViewOriginalText"]["Fn::Sub"]
    assert (made["Name"], made["TableType"], text) == (VIEW, "VIRTUAL_VIEW", "/* Presto View: ${Text} */")
    assert made["ViewExpandedText"] == "/* Presto View */"
    # Trino knows a view by this comment, and takes a description for the comment.
    assert (made["Parameters"], "Description" in made) == ({"presto_view": "true", "comment": "Presto View"}, False)
    said = json.loads(given["Text"]["Fn::Base64"]["Fn::Sub"])
    assert said.pop("columns") == [
        {"name": each["Name"], "type": PRESTO.get(each["Type"], each["Type"])} for each in glue_columns()
    ]
    assert said == {"originalSql": last_word(), "catalog": "awsdatacatalog", "schema": "${ArchiveDatabase}"}
    assert made["StorageDescriptor"]["Columns"] == glue_columns()


def test_queries() -> None:
    """Every shipped query is saved in the work group, with the text and the words of the code."""
    saved = [each["Properties"] for each in RESOURCES.values() if each["Type"] == "AWS::Athena::NamedQuery"]
    assert {each["Name"]: (each["QueryString"], each["Description"]) for each in saved} == {
        name: (query.saved, query.answers) for name, query in QUERIES.items()
    }
    place = {"WorkGroup": {"Ref": "ArchiveWorkGroup"}, "Database": {"Ref": "ArchiveDatabase"}}
    assert all(place.items() <= each.items() for each in saved)


def test_sql_of_the_template_is_made() -> None:
    """The tool finds every query and the view, and puts back whatever somebody changed in their text."""
    text = templates.text(templates.HUB)
    assert [*saved_queries.saved(text)] == [*QUERIES]
    changed = text.replace("row_number() OVER", "rank() OVER").replace("LIMIT 100", "LIMIT 99")
    assert changed.count("rank() OVER") == len(QUERIES) + 1
    assert saved_queries.renewed(changed) == text


def test_names() -> None:
    """Work group and database have the names by which the command finds them."""
    group = RESOURCES["ArchiveWorkGroup"]["Properties"]["Name"]["Fn::Sub"][0]
    database = RESOURCES["ArchiveDatabase"]["Properties"]["DatabaseInput"]["Name"]["Fn::Sub"][0]
    assert group == athena.WORKGROUPS + "${Token}"
    assert athena.database_of(group) == database


def test_answers_are_limited_and_encrypted() -> None:
    """A query cannot read more than the limit, whatever its caller asks for, and its answer is encrypted."""
    given = RESOURCES["ArchiveWorkGroup"]["Properties"]["WorkGroupConfiguration"]
    assert given["BytesScannedCutoffPerQuery"] == {"Ref": "ArchiveScanLimit"}
    assert given["EnforceWorkGroupConfiguration"] is True
    options = given["ResultConfiguration"]["EncryptionConfiguration"]["Fn::If"][1:]
    assert [each["EncryptionOption"] for each in options] == ["SSE_KMS", "SSE_S3"]


def test_stream() -> None:
    """Rows are encrypted on the way, become Parquet by the table's columns, and are collected long enough for that."""
    assert STREAM["DeliveryStreamEncryptionConfigurationInput"] == {"KeyType": "AWS_OWNED_CMK"}
    conversion = DESTINATION["DataFormatConversionConfiguration"]
    assert conversion["SchemaConfiguration"]["TableName"] == {"Ref": "ArchiveTable"}
    assert conversion["OutputFormatConfiguration"]["Serializer"]["ParquetSerDe"]["Compression"] == "SNAPPY"
    assert conversion["InputFormatConfiguration"] == {"Deserializer": {"OpenXJsonSerDe": {}}}
    assert DESTINATION["BufferingHints"]["SizeInMBs"] >= 64


def test_all_of_it_is_optional() -> None:
    """Without ArchiveToS3 nothing of it is made, and the settle function is given no stream and no right to one."""
    kinds = {each["Type"].split("::")[1] for each in ARCHIVE.values()}
    assert {"Glue", "Athena", "KinesisFirehose"} <= kinds
    others = {each["Type"].split("::")[1] for name, each in RESOURCES.items() if name not in ARCHIVE}
    assert others & {"Glue", "Athena", "KinesisFirehose"} == set()
    assert HUB["Parameters"]["ArchiveToS3"]["Default"] == "No"
    variables = RESOURCES["SettleFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["CRR_MONITOR_ARCHIVE_STREAM"] == {"Fn::If": ["Archives", {"Ref": "ArchiveStream"}, ""]}
    (sent,) = [each for each in permissions.statements(HUB) if each.sid == "SendToArchive"]
    assert (sent.role, sent.condition, sent.actions) == ("SettleRole", "Archives", ("firehose:PutRecordBatch",))
    place, key = "s3://${ArchiveBucket}/${ArchivePrefix}archive/", {"Ref": "ArchiveKeyArn"}
    variables = RESOURCES["WatchFunction"]["Properties"]["Environment"]["Variables"]
    assert variables["CRR_MONITOR_ARCHIVE_PLACE"] == {"Fn::If": ["Archives", {"Fn::Sub": place}, ""]}
    assert variables["CRR_MONITOR_ARCHIVE_KEY_ARN"] == {"Fn::If": ["HasArchiveKey", key, ""]}
    watching = [each for each in permissions.statements(HUB) if each.role == "WatchRole"]
    mine = {each.sid: (each.condition, each.actions) for each in watching}
    assert mine["SeeQueue"] == ("Archives", ("sqs:GetQueueAttributes",))
    assert mine["WriteCoverage"] == ("Archives", ("s3:PutObject",))
    assert mine["UseArchiveKey"] == ("HasArchiveKey", ("kms:GenerateDataKey",))


def test_coverage() -> None:
    """Who watched is written where a report looks for it, and a queue stands still for as long as its alarm says."""
    (found,) = [each for each in permissions.statements(HUB) if each.sid == "WriteCoverage"]
    place = RESOURCES["WatchFunction"]["Properties"]["Environment"]["Variables"]["CRR_MONITOR_ARCHIVE_PLACE"]
    below = place["Fn::If"][1]["Fn::Sub"].removeprefix("s3://")
    assert HUB["Outputs"]["ArchivePlace"]["Value"] == place["Fn::If"][1]
    assert found.resources == (f"arn:${{AWS::Partition}}:s3:::{below}{COVERAGE_FOLDER}/*",)
    alarm = RESOURCES["QueueAgeAlarm"]["Properties"]
    assert alarm["Threshold"] * SECOND_MS == STANDS_MS


def test_alarms() -> None:
    """What fails to become Parquet, to be delivered, or to be delivered in time, has an alarm."""
    watched = {
        each["Properties"]["MetricName"] for each in ARCHIVE.values() if each["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert watched == {"FailedConversion.Records", "DeliveryToS3.Success", "DeliveryToS3.DataFreshness"}


def test_only_where_firehose_exists() -> None:
    """The template refuses the archive in just those Regions in which S3 is and Firehose, Athena or Glue is not."""
    session = pytest.importorskip("boto3").Session()
    lacking = set()
    for partition in session.get_available_partitions():
        there = {
            each: set(session.get_available_regions(each, partition)) for each in ("s3", "firehose", "athena", "glue")
        }
        lacking |= there["s3"] - (there["firehose"] & there["athena"] & there["glue"])
    bucket, region = HUB["Rules"]["ArchiveNeeds"]["Assertions"]
    assert set(region["Assert"]["Fn::Not"][0]["Fn::Contains"][0]) == lacking
    described = HUB["Parameters"]["ArchiveToS3"]["Description"]
    assert set(re.findall(r"\b[a-z]+-\w+-\w+-\d\b", described)) == lacking
    assert "ArchiveBucket" in bucket["AssertDescription"]


def test_firehose_need_not_say_for_which_stream_it_acts() -> None:
    """Firehose may assume the archive's role, also where it tells neither the account nor the stream."""
    (trust,) = RESOURCES["ArchiveRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "firehose.amazonaws.com"}
    assert {operator: [*keys] for operator, keys in trust["Condition"].items()} == {
        "StringEqualsIfExists": ["aws:SourceAccount"],
        "ArnLikeIfExists": ["aws:SourceArn"],
    }

"""S3 Batch Operations in the sandbox: jobs over S3 Control as boto3 calls it, and reports as AWS writes them."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus

import pytest

from crr_monitor.aws.sessions import AwsError, Sessions, call
from tests.sandbox.making import EAST, HOME, OTHER, WEST, World, rule

if TYPE_CHECKING:
    from crr_monitor.sandbox import Sandbox

ROLE = f"arn:aws:iam::{HOME}:role/any"
SERVICE = "batchoperations.s3.amazonaws.com"
SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
KEYS = ["plain", "a b", "a+b", "50%", "%41", "é/ü", 'q"u,o', "日本", "a\tb", " "]


class Jobs:
    """Jobs of the home account in one Region."""

    def __init__(self, world: World, region: str = EAST) -> None:
        self.world = world
        sandbox: Sandbox = world.sandbox
        sessions = Sessions(HOME, endpoint_url=sandbox.endpoint, base=sandbox.session(HOME, region))
        self.client = sessions.client("s3control", region)
        self.work = world.bucket("work", region=region)

    def create(self, *versions: tuple[str, str, str], token: str = "t", **changed: Any) -> str:  # noqa: ANN401, S107
        """A job over some versions; gives its id."""
        lines = [f"{bucket},{quote(key)},{version}\n" for bucket, key, version in versions]
        told = self.world.s3().put_object(Bucket=self.work, Key="m.csv", Body="".join(lines))
        request = {
            "AccountId": HOME,
            "Operation": {"S3ReplicateObject": {}},
            "Report": {
                "Bucket": f"arn:aws:s3:::{self.work}",
                "Format": "Report_CSV_20180820",
                "Enabled": True,
                "Prefix": "r",
                "ReportScope": "AllTasks",
            },
            "ClientRequestToken": f"{self.work}-{token}",
            "Manifest": {
                "Spec": {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key", "VersionId"]},
                "Location": {"ObjectArn": f"arn:aws:s3:::{self.work}/m.csv", "ETag": told["ETag"].strip('"')},
            },
            "Priority": 1,
            "RoleArn": ROLE,
            **changed,
        }
        return str(call("s3:CreateJob", self.client.create_job, **request)["JobId"])

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job once nothing is under way any more."""
        self.world.sandbox.settle()
        job: dict[str, Any] = self.client.describe_job(AccountId=HOME, JobId=job_id)["Job"]
        return job

    def report(self, job_id: str) -> list[list[str]]:
        """The lines of a job's report, sorted."""
        s3 = self.world.s3()
        body = s3.get_object(Bucket=self.work, Key=f"r/job-{job_id}/manifest.json")["Body"].read()
        manifest = json.loads(body)
        assert manifest["ReportSchema"] == SCHEMA
        files = [s3.get_object(Bucket=each["Bucket"], Key=each["Key"])["Body"].read() for each in manifest["Results"]]
        return sorted(row for data in files for row in csv.reader(io.StringIO(data.decode(), newline="")))


@pytest.fixture
def jobs(world: World) -> Jobs:
    """Jobs in the sources' Region."""
    return Jobs(world)


def broken_pair(world: World) -> tuple[str, str]:
    """A source, and a replica bucket of the other account that lets nobody in."""
    source, replica = world.bucket("orders"), world.bucket("theirs", OTHER, WEST)
    world.replicate(source, rule(replica))
    return source, replica


def test_failed_versions_are_replicated_again(world: World, jobs: Jobs) -> None:
    """After the policy is mended the job replicates versions of any keys, and its report names each by its key."""
    source, replica = broken_pair(world)
    versions = [(source, key, world.put(source, key)) for key in KEYS]
    world.sandbox.settle()
    assert {world.status(*version) for version in versions} == {"FAILED"}
    world.open(replica)
    job = jobs.ended(job_id := jobs.create(*versions))
    assert (job["Status"], job["ProgressSummary"]["NumberOfTasksSucceeded"]) == ("Complete", len(KEYS))
    assert {world.status(*version) for version in versions} == {"COMPLETED"}
    rows = jobs.report(job_id)
    assert sorted((row[0], unquote_plus(row[1]), row[2]) for row in rows) == sorted(versions)
    assert {tuple(row[3:]) for row in rows} == {("succeeded", "", "200", "Successful")}


def test_what_fails_again_has_its_reason(world: World, jobs: Jobs) -> None:
    """While the policy is as it was, the report tells S3's reason of the failure."""
    source, _ = broken_pair(world)
    version = (source, "a b", world.put(source, "a b"))
    world.sandbox.settle()
    job = jobs.ended(job_id := jobs.create(version))
    assert (job["Status"], job["ProgressSummary"]["NumberOfTasksFailed"]) == ("Complete", 1)
    (row,) = jobs.report(job_id)
    assert row[:6] == [source, "a+b", version[2], "failed", "DstPutObjectNotPermitted", "403"]


def test_what_cannot_be_replicated(world: World, jobs: Jobs) -> None:
    """Versions that are gone, that no rule takes, and buckets without rules have reasons of their own."""
    source, _ = world.pair(prefix="data/")
    plain = world.bucket("plain")
    versions = [(source, "data/gone", "nonesuch"), (source, "x", world.put(source, "x"))]
    versions.append((plain, "a", world.put(plain, "a")))
    versions.append(("no-such-bucket", "a", "v"))
    job_id = jobs.create(*versions)
    jobs.ended(job_id)
    assert {row[0]: row[4] for row in jobs.report(job_id) if row[0] != source} == {
        plain: "SrcBucketReplicationConfigMissing",
        "no-such-bucket": "SrcBucketNotFound",
    }
    assert [row[4] for row in jobs.report(job_id) if row[0] == source] == ["SrcVersionNotFound", "SrcObjectNotEligible"]


def test_existing_versions_are_replicated(world: World, jobs: Jobs) -> None:
    """What was written before the rule, and so never tried, is replicated by a job."""
    source, replica = world.bucket("old"), world.bucket("old-dr", region=WEST)
    version = (source, "a", world.put(source, "a"))
    world.replicate(source, rule(replica))
    jobs.ended(jobs.create(version))
    assert world.status(replica, *version[1:], region=WEST) == "REPLICA"


def test_same_token_same_job(world: World, jobs: Jobs) -> None:
    """The same request twice is one job; another request with its token is refused."""
    source, _ = broken_pair(world)
    version = (source, "a", world.put(source, "a"))
    world.sandbox.settle()
    first = jobs.create(version)
    assert jobs.create(version) == first
    with pytest.raises(AwsError) as caught:
        jobs.create(version, Priority=2)
    assert caught.value.code == "IdempotencyException"
    second = jobs.create(version, token="u")  # noqa: S106 - of an idempotent request
    listed = [job["JobId"] for job in jobs.client.list_jobs(AccountId=HOME)["Jobs"]]
    assert listed[:2] == [second, first]


def test_jobs_are_of_one_region(world: World, jobs: Jobs) -> None:
    """Another Region does not know the job, and a bucket of another Region is not replicated by it."""
    job_id = jobs.create(("orders", "a", "v"))
    jobs.ended(job_id)
    abroad = Jobs(world, WEST)
    with pytest.raises(AwsError) as caught:
        call("s3:DescribeJob", abroad.client.describe_job, AccountId=HOME, JobId=job_id)
    assert caught.value.code == "NoSuchJob"
    far = world.bucket("far", region=WEST)
    job_id = jobs.create((far, "a", "v"), token="far")  # noqa: S106
    jobs.ended(job_id)
    assert jobs.report(job_id)[0][4] == "SrcBucketInvalidRegion"


def test_role_needs_its_permissions(world: World, jobs: Jobs) -> None:
    """A role that exists may have to be assumed by Batch Operations, read, initiate replication, and write."""
    source, _ = broken_pair(world)
    version = (source, "a", world.put(source, "a"))
    world.sandbox.settle()

    def allow(*actions: str, service: str = SERVICE) -> str:
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        return world.role("batch", service, statement)

    def failure(role: str) -> str:
        reasons = jobs.ended(jobs.create(version, token=role[-20:], RoleArn=role))["FailureReasons"]
        return str(reasons[0]["FailureCode"])

    everything = ("s3:GetObject", "s3:InitiateReplication", "s3:PutObject")
    assert failure(allow(*everything, service="ec2.amazonaws.com")) == "AccessDenied"
    assert failure(allow("s3:PutObject")) == "ManifestLocationAccessDenied"
    assert failure(allow("s3:GetObject")) == "ReportLocationAccessDenied"
    role = allow("s3:GetObject", "s3:PutObject")
    job_id = jobs.create(version, token="no-initiate", RoleArn=role)  # noqa: S106
    assert jobs.ended(job_id)["Status"] == "Complete"
    assert jobs.report(job_id)[0][4] == "InitiateReplicationNotPermitted"


def test_manifest_has_to_be_the_one(jobs: Jobs) -> None:
    """A wrong ETag, and rows with other columns, make the job fail as a whole."""
    location = {"ObjectArn": f"arn:aws:s3:::{jobs.work}/m.csv", "ETag": "0" * 32}
    spec = {"Format": "S3BatchOperations_CSV_20180820", "Fields": ["Bucket", "Key", "VersionId"]}
    job = jobs.ended(jobs.create(("b", "k", "v"), Manifest={"Spec": spec, "Location": location}))
    assert (job["Status"], job["FailureReasons"][0]["FailureCode"]) == ("Failed", "ManifestETagMismatch")
    job = jobs.ended(jobs.create(("b", "k", "v,w"), token="columns"))  # noqa: S106
    assert job["FailureReasons"][0]["FailureCode"] == "InvalidManifestContent"


def test_outage_keeps_the_job_active(world: World, jobs: Jobs) -> None:
    """While the destination is out of order its copies are pending, and so the job goes on until that is over."""
    source, replica = broken_pair(world)
    version = (source, "a", world.put(source, "a"))
    world.sandbox.settle()
    world.open(replica)
    outage = world.sandbox.outage(bucket=replica)
    job_id = jobs.create(version)
    while jobs.client.describe_job(AccountId=HOME, JobId=job_id)["Job"]["Status"] != "Active":
        pass
    assert world.status(*version) == "FAILED"
    world.sandbox.end_fault(outage)
    while jobs.client.describe_job(AccountId=HOME, JobId=job_id)["Job"]["Status"] != "Complete":
        pass
    assert world.status(*version) == "COMPLETED"

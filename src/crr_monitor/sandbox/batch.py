"""S3 Batch Operations with the one operation that matters here, replication: CreateJob, DescribeJob, ListJobs.

API Reference, "CreateJob": the same ``ClientRequestToken`` gives the same job; for another request it is refused. User
Guide, "Creating an S3 Batch Operations job" (the manifest's columns and ETag), "Job statuses", "Configuring an IAM role
for S3 Batch Replication" (what the job's role may need), "Amazon S3 replication failure reasons", and "Examples: S3
Batch Operations completion reports" (places and columns of the report).
"""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote_plus, unquote_plus
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from crr_monitor.sandbox import iam, points, storage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from crr_monitor.sandbox.clock import Clock
    from crr_monitor.sandbox.replication import Replication

_app = points.module("app")
_responses = points.module("core.responses")
_s3 = points.module("services.s3")

PATH = "/v20180820/jobs"
SERVICE = "batchoperations.s3.amazonaws.com"
FORMAT = "S3BatchOperations_CSV_20180820"
COLUMNS = ["Bucket", "Key", "VersionId"]
SCHEMA = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage"
STEP_SECONDS = 0.02
"""Between two looks at a job."""

_ACTIONS = {"POST": "s3:CreateJob", "GET": "s3:DescribeJob"}
_STATUS_CODES = {"NotPermitted": 403, "NotFound": 404}

Version = tuple[str, str, str]
Answer = tuple[int, dict[str, str], bytes]


class _JobFailedError(Exception):
    """The job cannot go on: its arguments are code and words."""


def _fail(code: str, text: str) -> NoReturn:
    raise _JobFailedError(code, text)


@dataclass
class Job:
    """One job. ``results``: what became of each version so far, an empty reason being success."""

    id: str
    account: str
    region: str
    request: Element
    status: str = "New"
    created: float = field(default_factory=time.time)
    ended: float | None = None
    tasks: list[Version] = field(default_factory=list)
    results: dict[Version, str] = field(default_factory=dict)
    failure: tuple[str, str] | None = None

    def text(self, path: str) -> str:
        """Something of the request; empty where it says nothing of it."""
        return self.request.findtext(path, "")


class Batch:
    """The jobs of all accounts and Regions.

    ``begin`` replicates a version of which nothing was tried so far.
    """

    def __init__(
        self, replication: Replication, clock: Clock, begin: Callable[[str, str, dict[str, Any]], None]
    ) -> None:
        self._replication = replication
        self._clock = clock
        self._begin = begin
        self._jobs: dict[str, Job] = {}
        self._tokens: dict[tuple[str, str, str], Job] = {}

    def handling(self, old: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The emulator's handler of S3 Control, with jobs."""

        async def handle(  # noqa: PLR0913, PLR0917 - the emulator's signature
            path: str,
            method: str,
            body: bytes,
            query_params: dict[str, list[str]],
            request_id: str,
            headers: dict[str, str] | None = None,
        ) -> Any:  # noqa: ANN401
            if path != PATH and not path.startswith(PATH + "/"):
                return await old(path, method, body, query_params, request_id, headers)
            headers = headers or {}
            action = "s3:ListJobs" if (method, path) == ("GET", PATH) else _ACTIONS.get(method, "s3:UpdateJobStatus")
            denied = _app._enforce_data_plane("s3", action, headers, query_params, request_id, resource_arn="*")
            return denied or _s3.s3control_account_error(headers) or self._answer(method, path, body)

        return handle

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        account, region = str(_responses.get_account_id()), str(_responses.get_region())
        if (method, path) == ("POST", PATH):
            return self._create(account, region, body)
        if (method, path) == ("GET", PATH):
            mine = [job for job in self._jobs.values() if (job.account, job.region) == (account, region)]
            root = Element("ListJobsResult")
            jobs = SubElement(root, "Jobs")
            for job in sorted(mine, key=lambda job: -job.created):
                _described(SubElement(jobs, "member"), job, brief=True)
            return _xml(root)
        found = self._jobs.get(path.removeprefix(PATH + "/"))
        if method != "GET" or found is None or (found.account, found.region) != (account, region):
            return _refused("NoSuchJob", "The specified job does not exist.", 404)
        root = Element("DescribeJobResult")
        _described(SubElement(root, "Job"), found, brief=False)
        return _xml(root)

    def _create(self, account: str, region: str, body: bytes) -> Answer:
        request = _without_namespaces(fromstring(body))  # noqa: S314 - the sandbox's own callers
        token = request.findtext("ClientRequestToken", "")
        known = self._tokens.get((account, region, token))
        if known is not None and tostring(known.request) != tostring(request):
            return _refused("IdempotencyException", "The token was used for another request.", 400)
        if request.find("Operation/S3ReplicateObject") is None:
            return _refused("InvalidRequest", "The sandbox knows no operation but S3ReplicateObject.", 400)
        if known is None:
            known = Job(str(uuid.uuid4()), account, region, request)
            self._jobs[known.id] = self._tokens[account, region, token] = known
            self._later(known)
        root = Element("CreateJobResult")
        SubElement(root, "JobId").text = known.id
        return _xml(root)

    # Running -------------------------------------------------------------------------------------------------------

    def _later(self, job: Job) -> None:
        # What an outage holds may never end, so nobody waits for it.
        counts = not self._replication.held
        self._clock.after(STEP_SECONDS, job.account, job.region, lambda: self._step(job), counts=counts)

    def _step(self, job: Job) -> None:
        try:
            if job.status == "New":
                job.status, job.tasks = "Preparing", _read_manifest(job)
            elif job.status == "Preparing":
                job.status = "Active"
                for version in job.tasks:
                    self._start(job, version)
            elif not self._look(job):
                _write_report(job)
                job.status, job.ended = "Complete", time.time()
                return
        except _JobFailedError as error:
            job.status, job.ended, job.failure = "Failed", time.time(), (str(error.args[0]), str(error.args[1]))
            return
        self._later(job)

    def _start(self, job: Job, version: Version) -> None:
        bucket, key, version_id = version
        entry = storage.version(*version)
        role, resource = job.text("RoleArn"), f"arn:aws:s3:::{bucket}/{key}"
        owner, policy = storage.owner(bucket), storage.policy(bucket)
        if owner is None:
            job.results[version] = "SrcBucketNotFound"
        elif storage.region(bucket) != job.region:
            job.results[version] = "SrcBucketInvalidRegion"
        elif not iam.role_allows(role, "s3:InitiateReplication", resource, job.region, policy, owner):
            job.results[version] = "InitiateReplicationNotPermitted"
        elif storage.configuration(bucket) is None:
            job.results[version] = "SrcBucketReplicationConfigMissing"
        elif entry is None:
            job.results[version] = "SrcVersionNotFound"
        elif not self._replication.taken(bucket, key, entry, storage.tags(bucket, key, version_id)):
            job.results[version] = "SrcObjectNotEligible"
        elif not self._replication.retry(bucket, key, version_id) and not entry.get("replication_status"):
            self._begin(bucket, key, entry)

    def _look(self, job: Job) -> bool:
        """Whether anything is still under way."""
        for version in job.tasks:
            if version not in job.results and not self._replication.under_way(*version):
                job.results[version] = next(iter(self._replication.failures(*version)), "")
        return len(job.results) < len(set(job.tasks))


def _read_manifest(job: Job) -> list[Version]:
    location = "Manifest/Location/"
    bucket, _, key = job.text(location + "ObjectArn").rpartition(":")[2].partition("/")
    role = job.text("RoleArn")
    if not iam.assumable(role, SERVICE):
        _fail("AccessDenied", f"{SERVICE} may not assume {role}")
    place = (f"arn:aws:s3:::{bucket}/{key}", job.region, storage.policy(bucket), storage.owner(bucket))
    with _responses.request_scope(storage.owner(bucket) or job.account, job.region):
        data = _s3._get_object_data(bucket, key)
    if data is None or not iam.role_allows(role, "s3:GetObject", *place):
        _fail("ManifestLocationAccessDenied", f"Forbidden to read the manifest {bucket}/{key}")
    if job.text(location + "ETag").strip('"') != hashlib.md5(data, usedforsecurity=False).hexdigest():
        _fail("ManifestETagMismatch", "The ETag of the manifest differs")
    fields = [each.text for each in job.request.findall("Manifest/Spec/Fields/member")]
    if job.text("Manifest/Spec/Format") != FORMAT or fields != COLUMNS:
        _fail("InvalidManifest", f"The sandbox reads {FORMAT} with {', '.join(COLUMNS)}")
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    if any(len(row) != len(COLUMNS) for row in rows):
        _fail("InvalidManifestContent", "A row has another number of columns")
    return [(row[0], unquote_plus(row[1]), row[2]) for row in rows]


def _write_report(job: Job) -> None:
    bucket = job.text("Report/Bucket").rpartition(":")[2]
    prefix = job.text("Report/Prefix")
    folder = f"{prefix}/job-{job.id}" if prefix else f"job-{job.id}"
    results = []
    for status in ("succeeded", "failed"):
        lines = [
            _line(version, reason) for version, reason in job.results.items() if bool(reason) == (status == "failed")
        ]
        if not lines:
            continue
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(lines)
        data = text.getvalue().encode()
        key = f"{folder}/results/{hashlib.sha1(data, usedforsecurity=False).hexdigest()}.csv"
        checksum = hashlib.md5(data, usedforsecurity=False).hexdigest()
        _put(job, bucket, key, data)
        results.append({"TaskExecutionStatus": status, "Bucket": bucket, "MD5Checksum": checksum, "Key": key})
    manifest = {
        "Format": "Report_CSV_20180820",
        "ReportCreationDate": _time(time.time()),
        "Results": results,
        "ReportSchema": SCHEMA,
    }
    _put(job, bucket, f"{folder}/manifest.json", json.dumps(manifest).encode())


def _line(version: Version, reason: str) -> list[str]:
    bucket, key, version_id = version
    row = [bucket, quote_plus(key, safe="/"), version_id]
    if not reason:
        return [*row, "succeeded", "", "200", "Successful"]
    status = next((code for end, code in _STATUS_CODES.items() if reason.endswith(end)), 400)
    return [*row, "failed", reason, str(status), f'Replication failed, "{reason}"']


def _put(job: Job, bucket: str, key: str, data: bytes) -> None:
    owner, policy = storage.owner(bucket), storage.policy(bucket)
    resource = f"arn:aws:s3:::{bucket}/{key}"
    if owner is None or not iam.role_allows(job.text("RoleArn"), "s3:PutObject", resource, job.region, policy, owner):
        _fail("ReportLocationAccessDenied", f"Forbidden to write the report to {bucket}")
    with _responses.request_scope(owner, storage.region(bucket)):
        _s3._put_object(bucket, key, data, {})


# Documents -----------------------------------------------------------------------------------------------------------


def _described(node: Element, job: Job, *, brief: bool) -> None:
    failed = sum(1 for reason in job.results.values() if reason)
    told = {
        "JobId": job.id,
        "Description": job.text("Description"),
        "Operation": "S3ReplicateObject" if brief else None,
        "Priority": job.text("Priority"),
        "Status": job.status,
        "CreationTime": _time(job.created),
        "TerminationDate": None if job.ended is None else _time(job.ended),
        "RoleArn": None if brief else job.text("RoleArn"),
    }
    _fill(node, told.items())
    progress = SubElement(node, "ProgressSummary")
    counts = (len(job.tasks), len(job.results) - failed, failed)
    names = ("TotalNumberOfTasks", "NumberOfTasksSucceeded", "NumberOfTasksFailed")
    _fill(progress, zip(names, map(str, counts), strict=True))
    if brief:
        return
    node.extend(part for part in map(job.request.find, ("Manifest", "Operation", "Report")) if part is not None)
    if job.failure is not None:
        reasons = SubElement(SubElement(node, "FailureReasons"), "member")
        _fill(reasons, zip(("FailureCode", "FailureReason"), job.failure, strict=True))


def _fill(node: Element, values: Iterable[tuple[str, str | None]]) -> None:
    for name, value in values:
        if value is not None:
            SubElement(node, name).text = value


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1_000) % 1_000:03d}Z"


def _without_namespaces(root: Element) -> Element:
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root


def _xml(root: Element) -> Answer:
    root.set("xmlns", str(_s3.S3CONTROL_NS))
    return 200, {"Content-Type": "application/xml"}, tostring(root, encoding="utf-8", xml_declaration=True)


def _refused(code: str, text: str, status: int) -> Answer:
    answer: Answer = _s3.s3control_error(code, text, status)
    return answer

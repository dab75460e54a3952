"""S3 replication: asynchronous, by rule and destination, with S3's statuses, reasons and events.

S3 User Guide: "What does Amazon S3 replicate?", "Getting replication status information", "Receiving replication
failure events with Amazon S3 Event Notifications" (reasons), "Replicating existing objects" (Batch Replication).
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crr_monitor.sandbox import iam, points, rules, storage, trail
from crr_monitor.sandbox.model import SERVICE, SESSION, Requester
from crr_monitor.sandbox.notifications import milliseconds
from crr_monitor.sandbox.obstacles import Denied, Failure, Job, obstacle

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.sandbox.model import S3Event

_responses = points.module("core.responses")

_READS = {
    "OBJECT_PUT": ("GetObject", "GetObjectTagging", "GetObjectAcl"),
    "OBJECT_PUT_TAGGING": ("HeadObject", "GetObjectTagging"),
    "OBJECT_DELETE": ("HeadObject",),
}
"""What the session was seen to read of a version at the source (captured records)."""


class Replication:
    """The replication service of all buckets.

    ``schedule`` runs work after a replication latency; ``out_of_order`` says whether source or destination cannot be
    reached; ``injected`` gives a reason to fail with; ``tell`` and ``log`` publish an event and a CloudTrail record.
    """

    def __init__(
        self,
        schedule: Callable[[Job, Callable[[], None], float | None], None],
        out_of_order: Callable[[Job], bool],
        injected: Callable[[Job], str | None],
        tell: Callable[[S3Event], None],
        log: Callable[[trail.ApiCall, str], None],
    ) -> None:
        self._schedule = schedule
        self._out_of_order = out_of_order
        self._injected = injected
        self._tell = tell
        self._log = log
        self._open: dict[tuple[str, str, str, str], Job] = {}
        self._held: dict[tuple[str, str, str, str], Job] = {}
        self._failed: dict[tuple[str, str, str, str], Job] = {}
        self._reasons: dict[tuple[str, str, str, str], str] = {}
        self.rtc_threshold = 900.0

    @property
    def held(self) -> int:
        """Copies that wait for the end of an outage."""
        return len(self._held)

    def taken(self, bucket: str, key: str, entry: dict[str, Any], tags: dict[str, str]) -> list[dict[str, Any]]:
        """The rules that replicate a version of ``bucket``, which may be a delete marker."""
        return rules.taking(
            storage.configuration(bucket),
            key,
            tags,
            marker=bool(entry.get("is_delete_marker")),
            kms=storage.uses_kms(entry),
            storage_class=entry.get("storage_class") or "STANDARD",
        )

    def begin(self, event: S3Event) -> None:
        """Replicate a version that somebody wrote. Replicas never come here: replication has no chains."""
        entry = storage.version(event.bucket, event.key, event.version_id or "")
        configuration = storage.configuration(event.bucket)
        if entry is None or configuration is None:
            return
        tags = storage.tags(event.bucket, event.key, entry["version_id"])
        kind = "OBJECT_DELETE" if entry.get("is_delete_marker") else "OBJECT_PUT"
        for rule in self.taken(event.bucket, event.key, entry, tags):
            self._start(Job(event, rule, configuration["Role"], kind))

    def _start(self, job: Job) -> None:
        self._open[job.name] = job
        self._schedule(job, lambda: self._attempt(job), None)
        if _enabled(job.rule, "ReplicationTime"):
            self._schedule(job, lambda: self._check_threshold(job), self.rtc_threshold)

    def retag(self, event: S3Event) -> None:
        """Replicate a change of tags of a version whose copies are there; a copy under way takes the new tags along."""
        entry = storage.version(event.bucket, event.key, event.version_id or "")
        configuration = storage.configuration(event.bucket)
        if entry is None or configuration is None or entry.get("replication_status") not in {"COMPLETED", "FAILED"}:
            return
        for rule in configuration["Rules"]:
            job = Job(event, rule, configuration["Role"], "OBJECT_PUT_TAGGING")
            known = storage.version(job.target, event.key, entry["version_id"])
            if known is not None and rule.get("Status") == "Enabled" and job.name not in self._open:
                storage.set_status(*job.name[:3], "PENDING")
                self._start(job)

    def resume(self) -> None:
        """Take up again what waited, where the outage has ended."""
        for name, job in list(self._held.items()):
            if not self._out_of_order(job):
                del self._held[name]
                self._schedule(job, lambda job=job: self._attempt(job), None)  # type: ignore[misc]

    def _attempt(self, job: Job) -> None:
        if self._out_of_order(job):
            # Temporary causes: the object stays PENDING and replication resumes by itself.
            self._held[job.name] = job
            return
        event = job.event
        entry = storage.version(event.bucket, event.key, event.version_id or "")
        if entry is None:
            self._open.pop(job.name, None)  # deleted before it was replicated: nothing to say about it any more
            return
        reason = self._injected(job)
        failure = Failure(reason) if reason else obstacle(job, entry)
        if failure is not None:
            self._fail(job, failure)
            return
        self._log_reads(job)
        if job.kind == "OBJECT_PUT_TAGGING":
            self._copy_tags(job)
        else:
            self._copy(job, entry)
        self._open.pop(job.name, None)
        self._failed.pop(job.name, None)
        if _enabled(job.rule, "ReplicationTime") and time.time() - job.event.at > self.rtc_threshold:
            self._tell_failure(job, "Replication:OperationReplicatedAfterThreshold", {})
        self._settle(job)

    def _requester(self, job: Job) -> Requester:
        identity = iam.session(job.event.account, job.role, SESSION, SERVICE)
        return Requester(job.event.account, identity, SERVICE, SERVICE, replication=True)

    def _copy(self, job: Job, entry: dict[str, Any]) -> None:
        event, target = job.event, job.target
        account, region = storage.owner(target) or "", storage.region(target)
        with _responses.request_scope(account, region):
            storage_class = (job.rule.get("Destination") or {}).get("StorageClass")
            new = storage.put_replica(event.bucket, target, event.key, entry, storage_class)
        if new:
            self._tell_copied(job, account, region)

    def _log_reads(self, job: Job) -> None:
        """The session reads the source before it writes; of a delete marker it learns 405, which is no failure."""
        event, requester = job.event, self._requester(job)
        refused = ("MethodNotAllowed", "The specified method is not allowed against this resource.")
        for name in _READS[job.kind]:
            call = trail.ApiCall(
                name,
                event.account,
                event.region,
                event.bucket,
                event.key,
                requester,
                {"versionId": event.version_id},
                error=refused if job.kind == "OBJECT_DELETE" else None,
            )
            self._log(call, uuid.uuid4().hex[:16].upper())

    def _copy_tags(self, job: Job) -> None:
        """Tags follow their version; CloudTrail shows PutObjectTagging with the version, which is no new version."""
        event, target = job.event, job.target
        version_id = event.version_id or ""
        storage.set_tags(target, event.key, version_id, storage.tags(event.bucket, event.key, version_id))
        call = trail.ApiCall(
            "PutObjectTagging",
            storage.owner(target) or "",
            storage.region(target),
            target,
            event.key,
            self._requester(job),
            {"versionId": version_id, "tagging": ""},
        )
        self._log(call, uuid.uuid4().hex[:16].upper())

    def _tell_copied(self, job: Job, account: str, region: str) -> None:
        """A replica's arrival is an ordinary event of the destination bucket, made by the replication session."""
        event, requester = job.event, self._requester(job)
        kind = event.kind if event.marker else "ObjectCreated:Put"
        if event.etag and "-" in event.etag:
            kind = "ObjectCreated:CompleteMultipartUpload"
        request_id = uuid.uuid4().hex[:16].upper()
        self._tell(
            replace(
                event,
                account=account,
                region=region,
                bucket=job.target,
                kind=kind,
                at=time.time(),
                requester=requester,
                request_id=request_id,
            )
        )
        answer: dict[str, Any] = {"x-amz-version-id": event.version_id}
        if event.marker:
            answer["x-amz-delete-marker"] = "true"
        api = {"ObjectCreated:Put": "PutObject", "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload"}
        call = trail.ApiCall(
            api.get(kind, "DeleteObject"),
            account,
            region,
            job.target,
            event.key,
            requester,
            {"x-amz-version-id": event.version_id},
            answer,
            bytes_in=0 if event.marker else event.size or 0,
            object_size=None if event.marker else event.size,
        )
        self._log(call, request_id)

    def _fail(self, job: Job, failure: Failure) -> None:
        self._open.pop(job.name, None)
        self._failed[job.name] = job
        self._reasons[job.name] = failure.reason
        self._settle(job)
        self._tell_failure(job, "Replication:OperationFailedReplication", {"failureReason": failure.reason})
        if failure.denied is not None:
            self._log_denied(job, failure.denied)

    def _log_denied(self, job: Job, denied: Denied) -> None:
        at_source = denied.bucket == job.event.bucket
        requester = self._requester(job)
        call = trail.ApiCall(
            denied.call,
            storage.owner(denied.bucket) or job.event.account,
            storage.region(denied.bucket),
            denied.bucket,
            job.event.key,
            requester,
            {"versionId" if at_source else "x-amz-version-id": job.event.version_id},
            error=denied.error(str(requester.identity["arn"])),
        )
        self._log(call, uuid.uuid4().hex[:16].upper())

    def _tell_failure(self, job: Job, kind: str, extra: dict[str, Any]) -> None:
        """Only rules with metrics send these ("Receiving replication failure events ...")."""
        if not _enabled(job.rule, "Metrics"):
            return
        data = {
            "replicationRuleId": job.rule.get("ID"),
            "destinationBucket": f"arn:aws:s3:::{job.target}",
            "s3Operation": job.kind,
            "requestTime": milliseconds(job.event.at),
            **extra,
        }
        self._tell(replace(job.event, kind=kind, at=time.time(), replication=data))

    def _check_threshold(self, job: Job) -> None:
        if self._open.get(job.name) is job:
            self._tell_failure(job, "Replication:OperationMissedThreshold", {"threshold": str(self.rtc_threshold)})

    def _settle(self, job: Job) -> None:
        """One header for all destinations: FAILED as soon as one failed, COMPLETED when all are done."""
        version = job.name[:3]
        if any(name[:3] == version for name in self._failed):
            storage.set_status(*version, "FAILED")
        elif not any(name[:3] == version for name in self._open):
            storage.set_status(*version, "COMPLETED")

    def retry(self, bucket: str, key: str | None, version_id: str | None) -> int:
        """Replicate failed versions again, as a Batch Replication job with that filter does; counts copies."""
        chosen = [
            job
            for name, job in self._failed.items()
            if name[0] == bucket and key in {None, name[1]} and version_id in {None, name[2]}
        ]
        for job in chosen:
            del self._failed[job.name]
            configuration = storage.configuration(bucket) or {"Rules": [], "Role": job.role}
            now = [rule for rule in configuration["Rules"] if rules.destination(rule) == job.target]
            self._start(replace(job, rule=(now or [job.rule])[0], role=configuration["Role"]))
        return len(chosen)

    def under_way(self, bucket: str, key: str, version_id: str) -> bool:
        """Whether any copy of a version is still to come."""
        return any(name[:3] == (bucket, key, version_id) for name in self._open)

    def failures(self, bucket: str, key: str, version_id: str) -> list[str]:
        """Why copies of a version have failed, sorted."""
        return sorted(self._reasons[name] for name in self._failed if name[:3] == (bucket, key, version_id))


def _enabled(rule: dict[str, Any], option: str) -> bool:
    return bool(((rule.get("Destination") or {}).get(option) or {}).get("Status") == "Enabled")

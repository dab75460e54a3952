"""``crr-monitor retry --run``: the jobs of S3 Batch Replication, created, followed, and their reports taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crr_monitor.aws import batch_replication as batch
from crr_monitor.aws.sessions import AwsError, call
from crr_monitor.cli.repairs import count_attempt, place_text, read_attempts, remember_report, taken_text
from crr_monitor.cli.session import CommandError, say
from crr_monitor.process.batch_report import Taken, take_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crr_monitor.cli.access import Access
    from crr_monitor.cli.repairs import Planned
    from crr_monitor.stores.base import Store

FORGOTTEN = "job {id} goes on by itself: run the same command again, and it is found and followed"


class Runner:
    """Runs the jobs of a plan, and writes into the plan what became of them."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store = store
        self._access = access
        self._attempts = read_attempts(store)

    def run(self, planned: Sequence[Planned], *, wait: bool) -> bool:
        """Create all jobs, then follow each; whether all were created and completed.

        Raises:
            AwsError: S3 could not be asked about a job that was created.
            StoreError: the store could not take a report.
        """
        good = True
        created = []
        for each in planned:
            try:
                self._create(each)
            except (AwsError, CommandError) as error:
                say(f"{place_text(each.group.source)}: no job was created: {error}")
                good = False
            else:
                created.append(each)
        for each in created if wait else ():
            good = self._finish(each) and good
        return good

    def _create(self, each: Planned) -> None:
        order, manifest = each.order, each.manifest
        if order is None or manifest is None:  # pragma: no cover - every group that a retry helps has both
            raise AssertionError
        order = each.order = self._placed(each, order)
        if manifest.size > batch.LARGEST_MANIFEST:
            message = "its manifest is larger than 5 GB: take less at once, with --prefix, --since or --until"
            raise CommandError(message)
        batch.upload(self._s3(order), order, manifest.path)
        control = self._control(order)
        job_id = batch.create(control, order)
        while _folder(job_id) in self._attempts:  # its report was taken with --report: this is a new attempt
            order = each.order = msgspec.structs.replace(order, attempt=order.attempt + 1)
            job_id = batch.create(control, order)
        each.job = batch.describe(control, order.account, job_id, new=True)
        where = order.report_of(job_id)
        say(f"{place_text(each.group.source)}: job {job_id} in {order.region}, its report will be {where}")

    def _placed(self, each: Planned, order: batch.Order) -> batch.Order:
        """The order with account and Region, where the records did not tell them."""
        source = each.group.source
        if source.account not in {None, self._access.account}:
            message = f"its bucket is in account {source.account}: use that account's credentials, with --profile"
            raise CommandError(message)
        region = source.region or self._region_of(source.bucket or "")
        order = msgspec.structs.replace(order, account=self._access.account, region=region)
        return msgspec.structs.replace(order, attempt=self._attempts.get(order.subject, 0))

    def _region_of(self, bucket: str) -> str:
        told = call(f"s3:HeadBucket of {bucket}", self._access.client("s3").head_bucket, Bucket=bucket)
        headers = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = told.get("BucketRegion") or headers.get("x-amz-bucket-region")
        if not region:
            message = "the Region of its bucket is not known: learn it (`crr-monitor topology --discover`)"
            raise CommandError(message)
        return str(region)

    def _s3(self, order: batch.Order) -> Any:  # noqa: ANN401 - boto3's client
        return self._access.sessions.client("s3", order.region)

    def _control(self, order: batch.Order) -> Any:  # noqa: ANN401
        return self._access.sessions.client("s3control", order.region)

    def _finish(self, each: Planned) -> bool:
        order, job = each.order, each.job
        if order is None or job is None:  # pragma: no cover - it was created
            raise AssertionError
        try:
            job = each.job = batch.follow(self._control(order), order.account, job.id, _tell)
        except (AwsError, KeyboardInterrupt):
            say(FORGOTTEN.format(id=job.id))
            raise
        for reason in job.reasons:
            say(f"  job {job.id}: {reason}")
        if job.report is not None:
            self._take(each, order, job, job.report)
        count_attempt(self._store, order)
        return job.status == batch.COMPLETE

    def _take(self, each: Planned, order: batch.Order, job: batch.Job, where: batch.Location) -> None:
        """Take in the report; a job that failed as a whole may have left none, which S3 may tell as a refusal."""
        try:
            each.taken = take(self._store, self._s3(order), where)
        except AwsError as error:
            if job.status == batch.COMPLETE or not (error.denied or error.code in batch.NO_REPORT):
                raise
            say(f"  job {job.id} left no report that could be read: {error}")
        else:
            say(f"  {taken_text(each.taken)}")


def _folder(job_id: str) -> str:
    """The name of the folder in which a job's report lies."""
    return f"job-{job_id}"


def _tell(job: batch.Job) -> None:
    say(f"  job {job.id}: {job.status}, {job.succeeded:,} succeeded, {job.failed:,} failed, of {job.tasks:,}")


def take(store: Store, s3: Any, where: batch.Location) -> Taken:  # noqa: ANN401 - boto3's client
    """Take a completion report into the store.

    Raises:
        AwsError: it is not there, or could not be read.
        StoreError: the store could not take it.
    """
    report = batch.open_report(s3, where)
    taken = Taken()
    take_report(store, batch.read_report(s3, report), report.written_at, store.topology(), taken)
    folder = where.key.removesuffix(batch.REPORT_MANIFEST).rstrip("/").rpartition("/")[2]
    remember_report(store, folder)
    return taken

"""Our parts joined to the emulator: every change of its behaviour is made here, at the points that ``points`` lists."""

# ruff: noqa: SLF001 - the emulator has no public interface to extend

from __future__ import annotations

import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from crr_monitor.sandbox import (
    athena,
    authorization,
    batch,
    bus,
    callers,
    conditions,
    encryption,
    faults,
    firehose,
    iam,
    listing,
    notifications,
    organization,
    points,
    refusals,
    resources,
    stacksets,
    storage,
    streams,
    tables,
    trail,
    windows,
)
from crr_monitor.sandbox.api import bucket_call, object_call
from crr_monitor.sandbox.clock import Clock
from crr_monitor.sandbox.invocations import Invocations, measure, own_workers
from crr_monitor.sandbox.model import Requester, S3Event
from crr_monitor.sandbox.replication import Replication

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crr_monitor.sandbox.obstacles import Job
    from crr_monitor.sandbox.settings import Settings

_app = points.module("app")
_events = points.module("services.eventbridge")
_router = points.module("core.router")
_responses = points.module("core.responses")
_s3 = points.module("services.s3")
_trails = points.module("services.cloudtrail")

_TICK_SECONDS = 0.5
"""How often schedules are looked at; the emulator's ten seconds would make ``rate(1 minute)`` ten seconds late."""

_CREATED = "s3:ObjectCreated:"
_REMOVED = "s3:ObjectRemoved:"
_MARKER = "s3:ObjectRemoved:DeleteMarkerCreated"


@dataclass
class Request:
    """One request to S3 while it is served: who called, and what it has written so far."""

    requester: Requester
    written: list[S3Event] = field(default_factory=list)
    tags: dict[str, str] | None = None
    sequencer: str | None = None


_request: ContextVar[Request | None] = ContextVar("sandbox_request", default=None)


class World:
    """The parts of one sandbox. :meth:`install` changes the emulator; there is one per process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.dice = Random(settings.seed)  # noqa: S311 - repeatable, not unpredictable
        self.clock = Clock()
        self.faults = faults.Faults(self.dice)
        self.invocations = Invocations()
        self.delivery = bus.Delivery(_events._invoke_target)
        self.replication = Replication(self._schedule_copy, self._out_of_order, self._injected, self._tell, self._log)
        self.replication.rtc_threshold = settings.rtc_threshold
        self.batch = batch.Batch(self.replication, self.clock, self._begin_again)
        self._firehose = firehose.Collecting(self.clock, self.faults, settings.collecting)
        self._uploads: dict[str, tuple[dict[str, str], str]] = {}

    def install(self) -> None:
        """Put our behaviour in the place of the emulator's."""
        points.check()
        points.replace("services.s3", "_maybe_replicate", lambda _: self._stamp)
        points.replace("services.s3", "_maybe_replicate_delete_marker", lambda _: lambda _bucket, _key: None)
        points.replace("services.s3", "_record_object_version", self._numbered)
        points.replace("services.s3", "_record_delete_marker", self._marking)
        points.replace("services.s3", "_fire_s3_event_async", self._firing)
        points.replace("services.s3", "_create_multipart_upload", self._starting_upload)
        points.replace("services.s3", "_resolve_sse_write_headers", encryption.with_managed_key)
        points.replace("services.s3", "_list_object_versions", listing.encoding)
        points.replace("services.s3", "handle_request", self._requested)
        points.replace("services.s3", "_dispatch", self._dispatched)
        points.replace("services.eventbridge", "_invoke_target", lambda _: self.delivery)
        points.replace(
            "services.eventbridge", "_put_permission", lambda old: lambda body: resources.put_permission(body, old)
        )
        points.replace("services.cloudtrail", "_put_event_selectors", refusals.within_quota)
        points.replace("services.cloudtrail", "_create_trail", refusals.within_region)
        organization.install()
        points.replace("services.eventbridge", "_delete_rule", refusals.without_targets)
        points.replace("services.eventbridge", "_SCHEDULER_TICK_INTERVAL", lambda _: _TICK_SECONDS)
        for action, handler in list(_trails._DISPATCH.items()):
            _trails._DISPATCH[action] = getattr(_trails, handler.__name__)
        points.replace("app", "_dispatch_service_request", self._refusing)
        points.replace("app", "_handle_s3_control_request", self.batch.handling)
        points.replace("core.iam_actions", "extract_resource_arn", authorization.naming_rules)
        points.replace("core.iam_actions", "extract_iam_action", authorization.single_actions)
        points.replace("core.iam_actions", "request_tag_context", authorization.with_namespace)
        points.replace("services.cloudformation.provisioners", "_zip_inline", resources.with_response_module)
        # The emulator's evaluation mixes dimensions and periods, and knows no missing data; SetAlarmState works.
        points.replace("services.cloudwatch", "_evaluate_all_alarms", lambda _: lambda: None)
        points.replace("services.dynamodb", "_build_change_record", tables.marked)
        points.replace("services.dynamodb", "_remove_item", tables.only_when_told)
        points.replace("services.lambda_svc", "_poll_dynamodb_streams", streams.replacing)
        points.replace("services.sqs", "_receive_messages_for_esm", windows.collecting(self.settings.batching))
        points.replace("services.lambda_svc", "_execute_function", self.invocations.executing)
        points.replace("services.lambda_svc", "invoke_async_with_retry", self.invocations.asynchronous)
        points.replace("services.lambda_svc", "invalidate_worker", own_workers)
        measure()
        resources.install()
        self._firehose.install()
        athena.install()
        conditions.install()
        stacksets.install()
        tables.install()

    # Messages ------------------------------------------------------------------------------------------------------

    def _tell(self, event: S3Event) -> None:
        notifications.tell(event, self._send)

    def _send(self, kind: str, event: S3Event, work: Callable[[], None]) -> None:
        latency = self.settings.notification if kind == "notification" else self.settings.event
        facts = {
            "kind": kind,
            "bucket": event.bucket,
            "account": event.account,
            "region": event.region,
            "name": event.kind,
        }
        for delay in self.faults.deliveries(facts, latency.draw(self.dice)):
            self.clock.after(delay, event.account, event.region, work)

    def _log(self, call: trail.ApiCall, request_id: str) -> None:
        trail.tell(call, request_id, self._send_record)

    def _send_record(self, kind: str, call: trail.ApiCall, recipient: str, work: Callable[[], None]) -> None:
        facts = {"kind": kind, "bucket": call.bucket, "account": recipient, "region": call.region, "name": call.name}
        for delay in self.faults.deliveries(facts, self.settings.trail.draw(self.dice)):
            self.clock.after(delay, recipient, call.region, work)

    # Replication ---------------------------------------------------------------------------------------------------

    def _schedule_copy(self, job: Job, work: Callable[[], None], seconds: float | None) -> None:
        delay = self.settings.replication.draw(self.dice) if seconds is None else seconds
        self.clock.after(delay, job.event.account, job.event.region, work, counts=seconds is None)

    def _begin_again(self, bucket: str, key: str, entry: dict[str, Any]) -> None:
        """Replicate a version that is there already, as if it had just been written."""
        facts = (entry["version_id"], entry.get("size"), entry.get("etag"))
        self.replication.begin(self._event(bucket, key, f"{_CREATED}Put", *facts))

    def _out_of_order(self, job: Job) -> bool:
        places = [{"bucket": job.event.bucket, "region": job.event.region}]
        if storage.owner(job.target) is not None:
            places.append({"bucket": job.target, "region": storage.region(job.target)})
        return self.faults.outage(*places)

    def _injected(self, job: Job) -> str | None:
        facts = {"bucket": job.event.bucket, "destination": job.target, "key": job.event.key}
        fault = self.faults.strike("fail", facts)
        return fault.code if fault else None

    # Writes --------------------------------------------------------------------------------------------------------

    def _stamp(
        self,
        bucket_name: str,
        key: str,
        obj: dict[str, Any],
        data: object,  # noqa: ARG002 - the emulator's signature
        tags: dict[str, str] | None = None,
    ) -> None:
        """A version that a rule takes is PENDING from its first moment on."""
        request = _request.get()
        if tags is None and request is not None:
            tags = request.tags
        obj.pop("replication_status", None)
        if self.replication.taken(bucket_name, key, obj, tags or {}):
            obj["replication_status"] = "PENDING"

    def _numbered(self, old: Callable[..., str | None]) -> Callable[..., str | None]:
        def record(bucket_name: str, key: str, prior_obj: Any, obj: Any, data: Any) -> str | None:  # noqa: ANN401
            version_id = old(bucket_name, key, prior_obj, obj, data)
            for entry in storage.versions(bucket_name, key)[-1:]:
                storage.number(entry)
            return version_id

        return record

    def _marking(self, old: Callable[..., str]) -> Callable[..., str]:
        """A delete without version id makes a marker, and tells of it, even where there was nothing to hide."""

        def record(bucket_name: str, key: str, prior_obj: Any) -> str:  # noqa: ANN401
            marker_id = old(bucket_name, key, prior_obj)
            for entry in storage.versions(bucket_name, key)[-1:]:
                storage.number(entry)
            self._wrote(bucket_name, key, _MARKER, marker_id)
            return marker_id

        return record

    def _firing(self, old: Callable[..., None]) -> Callable[..., None]:
        def fire(bucket_name: str, key: str, event_name: str, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            if event_name == _MARKER:
                return  # told by _marking
            if event_name.startswith((_CREATED, _REMOVED)):
                size, etag = options.get("size"), options.get("etag")
                self._wrote(bucket_name, key, event_name, options.get("version_id"), size, etag)
            else:
                old(bucket_name, key, event_name, *arguments, **options)

        return fire

    def _event(  # noqa: PLR0913, PLR0917 - one fact each
        self, bucket: str, key: str, name: str, version_id: str | None, size: int | None = None, etag: str | None = None
    ) -> S3Event:
        account = storage.owner(bucket) or str(_responses.get_account_id())
        request = _request.get()
        return S3Event(
            account=account,
            region=storage.region(bucket),
            bucket=bucket,
            key=key,
            version_id=version_id,
            kind=name.removeprefix("s3:"),
            at=time.time(),
            requester=request.requester if request else callers.service(account),
            request_id=uuid.uuid4().hex[:16].upper(),
            sequencer=(request.sequencer if request else None) or _s3._next_event_sequencer(name),
            size=size,
            etag=etag.strip('"') if etag else None,
        )

    def _wrote(self, *facts: Any) -> None:  # noqa: ANN401 - those of _event
        event = self._event(*facts)
        request = _request.get()
        if request is not None:
            request.written.append(event)
        self._tell(event)
        if (event.created or event.marker) and event.version_id and event.version_id != "null":
            # The emulator stores tags after this point of the request, so the rules are asked after it.
            self.clock.after(0, event.account, event.region, lambda: self.replication.begin(event))

    # Requests ------------------------------------------------------------------------------------------------------

    @staticmethod
    def _requested(old: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def handle(
            method: str,
            path: str,
            headers: dict[str, str],
            body: bytes,
            query_params: dict[str, list[str]],
            *arguments: Any,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            token = _request.set(Request(callers.requester(headers, query_params)))
            try:
                return await old(method, path, headers, body, query_params, *arguments, **options)
            finally:
                _request.reset(token)

        return handle

    def _starting_upload(self, old: Callable[..., Any]) -> Callable[..., Any]:
        """The emulator forgets an upload's tags; its sequencer is fixed at its start (captured order of events)."""

        def create(bucket_name: str, key: str, headers: dict[str, str]) -> Any:  # noqa: ANN401
            before = set(_s3._multipart_uploads.keys())
            answer = old(bucket_name, key, headers)
            tags = dict(parse_qsl(headers.get("x-amz-tagging", ""), keep_blank_values=True))
            for upload in set(_s3._multipart_uploads.keys()) - before:
                self._uploads[upload] = (tags, _s3._next_event_sequencer(_CREATED))
            return answer

        return create

    def _dispatched(self, old: Callable[..., Any]) -> Callable[..., Any]:
        def dispatch(  # noqa: PLR0913, PLR0917 - the emulator's signature
            method: str, bucket: str, key: str, headers: dict[str, str], body: bytes, query_params: dict[str, list[str]]
        ) -> Any:  # noqa: ANN401
            request = _request.get()
            if request is None or not bucket:
                return old(method, bucket, key, headers, body, query_params)
            if method == "POST" and "uploadId" in query_params:
                request.tags, request.sequencer = self._uploads.get(query_params["uploadId"][0], (None, None))
            owner, region = storage.owner(bucket), storage.region(bucket)
            answer = old(method, bucket, key, headers, body, query_params)
            if answer[0] == 404 and key and method in {"GET", "HEAD"} and not self._may_list(bucket, request.requester):  # noqa: PLR2004
                answer = _s3._error("AccessDenied", "Access Denied", 403, f"/{bucket}/{key}")
            if "tagging" in query_params and key and method in {"PUT", "DELETE"} and answer[0] < 400:  # noqa: PLR2004
                self._retagged(bucket, key, query_params.get("versionId", [""])[0])
            if request.tags:
                for event in request.written:
                    storage.set_tags(bucket, event.key, event.version_id or "", request.tags)
            place = (owner or storage.owner(bucket) or "", region, bucket)
            call = object_call if key or method == "POST" else bucket_call
            logged = call(place, request.requester, method, key, headers, body, query_params, answer, request.written)
            if logged is not None and place[0]:
                self._log(logged, uuid.uuid4().hex[:16].upper())
            return answer

        return dispatch

    @staticmethod
    def _may_list(bucket: str, requester: Requester) -> bool:
        """S3 API Reference, "HeadObject": what is missing is 404 for callers with ``s3:ListBucket``, else 403."""
        issuer = requester.identity.get("sessionContext", {}).get("sessionIssuer", {})
        if not _app.AUTH or not issuer:
            return True
        arn, region, policy = f"arn:aws:s3:::{bucket}", storage.region(bucket), storage.policy(bucket)
        return iam.role_allows(issuer["arn"], "s3:ListBucket", arn, region, policy, storage.owner(bucket))

    def _retagged(self, bucket: str, key: str, version_id: str) -> None:
        kept = storage.versions(bucket, key)
        version_id = version_id or str(kept[-1]["version_id"] if kept else "")
        event = self._event(bucket, key, "s3:ObjectTagging:Put", version_id)
        self.clock.after(0, event.account, event.region, lambda: self.replication.retag(event))

    def _refusing(self, old: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def dispatch(  # noqa: PLR0913, PLR0917 - the emulator's signature
            method: str,
            path: str,
            headers: dict[str, str],
            body: bytes,
            query_params: dict[str, list[str]],
            request_id: str,
        ) -> Any:  # noqa: ANN401
            refused = self._refusal(method, path, headers, body, query_params, request_id)
            return refused or await old(method, path, headers, body, query_params, request_id)

        return dispatch

    def _refusal(  # noqa: PLR0913, PLR0917 - the emulator's signature
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query_params: dict[str, list[str]],
        request_id: str,
    ) -> tuple[int, dict[str, str], bytes] | None:
        if not self.faults.active("error"):
            return None
        routing = _app._routing_params(method, path, headers, body, query_params)
        service = str(_router.detect_service(method, path, headers, routing))
        target = headers.get("x-amz-target", "")
        action = routing.get("Action", "")
        facts = {
            "service": service,
            "operation": target.rsplit(".", 1)[-1] or (action[0] if isinstance(action, list) else action) or method,
            "account": str(_responses.get_account_id()),
            "region": str(_responses.get_region()),
            "resource": f"{path} {body.decode('utf-8', 'replace')} {path}?{'&'.join(query_params)}",
        }
        fault = self.faults.strike("error", facts)
        if fault is None:
            return None
        if service == "s3":
            return faults.s3_refusal(fault, request_id)
        return faults.refusal(fault, json_protocol=bool(target) or service == "lambda", request_id=request_id)

"""Set-up: look what is there and what has to be, and do what is missing. Running it again changes nothing.

:func:`look` and :func:`look_for_removal` only ask; :func:`execute` acts. What could not be done is in the report,
each with its reason; the rest is done all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from crr_monitor.aws import bucket_settings
from crr_monitor.aws.bucket_settings import Change, OverlapError
from crr_monitor.aws.discovery import GONE as NO_BUCKET
from crr_monitor.aws.discovery import PER_SECOND, Discovery, Pace
from crr_monitor.aws.patterns import buckets_in
from crr_monitor.aws.plan_model import Action, Resource, Stack, Watched, watched_buckets
from crr_monitor.aws.record import BUCKETS, REGIONS
from crr_monitor.aws.regional import perform, read, read_trails
from crr_monitor.aws.selectors import Trail, lacking_reads, uncovered, without_management_events
from crr_monitor.aws.sessions import AwsError, call
from crr_monitor.aws.setup_plan import desired, diff
from crr_monitor.core.topology import BucketConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from crr_monitor.aws.record import Record
    from crr_monitor.aws.sessions import Sessions

WORKERS = 12
_NOBODY = "no trail logs its writes, so nothing is seen of it"


class Known(Struct, frozen=True):
    """What set-up knows besides what its own account tells.

    ``configs`` are other accounts' configurations; ``destinations`` the buckets of this account that others replicate
    to; ``agent_regions`` where other accounts have such buckets; ``topic_regions`` where an agent was told that the
    hub has its topic.
    """

    configs: tuple[BucketConfig, ...] = ()
    destinations: tuple[str, ...] = ()
    agent_regions: tuple[str, ...] = ()
    topic_regions: tuple[str, ...] = ()


class Situation(Struct, frozen=True):
    """What was found, and what is to be done about it.

    ``unseen`` are buckets of which the event source tells nothing yet; ``blocked`` says of those whose own settings, or
    policies, are in the way, what it is; ``unreached`` are those problems that say only that a Region does not answer,
    by Region.
    """

    stack: Stack
    actions: tuple[Action, ...] = ()
    regions_before: tuple[str, ...] = ()
    regions_after: tuple[str, ...] = ()
    watched: tuple[Watched, ...] = ()
    changes: tuple[Change, ...] = ()
    restore: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    unreached: Mapping[str, Sequence[str]] = {}


class Report(Struct):
    """What was done and what was not.

    ``problems`` need somebody; ``warnings`` need somebody some day; ``notes`` are worth knowing; ``patches`` are for
    owners of buckets. ``unseen``, ``blocked`` and ``unreached`` are as in :class:`Situation`. What is blocked fails no
    deployment, as hundreds of buckets would have to be in order for that: the caller says where it belongs.
    """

    done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    patches: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    unreached: dict[str, list[str]] = field(default_factory=dict)

    def summary(self) -> str:
        """One line."""
        counts = f"{len(self.done)} done, {len(self.problems)} problems, {len(self.notes)} notes"
        counts += f", {len(self.blocked)} buckets not watched" if self.blocked else ""
        told = "; ".join([*self.problems, *(f"WARNING: {each}" for each in self.warnings)])
        return f"{counts}: {told}" if told else counts


def _each(names: Iterable[Any], ask: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """The answer for each name, or the :class:`AwsError` in place of it; asked in parallel."""

    def safely(name: Any) -> Any:  # noqa: ANN401 - one of the callers' types
        try:
            return ask(name)
        except AwsError as error:
            return error

    names = list(names)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="set-up") as pool:
        yield from zip(names, pool.map(safely, names), strict=True)


def look(sessions: Sessions, stack: Stack, record: Record, found: Discovery, known: Known | None = None) -> Situation:
    """What there is and what has to be done, for what discovery found.

    Raises:
        AwsError: the record could not be read, so it is not known what set-up made before.
    """
    known = known or Known()
    before, changed = _remembered(record)
    places = sorted({stack.region, *before, *found.buckets.values(), *known.agent_regions})
    existing, unread, unreached = _read(sessions, stack, places)
    notes = [str(each) for each in found.unknown]
    watched = watched_buckets(found.buckets, [*found.configs, *known.configs], known.destinations)
    watched = _keep_unknown(found, watched, existing)
    plan = desired(stack, watched, found.buckets.values(), known.agent_regions)
    wanted = [resource for resource in plan.resources if resource.region not in unread]
    # A Region that is closed to the account is no trouble as long as nothing has to be watched there.
    needed = {stack.region, *before, *known.agent_regions, *(each.region for each in watched)}
    problems = [text for region, text in unread.items() if region in needed]
    notes += [text for region, text in unread.items() if region not in needed]
    topics = sorted({stack.region, *(each.region for each in plan.resources if each.kind == "topic")})
    ready = topics if stack.kind == "hub" else known.topic_regions
    reachable = _with_receiver(stack, watched, ready, notes)
    changes, blocked, failed = _bucket_changes(sessions, stack, reachable, unreached)
    restore = _no_longer_needed(stack, watched, changed, found)
    blind = _look_at_trails(sessions, stack, watched, sorted({stack.region, *found.buckets.values()}), notes)
    awaited = {each.bucket for each in watched} - {each.bucket for each in reachable}
    return Situation(
        stack,
        tuple(diff(existing, wanted, plan.untouched | ({"trail"} if blind else frozenset()))),
        before,
        tuple(sorted({resource.region for resource in wanted} | unread.keys() & {*before})),
        watched,
        tuple(changes),
        tuple(restore),
        tuple(topics) if stack.kind == "hub" and "S3Notifications" in stack.sources else (),
        (*problems, *plan.problems, *failed),
        (*notes, *plan.notes),
        tuple(sorted({*blind, *awaited, *blocked, *(change.bucket for change in changes)})),
        tuple(blocked.values()),
        unreached,
    )


def look_for_removal(sessions: Sessions, stack: Stack, record: Record, also: Iterable[str] = ()) -> Situation:
    """What has to go when the stack goes.

    Everything that set-up made, in every Region it was ever in, and in those named here; raises as :func:`look`.
    """
    remembered, changed = _remembered(record)
    before = tuple(sorted({*remembered, *also}))
    existing, unread, _ = _read(sessions, stack, sorted({stack.region, *before}))
    after, problems = tuple(sorted(unread.keys() & {*before})), tuple(unread.values())
    actions = tuple(diff(existing, ()))
    return Situation(stack, actions, before, after, restore=tuple(sorted(changed)), problems=problems)


def _remembered(record: Record) -> tuple[tuple[str, ...], set[str]]:
    """The Regions in which something was made, and the buckets whose settings were changed."""
    return tuple(record.get(REGIONS) or ()), set(record.get(BUCKETS) or {})


def _read(
    sessions: Sessions, stack: Stack, regions: list[str]
) -> tuple[list[Resource], dict[str, str], dict[str, list[str]]]:
    """What is there, of the Regions that could not be asked why not, and those of them that do not answer."""
    existing: list[Resource] = []
    unread: dict[str, str] = {}
    unreached: dict[str, list[str]] = {}
    for region, answer in _each(regions, lambda region: read(sessions, stack, region)):
        if isinstance(answer, AwsError):
            unread[region] = f"{region} could not be asked, so nothing is changed there: {answer}"
            if answer.unreachable:
                unreached[region] = [unread[region]]
        else:
            existing += answer
    return existing, unread, unreached


def _keep_unknown(found: Discovery, watched: tuple[Watched, ...], existing: list[Resource]) -> tuple[Watched, ...]:
    """Not knowing a bucket's rules is no reason to stop watching.

    While one that is watched cannot be asked, none is dropped.
    """
    rules = [resource for resource in existing if resource.kind == "rule"]
    before = {bucket for rule in rules for bucket in buckets_in(rule.properties["EventPattern"])}
    if not before & {each.bucket for each in found.unknown}:
        return watched
    left = (before & found.buckets.keys()) - {each.bucket for each in watched}
    return (*watched, *(Watched(bucket, found.buckets[bucket]) for bucket in sorted(left)))


def _no_longer_needed(stack: Stack, watched: tuple[Watched, ...], changed: set[str], found: Discovery) -> list[str]:
    """The buckets whose settings set-up has changed and need not be so any more.

    None while one of them cannot be asked.
    """
    if changed & {each.bucket for each in found.unknown}:
        return []
    needed = {each.bucket for each in watched} if stack.sources != {"CloudTrail"} else set()
    return sorted(changed - needed)


def _with_receiver(
    stack: Stack, watched: tuple[Watched, ...], ready: Iterable[str], notes: list[str]
) -> tuple[Watched, ...]:
    """The buckets that can be changed now: S3 refuses a notification to a topic that is not there yet."""
    if stack.event_source != "S3Notifications":
        return watched
    waiting = sorted({each.region for each in watched} - {*ready})
    notes += [
        f"the hub's topic in {region} is awaited; the hub makes it and tells when it is there" for region in waiting
    ]
    return tuple(each for each in watched if each.region not in waiting)


def _bucket_changes(
    sessions: Sessions, stack: Stack, watched: tuple[Watched, ...], unreached: dict[str, list[str]]
) -> tuple[list[Change], dict[str, str], list[str]]:
    """Changes of buckets' settings that the event source needs; what is in their way, by bucket; what is not known."""
    needed = {each.bucket: each for each in watched if stack.event_source != "CloudTrail"}
    changes: list[Change] = []
    blocked: dict[str, str] = {}
    problems: list[str] = []
    pace = Pace(PER_SECOND)

    def ask(bucket: str) -> dict[str, Any]:
        pace.wait()
        return read_configuration(sessions, needed[bucket].region, bucket)

    for bucket, answer in _each(sorted(needed), ask):
        if isinstance(answer, AwsError) and answer.unreachable:
            problems.append(f"bucket {bucket}: {answer}")
            unreached.setdefault(needed[bucket].region, []).append(problems[-1])
            continue
        if isinstance(answer, AwsError):
            blocked[bucket] = _blocked(bucket, f"its notification settings could not be read: {answer}")
            continue
        try:
            wanted = bucket_settings.wanted_configuration(stack, needed[bucket], answer)
        except OverlapError as error:
            blocked[bucket] = _blocked(bucket, str(error))
            continue
        if wanted is not None:
            changes.append(Change(bucket, needed[bucket].region, answer, wanted))
    return changes, blocked, problems


def _blocked(bucket: str, why: str) -> str:
    return f"bucket {bucket} is not watched: {why.removeprefix(f'bucket {bucket}: ')}"


def read_configuration(sessions: Sessions, region: str, bucket: str) -> dict[str, Any]:
    """A bucket's notification configuration; raises ``AwsError``."""
    client = sessions.client("s3", region)
    operation = "s3:GetBucketNotificationConfiguration"
    request = {"Bucket": bucket, "ExpectedBucketOwner": sessions.account}
    return bucket_settings.configuration(call(operation, client.get_bucket_notification_configuration, **request))


def _look_at_trails(
    sessions: Sessions, stack: Stack, watched: tuple[Watched, ...], regions: list[str], notes: list[str]
) -> tuple[str, ...]:
    """Notes what trails do not log, as far as they can be asked; gives the buckets whose writes none of them logs.

    Trails are told of, never changed.
    """
    trails: dict[str, Trail] = {}
    for region, answer in _each(regions, lambda region: read_trails(sessions, region)):
        if isinstance(answer, AwsError):
            notes.append(f"the trails of {region} could not be asked: {answer}")
        else:
            trails.update({trail.arn: trail for trail in answer})
    known = list(trails.values())
    notes += [f"the selectors of trail {trail.arn} could not be asked" for trail in known if trail.selectors is None]
    blind = without_management_events(regions, known)
    if blind and not any(trail.selectors is None for trail in known):
        notes.append(
            f"no trail logs management events in {', '.join(blind)}: new rules there are noticed within the hour"
        )
    if stack.event_source != "CloudTrail" or stack.trail_bucket:
        return ()
    others = [trail for trail in known if trail.arn != stack.arn("cloudtrail", stack.region, f"trail/{stack.trail}")]
    unseen = uncovered(stack.partition, watched, others)
    own_stays = len(others) < len(known)
    told = "no other trail logs its writes, so the stack's own stays" if own_stays else _NOBODY
    notes += [f"bucket {bucket}: {told}" for bucket in unseen]
    notes += lacking_reads(stack, watched, others)
    return unseen


def execute(sessions: Sessions, situation: Situation, record: Record, *, change_buckets: bool = False) -> Report:
    """Do what :func:`look` found: Regions side by side, within one Region in order.

    Where something failed in a Region, nothing is removed there. Buckets' settings are changed only with
    ``change_buckets``; else the patches are in the report.

    Raises:
        AwsError: the record could not be written. Before anything was made, or when all was done.
    """
    stack = situation.stack
    report = Report(problems=list(situation.problems), notes=list(situation.notes), blocked=list(situation.blocked))
    report.unseen = [*situation.unseen]
    report.unreached = {region: [*texts] for region, texts in situation.unreached.items()}
    touched = {action.resource.region for action in situation.actions}
    noted = sorted({*situation.regions_before, *situation.regions_after, *touched})
    if noted or situation.regions_before:
        record.put(REGIONS, noted)
    by_region: dict[str, list[Action]] = {}
    for action in situation.actions:
        by_region.setdefault(action.resource.region, []).append(action)
    left = set(situation.regions_after)
    for region, (done, problems, reached) in _each(by_region, lambda region: _run(sessions, stack, by_region[region])):
        report.done += done
        report.problems += problems
        left |= {region} if problems else set()
        if not reached:
            report.unreached.setdefault(region, []).extend(problems)
    _settle_buckets(sessions, situation, record, report, change_buckets=change_buckets)
    if not situation.regions_after and not report.problems:
        record.forget(REGIONS)
    elif sorted(left) != noted:
        record.put(REGIONS, sorted(left))
    return report


def _run(sessions: Sessions, stack: Stack, actions: Sequence[Action]) -> tuple[list[str], list[str], bool]:
    """What was done and what was not, and whether AWS has refused any of that, or all was done."""
    done: list[str] = []
    problems: list[str] = []
    refused = False
    for action in actions:
        if action.verb == "delete" and problems and any(each.verb != "delete" for each in actions):
            problems.append(f"{action.resource} stays until the rest of its Region is in order")
            continue
        try:
            perform(sessions, stack, action)
        except AwsError as error:
            refused = refused or not error.unreachable
            problems.append(f"could not {action.verb} {action.resource}: {error}")
        else:
            done.append(str(action))
    return done, problems, refused or not problems


def _settle_buckets(
    sessions: Sessions, situation: Situation, record: Record, report: Report, *, change_buckets: bool
) -> None:
    watched = {each.bucket: each for each in situation.watched}
    for change in situation.changes:
        if not change_buckets:
            report.patches.append(bucket_settings.patch(change))
            report.notes.append(f"bucket {change.bucket}: its owner has to apply a patch, until then it is not seen")
            continue
        try:
            if _change_bucket(sessions, situation.stack, record, watched[change.bucket]):
                report.done.append(f"change notifications of bucket {change.bucket}: the event source needs it")
            report.unseen.remove(change.bucket)
        except (AwsError, OverlapError) as error:
            report.blocked.append(_blocked(change.bucket, str(error)))
    restore(sessions, situation.stack, record, situation.restore, report)


def restore(sessions: Sessions, stack: Stack, record: Record, buckets: Iterable[str], report: Report) -> None:
    """Take out of buckets' settings what set-up put into them, and forget it."""
    for bucket in buckets:
        previous = dict(record.get(BUCKETS))
        try:
            if _restore_bucket(sessions, stack, bucket, previous.pop(bucket)):
                report.done.append(f"restore notifications of bucket {bucket}: set-up had changed them")
            record.put(BUCKETS, previous)
        except AwsError as error:
            report.problems.append(f"bucket {bucket}: {error}")


def _change_bucket(sessions: Sessions, stack: Stack, record: Record, each: Watched) -> bool:
    """Merge once more with what is there now; what was there before our first change is kept first."""
    current = read_configuration(sessions, each.region, each.bucket)
    wanted = bucket_settings.wanted_configuration(stack, each, current)
    if wanted is None:
        return False
    previous = record.get(BUCKETS) or {}
    if each.bucket not in previous:
        record.put(BUCKETS, {**previous, each.bucket: {"region": each.region, "configuration": current}})
    _write_configuration(sessions, each.region, each.bucket, wanted)
    return True


def _restore_bucket(sessions: Sessions, stack: Stack, bucket: str, previous: dict[str, Any]) -> bool:
    region = previous["region"]
    try:
        current = read_configuration(sessions, region, bucket)
        wanted = bucket_settings.restored(stack, current, previous["configuration"])
        if wanted is not None:
            _write_configuration(sessions, region, bucket, wanted)
    except AwsError as error:
        if error.code == NO_BUCKET:
            return False
        raise
    return wanted is not None


def _write_configuration(sessions: Sessions, region: str, bucket: str, wanted: dict[str, Any]) -> None:
    call(
        "s3:PutBucketNotificationConfiguration",
        sessions.client("s3", region).put_bucket_notification_configuration,
        Bucket=bucket,
        ExpectedBucketOwner=sessions.account,
        NotificationConfiguration=wanted,
    )

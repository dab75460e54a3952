"""Messages that others captured or documented, where a collection of them lies beside the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import pytest

from crr_monitor.core.events import Event, Mark, Written
from crr_monitor.decode import decode
from tests.decode.results import failed_of, written_of

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="no collection of messages beside the repository")

Row: TypeAlias = tuple[list[str], dict[str, int], list[str]]
"""Events in short, what is ignored, why something is rejected."""

U = "unversioned"
DOC_CREATED = "Written UNKNOWN {} example-key IYV3p45BT0ac8hjHg1houSdS1a.Mro8e 5"
DOC_MARKER = "Written UNKNOWN {} example-key mtB0cV.jejK63XkRNceanNMC.qXPWLeK None marker lifecycle"
HAPPY_FACE = "Written UNKNOWN sourcebucket Happy Face.jpg version 1024"
NOT_JSON = "not JSON: JSON is malformed: invalid character (byte {})"
NO_DATE = "not an RFC 3339 time: 'date'"
SIGNALS = "stackd-repl-signals-83f61b2ac09e"


EXPECTED: dict[str, Row] = {
    "cloudtrail-event/awsdocs-batchops-jobstatuschanged.json": ([], {"AwsServiceEvent": 1}, []),
    "cloudtrail-event/otrf-getobject-logstash-1.json": ([], {"GetObject": 1}, []),
    "cloudtrail-event/otrf-getobject-logstash-2.json": ([], {"GetObject": 1}, []),
    "cloudtrail-event/otrf-listobjects-logstash.json": ([], {"ListObjects": 1}, []),
    "cloudtrail-event/panther-copyobject-crossaccount-kms.json": ([], {U: 1}, []),
    "cloudtrail-event/panther-copyobject-lowercase-arn.json": ([], {U: 1}, []),
    "cloudtrail-event/panther-deletebucketreplication-error.json": ([], {"DeleteBucketReplication with error": 1}, []),
    "cloudtrail-event/panther-deleteobject.json": ([], {U: 1}, []),
    "cloudtrail-event/panther-deleteobjects-multi.json": ([], {"DeleteObjects": 1}, []),
    "cloudtrail-event/panther-putbucketreplication.json": ([], {"PutBucketReplication": 1}, []),
    "cloudtrail-event/panther-putbucketversioning-root.json": ([], {"PutBucketVersioning": 1}, []),
    "cloudtrail-event/panther-putobject-bytesin.json": ([], {U: 1}, []),
    "cloudtrail-event/panther-putobject-no-requestparameters.json": (
        [],
        {},
        ["requestParameters.bucketName is missing"],
    ),
    "cloudtrail-event/panther-vpce-accessdenied.json": ([], {"AwsVpceEvent": 1}, []),
    "cloudtrail-event/panther-vpce-getobject-crossaccount.json": ([], {"AwsVpceEvent": 1}, []),
    "cloudtrail-event/stackd-abortmultipart.json": ([], {"AbortMultipartUpload": 1}, []),
    "cloudtrail-event/stackd-completemultipart-invalidpart.json": ([], {"CompleteMultipartUpload with error": 1}, []),
    "cloudtrail-event/stackd-completemultipart-nosuchupload.json": ([], {"CompleteMultipartUpload with error": 1}, []),
    "cloudtrail-event/stackd-completemultipart-repeat.json": ([], {U: 1}, []),
    "cloudtrail-event/stackd-completemultipart.json": ([], {U: 1}, []),
    "cloudtrail-event/stackd-createmultipart.json": ([], {"CreateMultipartUpload": 1}, []),
    "cloudtrail-event/stackd-getobject-aws-internal.json": ([], {"GetObject": 1}, []),
    "cloudtrail-event/stackd-getobjectattributes.json": ([], {"GetObjectAttributes": 1}, []),
    "cloudtrail-event/stackd-headobject-nosuchkey.json": ([], {"HeadObject with error": 1}, []),
    "cloudtrail-event/stackd-putobject.json": ([], {U: 1}, []),
    "cloudtrail-event/stackd-putobjecttagging.json": ([], {"PutObjectTagging": 1}, []),
    "cloudtrail-event/stackd-restoreobject-202.json": ([], {"RestoreObject": 1}, []),
    "cloudtrail-event/stackd-restoreobject.json": ([], {"RestoreObject": 1}, []),
    "cloudtrail-event/stackd-uploadpart-nosuchupload.json": ([], {"UploadPart with error": 1}, []),
    "cloudtrail-event/stackd-uploadpart.json": ([], {"UploadPart": 1}, []),
    "cloudtrail-event/stackd-uploadpartcopy-nosuchupload.json": ([], {"UploadPartCopy with error": 1}, []),
    "cloudtrail-event/stratus-copyobject-ssec.json": ([], {U: 1}, []),
    "cloudtrail-event/stratus-deleteobject-minimal.json": ([], {U: 1}, []),
    "cloudtrail-event/trailscraper-listobjects.json": ([], {"ListObjects": 1}, []),
    "cloudtrail-log/awsdocs-s3-entries.json": ([], {"ListBuckets": 1, "PutBucketAcl": 1, "GetBucketVersioning": 1}, []),
    "cloudtrail-log/coralogix-cloudtrail-mixed.json": ([], {"GetBucketAcl": 5, "other service": 15}, []),
    "cloudtrail-replication/stackd-replica-deletemarker.json": ([], {}, ["eventTime is missing"]),
    "cloudtrail-replication/stackd-replica-put-tagging.json": ([], {"PutObjectTagging": 1}, []),
    "cloudtrail-replication/stackd-replica-put.json": ([], {}, ["eventTime is missing"]),
    "cloudtrail-replication/stackd-source-getacl-kms.json": ([], {"GetObjectAcl": 1}, []),
    "cloudtrail-replication/stackd-source-getacl.json": ([], {"GetObjectAcl": 1}, []),
    "cloudtrail-replication/stackd-source-getobject-accessdenied.json": ([], {}, ["eventTime is missing"]),
    "cloudtrail-replication/stackd-source-getobject.json": ([], {"GetObject": 1}, []),
    "cloudtrail-replication/stackd-source-gettagging-b.json": ([], {"GetObjectTagging": 1}, []),
    "cloudtrail-replication/stackd-source-gettagging.json": ([], {"GetObjectTagging": 1}, []),
    "cloudtrail-replication/stackd-source-head-deletemarker-405.json": ([], {"HeadObject with error": 1}, []),
    "cloudtrail-replication/stackd-source-head.json": ([], {"HeadObject": 1}, []),
    "eventbridge-cloudtrail/awsdocs-batchops-jobcreated.json": ([], {"AwsServiceEvent": 1}, []),
    "eventbridge-cloudtrail/awsdocs-batchops-jobstatuschanged.json": ([], {"AwsServiceEvent": 1}, []),
    "eventbridge-cloudtrail/custodian-createbucket-assumedrole.json": ([], {"CreateBucket": 1}, []),
    "eventbridge-cloudtrail/custodian-createbucket-root.json": ([], {"CreateBucket": 1}, []),
    "eventbridge-cloudtrail/powertools-headobject.json": ([], {"HeadObject": 1}, []),
    "eventbridge-cloudtrail/streamalert-putobjectacl.json": ([], {"PutObjectAcl": 1}, []),
    "eventbridge-native/awsdocs-object-created-tags.json": ([DOC_CREATED.format("amzn-s3-demo-bucket1")], {}, []),
    "eventbridge-native/awsdocs-object-deleted-lifecycle-v11.json": (
        [DOC_MARKER.format("amzn-s3-demo-bucket1")],
        {},
        [],
    ),
    "eventbridge-native/awsdocs2023-object-deleted-lifecycle.json": (
        [DOC_MARKER.format("DOC-EXAMPLE-BUCKET1")],
        {},
        [],
    ),
    "eventbridge-native/datadog-minimal-b.json": ([], {U: 1}, []),
    "eventbridge-native/datadog-minimal.json": ([], {U: 1}, []),
    "eventbridge-native/dataprepper-object-created.json": ([DOC_CREATED.format("DOC-EXAMPLE-BUCKET1")], {}, []),
    "eventbridge-native/dotnet-object-created.json": ([DOC_CREATED.format("DOC-EXAMPLE-BUCKET1")], {}, []),
    "eventbridge-native/dotnet-object-deleted.json": (
        ["Written UNKNOWN DOC-EXAMPLE-BUCKET1 example-key 1QW9g1Z99LUNbvaaYVpW9xDlOLU.qxgF None marker"],
        {},
        [],
    ),
    "eventbridge-native/dotnet-object-restore.json": ([], {"Object Restore Completed": 1}, []),
    "eventbridge-native/localstack-aws-object-acl-updated.json": ([], {"Object ACL Updated": 1}, []),
    "eventbridge-native/localstack-aws-object-created.json": ([], {U: 1}, []),
    "eventbridge-native/localstack-aws-object-deleted-version.json": ([], {}, [f"time: {NO_DATE}"]),
    "eventbridge-native/localstack-aws-restore-initiated.json": ([], {"Object Restore Initiated": 1}, []),
    "eventbridge-native/powertools-capture-created.json": ([], {U: 1}, []),
    "eventbridge-native/powertools-object-created.json": ([], {U: 1}, []),
    "eventbridge-native/powertools-object-deleted.json": ([], {U: 1}, []),
    "eventbridge-native/powertools-object-expired.json": ([], {U: 1}, []),
    "eventbridge-native/promtail-object-created.json": ([], {U: 1}, []),
    "eventbridge-native/stackd-created-multipart.json": ([], {U: 1}, []),
    "eventbridge-native/stackd-created-put.json": ([], {U: 1}, []),
    "eventbridge-native/stackd-deleted.json": ([], {U: 1}, []),
    "eventbridge-native/stackd-tags-added.json": ([], {"Object Tags Added": 1}, []),
    "negative/chalice-sns-lambda.json": ([], {}, [NOT_JSON.format(0)]),
    "negative/coralogix-sns-logline.json": ([], {}, [NOT_JSON.format(1)]),
    "negative/powertools-sns-ses.json": ([], {"unknown message": 1}, []),
    "negative/powertools-sqs-plain-text.json": ([], {}, [NOT_JSON.format(4)]),
    "negative/powertools-sqs-sns-text.json": ([], {}, [NOT_JSON.format(5)]),
    "s3-compatible-minio/miniodocs-put.json": ([], {U: 1}, []),
    "s3-compatible-minio/trustification-minio-2023.json": ([], {U: 1}, []),
    "s3-compatible-other/noobaa-lifecycle-expiration.json": ([], {U: 1}, []),
    "s3-notification/awsdocs-intelligent-tiering.json": ([], {"IntelligentTiering": 1}, []),
    "s3-notification/awsdocs-lambda-java-notification.json": ([], {U: 1}, []),
    "s3-notification/awsdocs-lifecycle-expiration.json": ([], {U: 1}, []),
    "s3-notification/awsdocs-put-example.json": (
        ["Written UNKNOWN mybucket HappyFace.jpg 096fKKXTRTtl3on89fVO.nfljtsv6qko 1024"],
        {},
        [],
    ),
    "s3-notification/awsdocs-structure-v22-placeholders.json": ([], {}, ["eventName is no event's name: 'event-type'"]),
    "s3-notification/awsdocs2023-structure-placeholders.json": ([], {}, ["eventName is no event's name: 'event-type'"]),
    "s3-notification/chalice-plus-key-minimal.json": ([], {}, ["eventName is missing"]),
    "s3-notification/chalice-put.json": ([], {U: 1}, []),
    "s3-notification/chalice-utf8-percent-key.json": ([], {}, ["eventName is missing"]),
    "s3-notification/dotnet-delete.json": ([], {U: 1}, []),
    "s3-notification/dotnet-two-records-plus.json": ([], {U: 2}, []),
    "s3-notification/fluentd-invalid-utf8-key.json": ([], {}, ["eventName is missing"]),
    "s3-notification/fluentd-object-without-key.json": ([], {}, ["eventName is missing"]),
    "s3-notification/fluentd-s3-empty.json": ([], {}, ["eventName is missing"]),
    "s3-notification/lambda-java-put.json": ([], {U: 1}, []),
    "s3-notification/lambdago-glacier.json": ([], {"ObjectRestore:Completed": 1}, []),
    "s3-notification/lambdago-intelligent-tiering.json": ([], {"IntelligentTiering:TransitionAccess": 1}, []),
    "s3-notification/lambdago-lifecycle-transition.json": ([], {"LifecycleTransition": 1}, []),
    "s3-notification/lambdago-put-percent20.json": ([HAPPY_FACE], {}, []),
    "s3-notification/lambdago-put-urldecodedkey.json": ([HAPPY_FACE], {}, []),
    "s3-notification/lambdago-restore.json": ([], {"ObjectRestore:Completed": 1}, []),
    "s3-notification/localstack-aws-copy.json": ([], {U: 1}, []),
    "s3-notification/localstack-aws-delete-version.json": ([], {}, [f"eventTime: {NO_DATE}"]),
    "s3-notification/localstack-aws-deletemarker.json": ([], {}, [f"eventTime: {NO_DATE}"]),
    "s3-notification/localstack-aws-key-at-sign.json": ([], {U: 1}, []),
    "s3-notification/localstack-aws-multipart.json": ([], {U: 1}, []),
    "s3-notification/localstack-aws-put-versioned.json": ([], {}, [f"eventTime: {NO_DATE}"]),
    "s3-notification/localstack-aws-restore-completed.json": ([], {"ObjectRestore:Completed": 1}, []),
    "s3-notification/localstack-aws-tagging.json": ([], {"ObjectTagging:Put": 1}, []),
    "s3-notification/powertools-delete.json": ([], {U: 1}, []),
    "s3-notification/powertools-glacier.json": ([], {U: 1}, []),
    "s3-notification/powertools-put.json": ([], {U: 1}, []),
    "s3-notification/powertools-ts-lifecycle-expiration.json": ([], {U: 1}, []),
    "s3-notification/promtail-generated-tags.json": (
        [
            (
                "Written UNKNOWN aws-landing-zone-logs-000000000000-eu-central-1 "
                "AWSLogs/000000000000/CloudTrail/us-east-1/"
                "2026/07/16/example_CloudTrail_us-east-1.json.gz 096fKKXTRTtl3on89fVO.nfljtsv6qko 1469"
            )
        ],
        {},
        [],
    ),
    "s3-notification/promtail-put.json": (
        [
            (
                "Written UNKNOWN some-bucket-name SOME-PREFIX/AWSLogs/ACCOUNT-ID/vpcflowlogs/us-east-1/"
                "2023/01/18/end-of-filename.log.gz SOMEID 1042577"
            )
        ],
        {},
        [],
    ),
    "s3-notification/rin-minimal.json": ([], {"PutObject": 1}, []),
    "s3-notification/sam-cli-delete.json": ([], {U: 1}, []),
    "s3-notification/stackd-v26-completemultipart.json": ([], {U: 1}, []),
    "s3-notification/stackd-v26-delete.json": ([], {U: 1}, []),
    "s3-notification/stackd-v26-put.json": ([], {U: 1}, []),
    "s3-notification/stackd-v26-tagging.json": ([], {"ObjectTagging:Put": 1}, []),
    "s3-notification/triggermesh-record-delete.json": (
        ["Deleted another-bucket another-object ANOTHERVERSIONID"],
        {},
        [],
    ),
    "s3-notification/triggermesh-record-put.json": (
        ["Written UNKNOWN example-bucket example-object EXAMPLEVERSIONID 12345"],
        {},
        [],
    ),
    "s3-notification/trustification-put-2023.json": ([], {U: 1}, []),
    "s3-notification-replication/lambdago-failed-replication-awsdoc.json": (
        [
            (
                "Failed amzn-s3-demo-bucket1 amzn-s3-demo-bucket2 replication-test.png "
                "abcdeH0Xp66ep__QDjR76LK7Gc9X4wKO AssumeRoleNotPermitted notification-test-replication-rule"
            )
        ],
        {},
        [],
    ),
    "s3-notification-replication/stackd-failed-assumerole.json": (
        [
            (
                f"Failed {SIGNALS}-assume {SIGNALS}-destination assume/probe ${{version46}} "
                "AssumeRoleNotPermitted signals-assume"
            )
        ],
        {},
        [],
    ),
    "s3-notification-replication/stackd-failed-dst-unversioned.json": (
        [
            (
                f"Failed {SIGNALS}-source {SIGNALS}-unversioned unversioned/probe ${{version44}} "
                "DstBucketUnversioned signals-unversioned"
            )
        ],
        {},
        [],
    ),
    "s3-notification-replication/stackd-failed-dstput.json": (
        [
            (
                f"Failed {SIGNALS}-source {SIGNALS}-destination dstobj/probe ${{version42}} "
                "DstPutObjectNotPermitted signals-dstobj"
            )
        ],
        {},
        [],
    ),
    "s3-notification-replication/stackd-failed-srcgetacl.json": (
        [
            (
                f"Failed {SIGNALS}-source {SIGNALS}-destination srcacl/probe ${{version40}} "
                "SrcGetAclNotPermitted signals-srcacl"
            )
        ],
        {},
        [],
    ),
    "s3-test-event/awsdocs.json": ([], {"test event": 1}, []),
    "s3-test-event/binaryalert.json": ([], {"test event": 1}, []),
    "s3-test-event/fluentd-minimal.json": ([], {"test event": 1}, []),
    "s3-test-event/lambdago.json": ([], {"test event": 1}, []),
    "s3-test-event/promtail.json": ([], {"test event": 1}, []),
    "sns-wrapped/dataprepper-sns-notification.json": ([], {U: 1}, []),
    "sns-wrapped/localstack-aws-sns.json": ([], {U: 1}, []),
    "sns-wrapped/powertools-sns-s3-lambda.json": ([], {U: 1}, []),
    "sns-wrapped/vector-sns-testevent.json": ([], {"test event": 1}, []),
    "sqs-wrapped/coralogix-sqs-b.json": ([], {U: 1}, []),
    "sqs-wrapped/coralogix-sqs-s3.json": ([], {U: 1}, []),
    "sqs-wrapped/datadog-sqs-s3.json": ([], {U: 1}, []),
    "sqs-wrapped/datadog-sqs-sns-s3.json": ([], {U: 1}, []),
    "sqs-wrapped/powertools-sqs-eventbridge-s3.json": ([], {U: 1}, []),
    "sqs-wrapped/powertools-sqs-rawsns-s3.json": ([], {U: 1}, []),
    "sqs-wrapped/powertools-sqs-s3-capture.json": ([], {U: 1}, []),
    "sqs-wrapped/powertools-sqs-s3-multi.json": (
        [
            "Written UNKNOWN example-bucket11 example-object-3.txt 3 3072",
            "Written UNKNOWN example-bucket22 example-object-3.txt 3 3072",
        ],
        {},
        [],
    ),
    "sqs-wrapped/powertools-sqs-s3.json": (
        ["Written UNKNOWN xxx test.pdf yd3d4HaWOT2zguDLvIQLU6ptDTwKBnQV 104681"],
        {},
        [],
    ),
    "sqs-wrapped/powertools-sqs-sns-s3.json": ([], {U: 1}, []),
}


def short(event: Event) -> str:
    """An event in one line: what matters of it."""
    if isinstance(event, Written):
        flags = [
            name for name, is_set in (("marker", event.delete_marker), ("lifecycle", event.by_lifecycle)) if is_set
        ]
        values = [event.mark.name, event.bucket, event.key, event.version_id, event.size, *flags]
    else:
        names = ("source", "destination", "bucket", "key", "version_id", "reason", "rule_id")
        values = [getattr(event, name) for name in names if hasattr(event, name)]
    return " ".join(map(str, [type(event).__name__, *values]))


@pytest.mark.parametrize("name", EXPECTED)
def test_sample(name: str) -> None:
    """A sample gives exactly the events, the ignored kinds and the reasons for rejection of its row."""
    out = decode((CORPUS / name).read_bytes())
    assert ([short(event) for event in out.events], out.ignored, [bad.reason for bad in out.malformed]) == EXPECTED[
        name
    ]


def test_no_sample_vanishes() -> None:
    """Every sample, also one that has no row yet, is taken, ignored or rejected."""
    for path in CORPUS.rglob("*.json"):
        out = decode(path.read_bytes())
        assert out.events or out.ignored or out.malformed, path


def timed(name: str) -> dict[str, object]:
    """A sample whose publisher removed the time, with one."""
    sample: dict[str, object] = json.loads((CORPUS / name).read_bytes())
    return sample | {"eventTime": "2026-09-20T07:44:50Z"}


def test_replica_with_a_time() -> None:
    """The captured replica, given a time, is a replica of 50 bytes under the source's version id."""
    event = written_of(timed("cloudtrail-replication/stackd-replica-put.json"))
    assert (event.mark, event.version_id, event.size) == (Mark.REPLICA, "${v143}", 50)
    assert (event.bucket, event.key) == ("stackd-repl-auth-dst-a01e66f850c0", "same/policy-recovery")


def test_replicated_delete_marker_with_a_time() -> None:
    """The captured delete marker, given a time, is a replica."""
    event = written_of(timed("cloudtrail-replication/stackd-replica-deletemarker.json"))
    assert (event.mark, event.version_id, event.delete_marker) == (Mark.REPLICA, "${marker}", True)


def test_denied_read_with_a_time() -> None:
    """The captured denial, which has no words, given a time, is a failure at the source with S3's code for it."""
    event = failed_of(timed("cloudtrail-replication/stackd-source-getobject-accessdenied.json"))
    assert (event.source, event.destination) == ("stackd-repl-auth-src-a01e66f850c0", None)
    assert (event.version_id, event.reason, event.metadata) == ("${v150}", "SrcGetObjectNotPermitted", False)

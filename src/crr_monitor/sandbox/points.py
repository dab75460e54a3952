"""Every place inside the emulator on which this package relies, checked when the sandbox starts.

``ministack`` has no plug-in interface, so our parts read and replace its module attributes. A version that lacks one
of them, or whose function takes other parameters, is refused with the list of what changed, instead of behaving a
little differently.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

VERSION = "1.5.33"
"""The version of ministack for which this package is written; ``points`` hold for others only if the check says so."""

POINTS: dict[str, dict[str, str | None]] = {
    "app": {
        "AUTH": None,
        "_dispatch_service_request": "method path headers body query_params request_id",
        "_enforce_data_plane": (
            "service iam_action headers query_params request_id "
            "resource_arn service_context auth_error_response named_resource"
        ),
        "_handle_s3_control_request": "path method body query_params request_id headers",
        "_routing_params": "method path headers body query_params",
        "app": "scope receive send",
    },
    "core.arn": {
        "ArnParseError": None,
        "parse_arn": "value",
    },
    "core.concurrency": {
        "active_counts": "",
    },
    "core.iam_actions": {
        "extract_iam_action": "service method path headers body query_params",
        "extract_resource_arn": "service method path headers body query_params region account_id",
        "request_tag_context": "service iam_action body params",
    },
    "core.iam_evaluator": {
        "EvalContext": None,
        "_gather_role_policies": "role_name account_id",
        "_permissions_boundary": "store name account_id",
        "combine_resource_policy": "identity ctx policy owner_account required limits",
        "evaluate": "ctx policies limits",
        "evaluate_resource_policy": "doc ctx service named_only direct_only",
        "request_caller_arn": "headers query_params",
    },
    "core.lambda_runtime": {
        "_lock": None,
        "_workers": None,
        "kill_workers": "workers",
    },
    "core.responses": {
        "error_response_json": "code message status extra message_key content_type",
        "get_account_id": "",
        "get_region": "",
        "get_request_client_ip": "",
        "json_response": "data status content_type",
        "new_uuid": "",
        "now_epoch": "",
        "request_scope": "account_id region",
    },
    "core.router": {
        "detect_service": "method path headers query_params",
        "extract_access_key_id": "headers query_params",
    },
    "services.athena": {
        "_create_named_query": "data",
        "_delete_named_query": "data",
        "_empty_relation": "table_data",
        "_rewrite_data_paths": "query database catalog",
        "_table_references": "query",
        "_table_relation": "table_data files",
    },
    "services.cloudformation": {
        "_stack_events": None,
        "_stacks": None,
        "reset": "",
    },
    "services.cloudformation.changesets": {"_evaluate_conditions": "template params"},
    "services.cloudformation.engine": {"_evaluate_conditions": "template params"},
    "services.cloudformation.handlers": {
        "_ACTION_HANDLERS": None,
        "_evaluate_conditions": "template params",
        "_missing_capabilities": "given required",
        "_parse_template": "template_body",
        "_required_iam_capabilities": "template",
    },
    "services.cloudformation.helpers": {
        "_error": "code message status",
        "_extract_members": "params prefix",
        "_extract_string_members": "params prefix",
        "_p": "params key default",
        "_resolve_document": "params body_key url_key label",
        "_resolve_template": "params",
        "_xml": "status root_tag inner",
    },
    "services.cloudformation.provisioners": {
        "_RESOURCE_HANDLERS": None,
        "_physical_name": "stack_name logical_id lowercase max_len seeded",
        "_zip_inline": "source handler runtime",
    },
    "services.cloudformation.stacks": {"_evaluate_conditions": "template params"},
    "services.cloudtrail": {
        "_DEFAULT_EVENT_SELECTORS": None,
        "_DISPATCH": None,
        "_create_trail": "body",
        "_delete_trail": "body",
        "_event_selectors": None,
        "_get_event_selectors": "body",
        "_get_trail": "body",
        "_get_trail_status": "body",
        "_put_event_selectors": "body",
        "_start_logging": "body",
        "_stop_logging": "body",
        "_trails": None,
        "_update_trail": "body",
        "_visible_trail_items": "include_shadow_trails",
    },
    "services.cloudwatch": {
        "_evaluate_all_alarms": "",
    },
    "services.dynamodb": {
        "_build_change_record": "table event_name old_item new_item view_type",
        "_emit_stream_event": "table_name event_name old_item new_item replicate",
        "_lock": None,
        "_remove_item": "table pk_val sk_val",
        "_sse_description_from_spec": "spec",
        "_tables": None,
        "_ttl_settings": None,
        "_update_continuous_backups": "data",
        "_update_ttl": "data",
        "stream_end_position": "table_name account_id region",
        "stream_records_since": "table_name position limit account_id region",
        "stream_start_position": "table_name account_id region",
    },
    "services.eventbridge": {
        "_apply_input_transformer": "transformer rule view",
        "_archive_event": "event view",
        "_SCHEDULER_TICK_INTERVAL": None,
        "_delete_rule": "data",
        "_dispatch_event": "event view",
        "_dispatch_to_sns": "arn payload",
        "_dispatch_to_sqs": "spec payload sqs_parameters",
        "_ensure_default_bus": "",
        "_event_bus_policies": None,
        "_event_buses": None,
        "_invoke_target": "target event rule view",
        "_pattern_event_view": "event",
        "_put_permission": "data",
        "_remove_permission": "data",
        "_rule_key": "rule_name bus_name",
        "_rules": None,
        "_targets": None,
    },
    "services.firehose": {
        "_DeliveryError": None,
        "_HANDLERS": None,
        "_arrival_time": "cfg",
        "_convert_to_parquet": "conversion data",
        "_deliver_records_to_s3": "stream dest records",
        "_deliver_to_s3": "stream dest record_data lambda_keys",
        "_put_record_batch": "data",
    },
    "services.glue": {
        "_databases": None,
        "_partitions": None,
        "_tables": None,
    },
    "services.iam": {
        "_roles": None,
    },
    "services.kms": {
        "_resolve_key": "key_id_or_arn",
    },
    "services.lambda_svc": {
        "_apply_filter_criteria": "records esm",
        "_dynamodb_stream_positions": None,
        "_dynamodb_stream_positions_lock": None,
        "_dynamodb_stream_table_from_arn_spec": "spec",
        "_emit_lambda_logs": "func request_id log_text error duration_ms log_source",
        "_emit_lambda_metrics": "function_name duration_ms error throttle",
        "_esms": None,
        "_execute_function": "func event",
        "_fetch_code_from_s3": "bucket key version_id",
        "_get_func_record_for_qualifier": "name qualifier",
        "_iter_all_esms": "",
        "_poll_dynamodb_streams": "",
        "_send_ddb_stream_failure_record": "esm func_rec batch stream_arn result condition",
        "_execution_record_for_config": "func config",
        "_functions": None,
        "_get_func_record_for_ref": "function_ref",
        "invalidate_worker": "func_name qualifier account region",
        "invoke_async_with_retry": "func event",
    },
    "services.organizations": {
        "_DISPATCH": None,
        "_accounts": None,
        "_ensure_org": "",
        "_json": "status body",
        "_orgs": None,
        "_ous": None,
        "_roots": None,
        "reset": "",
    },
    "services.s3": {
        "_bucket_notifications": None,
        "_bucket_owner_account": "name",
        "_bucket_policies": None,
        "_bucket_replication": None,
        "_bucket_versioning": None,
        "_buckets": None,
        "_create_multipart_upload": "bucket_name key headers",
        "_deliver_event_to_lambda": "arn event_payload bucket_region",
        "_deliver_event_to_sns": "arn event_payload bucket_region bucket_name",
        "_deliver_event_to_sqs": "arn event_payload bucket_region bucket_name",
        "_dispatch": "method bucket key headers body query_params",
        "_error": "code message status resource extra headers",
        "_event_matches": "event_name patterns",
        "_event_object_key": "key",
        "S3CONTROL_NS": None,
        "_get_object_data": "bucket_name key version_id",
        "_put_object": "bucket_name key body headers",
        "s3control_account_error": "headers",
        "s3control_error": "code message status extra",
        "_fire_s3_event_async": (
            "bucket_name key event_name size etag deletion_type version_id object_extra record_extra"
        ),
        "_key_matches_filter": "key prefix suffix",
        "_list_object_versions": "bucket_name query_params",
        "_maybe_replicate": "bucket_name key obj data tags",
        "_maybe_replicate_delete_marker": "bucket_name key",
        "_multipart_uploads": None,
        "_next_event_sequencer": "event_name",
        "_object_record_from_version": "v",
        "_object_tags": None,
        "_object_versions": None,
        "_parse_notification_config": "bucket_name",
        "_preserve_null_version": "bucket_name key versions prior_obj",
        "_record_delete_marker": "bucket_name key prior_obj",
        "_record_object_version": "bucket_name key prior_obj obj data",
        "_resolve_sse_write_headers": "headers bucket_name",
        "_url_encode": "value",
        "handle_request": (
            "method path headers body query_params "
            "signed_path enforce_bucket_region internal access_point_region access_point"
        ),
    },
    "services.sns": {
        "_topic_by_arn_any_scope": "topic_arn",
        "topic_policy_allows": "topic_arn service source_arn source_account",
    },
    "services.sqs": {
        "_md5_msg_attrs": "attrs",
        "_queue_by_arn": "arn",
        "_queues": None,
        "_receive_messages_for_esm": "queue_url max_number",
        "queue_policy_allows": "queue_arn service source_arn source_account",
    },
}
"""By module: attribute and, where it is a function, its parameters."""


class ChangedError(RuntimeError):
    """ministack is not as this package knows it; the text lists every difference."""


def module(name: str) -> ModuleType:
    """A module of the emulator; no import statement, because types and linters must not need the extra."""
    return importlib.import_module(f"ministack.{name}")


def differences() -> list[str]:
    """What the installed ministack has changed."""
    found = [] if version("ministack") == VERSION else [f"version {version('ministack')} instead of {VERSION}"]
    for name, attributes in POINTS.items():
        holder = module(name)
        for attribute, parameters in attributes.items():
            if not hasattr(holder, attribute):
                found.append(f"{name}.{attribute} is gone")
            elif parameters is not None:
                actual = " ".join(inspect.signature(getattr(holder, attribute)).parameters)
                if actual != parameters:
                    found.append(f"{name}.{attribute} takes ({actual}) instead of ({parameters})")
    return found


def check() -> None:
    """Refuse a ministack that differs.

    Raises:
        ChangedError: with all differences.
    """
    found = differences()
    if found:
        message = f"install ministack=={VERSION}; the one that is installed differs: " + "; ".join(found)
        raise ChangedError(message)


def replace(name: str, attribute: str, wrap: Callable[[Any], Any]) -> None:
    """Put ``wrap(old)`` in the place of an attribute that is listed in :data:`POINTS`."""
    if attribute not in POINTS[name]:
        message = f"{name}.{attribute} is not listed in POINTS"
        raise KeyError(message)
    holder = module(name)
    setattr(holder, attribute, wrap(getattr(holder, attribute)))

"""The DynamoDB store without a DynamoDB: addresses, definitions, portions of statistics, answers that went wrong."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("botocore")

from crr_monitor.core.merge import merge
from crr_monitor.core.statistics import Cell, CellKey
from crr_monitor.stores.base import StoreError
from crr_monitor.stores.dynamodb_calls import TRIES, ConditionFailedError, Table
from crr_monitor.stores.dynamodb_items import PARTS_AT_ONCE, decode_parts, encode_parts, pieces, read_change
from crr_monitor.stores.dynamodb_statistics import (
    CELLS_AT_ONCE,
    COUNTERS_AT_ONCE,
    Place,
    _width,
    counters,
    portions,
    read_cell,
)
from crr_monitor.stores.dynamodb_tables import (
    STATISTICS,
    STATUS,
    Address,
    cloudformation_properties,
    connect,
    parse_address,
)
from tests.core.generated import evidence
from tests.factories import AT, KEY, ONE_WAY, VERSION, merged_by_version, replica, user_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from crr_monitor.core.events import Event
    from crr_monitor.core.evidence import Evidence


class TestAddress:
    """``dynamodb://TABLE[?region=R&endpoint=URL&statistics=TABLE]``."""

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("dynamodb://crr-status", Address("crr-status", "crr-statistics")),
            ("dynamodb://C.S_1-status?region=eu-west-1", Address("C.S_1-status", "C.S_1-statistics", "eu-west-1")),
            ("dynamodb://a?statistics=b", Address("a", "b")),
            (
                "dynamodb://x-status?endpoint=http://127.0.0.1:8000&region=local",
                Address("x-status", "x-statistics", "local", "http://127.0.0.1:8000"),
            ),
        ],
    )
    def test_taken(self, url: str, expected: Address) -> None:
        """The name is the status table's, its case kept; the other table's follows from it or is said."""
        assert parse_address(url) == expected

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("sqlite:///x", "no DynamoDB store: 'sqlite:///x'"),
            ("dynamodb://", "no DynamoDB store"),
            ("dynamodb:///x-status", "no DynamoDB store"),
            ("dynamodb://x-status/y", "no DynamoDB store"),
            ("dynamodb://x", "its name does not end in '-status'"),
            ("dynamodb://x-status?zone=1", "unknown option 'zone'"),
            ("dynamodb://x-status?region=", "option 'region' is empty"),
        ],
    )
    def test_refused(self, url: str, words: str) -> None:
        """What is wrong is said, and the form."""
        with pytest.raises(StoreError) as caught:
            parse_address(url)
        assert words in str(caught.value)
        assert "dynamodb://TABLE[?region=R&endpoint=URL&statistics=TABLE]" in str(caught.value)

    def test_without_region(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no Region is known, the error says how to name one."""
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        with pytest.raises(StoreError, match=r"no Region is known: add \?region="):
            connect(Address("x", "y"))

    def test_without_sdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where boto3 is not installed, the error says what to install."""

        def missing(name: str) -> None:
            raise ImportError(name)

        monkeypatch.setattr(importlib, "import_module", missing)
        with pytest.raises(StoreError, match="a DynamoDB store needs boto3: install it with crr-monitor's extra 'aws'"):
            connect(Address("x", "y"))


def test_definitions() -> None:
    """The tables, as a template has to have them."""
    assert cloudformation_properties(STATUS) == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "object_key", "AttributeType": "S"},
            {"AttributeName": "version_id", "AttributeType": "S"},
            {"AttributeName": "open_in", "AttributeType": "S"},
            {"AttributeName": "sort_at", "AttributeType": "N"},
            {"AttributeName": "due_at", "AttributeType": "N"},
        ],
        "KeySchema": [
            {"AttributeName": "object_key", "KeyType": "HASH"},
            {"AttributeName": "version_id", "KeyType": "RANGE"},
        ],
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "open",
                "KeySchema": [
                    {"AttributeName": "open_in", "KeyType": "HASH"},
                    {"AttributeName": "sort_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            },
            {
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "open_in", "KeyType": "HASH"},
                    {"AttributeName": "due_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            },
        ],
        "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
    }
    assert cloudformation_properties(STATISTICS) == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "kind", "AttributeType": "S"},
            {"AttributeName": "name", "AttributeType": "S"},
        ],
        "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}, {"AttributeName": "name", "KeyType": "RANGE"}],
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
    }


class TestParts:
    """Evidence as attributes."""

    @given(st.lists(evidence, min_size=1, max_size=6), st.data())
    def test_setting_parts_is_merging(self, told: list[Evidence], data: st.DataObject) -> None:
        """Attributes set in any order, any number of times, say what the merged evidence says."""
        item: dict[str, bytes] = {}
        for one in data.draw(st.permutations(told + data.draw(st.lists(st.sampled_from(told), max_size=3)))):
            item.update(encode_parts(one))
        merged = told[0]
        for one in told[1:]:
            merged = merge(merged, one)
        assert decode_parts(merged.key, merged.version_id, item) == merged

    @given(st.lists(evidence, min_size=1, max_size=8), st.integers(1, 5))
    def test_pieces(self, told: list[Evidence], size: int) -> None:
        """Pieces hold every part once."""
        merged = told[0]
        for one in told[1:]:
            merged = merge(merged, one)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("crr_monitor.stores.dynamodb_items.PARTS_AT_ONCE", size)
            cut = [encode_parts(piece) for piece in pieces(merged)]
        assert all(1 <= len(parts) <= size for parts in cut)
        assert [name for parts in cut for name in parts] == list(encode_parts(merged))
        assert list(pieces(merged)) == [merged] or len(encode_parts(merged)) > PARTS_AT_ONCE


keys = st.builds(CellKey, st.integers(0, 3), st.sampled_from("ab"), st.sampled_from("cd"), st.just("r"), st.booleans())
cells = st.builds(
    Cell,
    objects=st.integers(-2, 2),
    lags=st.dictionaries(st.integers(-9, 9), st.integers(1, 3), max_size=4),
    reasons=st.dictionaries(st.sampled_from(["x", "AccessDenied s3:y"]), st.integers(1, 3), max_size=2),
)


class TestPortions:
    """Changes of statistics, cut into transactions."""

    @given(st.lists(st.dictionaries(keys, cells, max_size=9), max_size=12), st.integers(1, 6), st.integers(14, 20))
    def test_nothing_is_lost(self, effects: list[dict[CellKey, Cell]], most: int, wide: int) -> None:
        """However small transactions are: together they add what the entries add, and end at the last entry."""
        told = [(f"{number:040}", cells) for number, cells in enumerate(effects, 1)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("crr_monitor.stores.dynamodb_statistics.CELLS_AT_ONCE", most)
            patch.setattr("crr_monitor.stores.dynamodb_statistics.COUNTERS_AT_ONCE", wide)
            found = list(portions(Place(), told))
        assert all(len(portion.cells) <= most for portion in found)
        assert [portion.place for portion in found] == sorted(
            {portion.place for portion in found}, key=lambda place: (place.sequence, place.portions)
        )
        assert (found[-1].place if found else Place()) == Place(told[-1][0] if told else "")
        assert _sum(portion.cells for portion in found) == _sum(effects)

    def test_cut_between_entries(self) -> None:
        """A transaction ends where the next entry does not fit any more."""
        near = [(str(number), _ones(range(number, number + 60))) for number in range(1, 4)]
        found = list(portions(Place(), near))
        assert [(portion.place.sequence, len(portion.cells)) for portion in found] == [("3", 62)]
        far = [(str(number), _ones(range(100 * number, 100 * number + 60))) for number in range(1, 4)]
        assert [portion.place.sequence for portion in portions(Place(), far)] == ["1", "2", "3"]

    def test_large_entry_goes_on_where_it_was(self) -> None:
        """Of an entry in several portions those that were counted are left out."""
        whole = _ones(range(2 * CELLS_AT_ONCE + 1))
        places = [Place("4", 1), Place("4", 2), Place("5")]
        for counted in range(3):
            found = list(portions(Place("4", counted), [("5", whole)]))
            assert [portion.place for portion in found] == places[counted:]

    def test_wide_cells(self) -> None:
        """One cell never gets more changes at a time than an expression holds."""
        told = [(f"{number:03}", {CellKey(0, "a", "b", "", False): Cell(lags={number: 1})}) for number in range(1, 400)]
        found = list(portions(Place(), told))
        assert [int(portion.place.sequence) for portion in found] == [128, 256, 384, 399]
        assert all(_width(cell) <= COUNTERS_AT_ONCE for portion in found for cell in portion.cells.values())

    @given(keys, cells)
    def test_cell_as_item(self, key: CellKey, cell: Cell) -> None:
        """A cell read back is the cell."""
        item: dict[str, Any] = {name: {"N": str(count)} for name, count in counters(cell).items()}
        item |= {name: {"S": getattr(key, name)} for name in ("source", "destination", "rule_id")}
        item |= {"delete_marker": {"BOOL": key.delete_marker}, "name": {"S": f"{key.slot:010}#x"}}
        assert read_cell(item) == (key, cell)


def _ones(slots: range) -> dict[CellKey, Cell]:
    """One object more in a cell of each slot."""
    return {CellKey(slot, "a", "b", "", False): Cell(objects=1) for slot in slots}


def _sum(told: Any) -> dict[CellKey, Cell]:  # noqa: ANN401 - any iterable of cells by key
    found: dict[CellKey, Cell] = {}
    for one in told:
        for key, cell in one.items():
            found.setdefault(key, Cell()).add(cell)
    return {key: cell for key, cell in found.items() if not cell.empty}


def refusal(code: str, **more: Any) -> Exception:  # noqa: ANN401 - any field of the answer
    """What the SDK raises when DynamoDB refuses."""
    error: type[Exception] = importlib.import_module("botocore.exceptions").ClientError
    return error({"Error": {"Code": code, "Message": "words"}, **more}, "Operation")


class Scripted:
    """A client that gives prepared answers in turn, or raises them, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:  # noqa: ANN401 - answers and exceptions
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:  # noqa: ANN401
            self.asked.append(request)
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def table(*answers: Any) -> tuple[Table, Scripted, list[float]]:  # noqa: ANN401
    """A table with prepared answers; the pauses that it makes are remembered and not made."""
    client, pauses = Scripted(*answers), list[float]()
    return Table(client, "t", pauses.append), client, pauses


CONFLICT = refusal(
    "TransactionCanceledException", CancellationReasons=[{"Code": "None"}, {"Code": "TransactionConflict"}]
)


class TestCalls:
    """Partial answers are asked for again, and errors say what to do."""

    def test_unprocessed_items(self) -> None:
        """What DynamoDB did not write is written again, after a pause, and nothing else."""
        rest = {"t": [{"PutRequest": {"Item": {"a": {"S": "2"}}}}]}
        one, client, pauses = table({"UnprocessedItems": rest}, {"UnprocessedItems": {}})
        one.put_many([{"a": {"S": "1"}}, {"a": {"S": "2"}}])
        assert [len(request["RequestItems"]["t"]) for request in client.asked] == [2, 1]
        assert client.asked[1]["RequestItems"] == rest
        assert len(pauses) == 1

    def test_batches(self) -> None:
        """Writes go 25 at a time, reads 100 at a time."""
        one, client, _ = table({}, {}, {})
        one.put_many([{"a": {"S": str(number)}} for number in range(60)])
        assert [len(request["RequestItems"]["t"]) for request in client.asked] == [25, 25, 10]
        two, client, _ = table({"Responses": {"t": [{"a": {"S": "x"}}]}}, {"Responses": {}})
        assert list(two.get_many([{"a": {"S": str(number)}} for number in range(150)])) == [{"a": {"S": "x"}}]
        assert [len(request["RequestItems"]["t"]["Keys"]) for request in client.asked] == [100, 50]

    def test_unprocessed_keys(self) -> None:
        """What DynamoDB did not read is asked for again."""
        rest = {"t": {"Keys": [{"a": {"S": "2"}}]}}
        first, second = {"a": {"S": "1"}}, {"a": {"S": "2"}}
        answers = {"Responses": {"t": [first]}, "UnprocessedKeys": rest}, {"Responses": {"t": [second]}}
        one, client, _ = table(*answers)
        assert list(one.get_many([first, second])) == [first, second]
        assert client.asked[1]["RequestItems"] == rest

    def test_never_processed(self) -> None:
        """What is not done after all tries is an error that names the table and says that nothing is lost."""
        rest: dict[str, Any] = {"t": [{"PutRequest": {"Item": {}}}]}
        one, client, pauses = table(*[{"UnprocessedItems": rest}] * TRIES)
        with pytest.raises(StoreError, match=r"table t, batch write item: still not done .* nothing is lost"):
            one.put_many([{}])
        assert (len(client.asked), len(pauses)) == (TRIES, TRIES - 1)
        assert 2 < sum(pauses) < 13

    def test_conflict(self) -> None:
        """A transaction that met another one is tried again."""
        one, client, pauses = table(CONFLICT, CONFLICT, {})
        one.transact([{"Key": {}}])
        assert (len(client.asked), len(pauses)) == (3, 2)

    def test_condition(self) -> None:
        """A transaction whose condition does not hold is not tried again, whatever else went wrong."""
        reasons = [{"Code": "ConditionalCheckFailed"}, {"Code": "TransactionConflict"}]
        one, client, _ = table(refusal("TransactionCanceledException", CancellationReasons=reasons))
        with pytest.raises(ConditionFailedError):
            one.transact([{"Key": {}}])
        assert len(client.asked) == 1

    def test_cancelled(self) -> None:
        """A transaction that cannot work is an error with its reasons."""
        reasons = [{"Code": "ValidationError"}, {"Code": "None"}]
        one, _, _ = table(refusal("TransactionCanceledException", CancellationReasons=reasons))
        with pytest.raises(StoreError, match="table t, transact write items: cancelled: ValidationError"):
            one.transact([{"Key": {}}])

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("ThrottlingException", "stayed so through all retries: nothing is lost"),
            ("ProvisionedThroughputExceededException", "stayed so through all retries: nothing is lost"),
            ("AccessDeniedException", "allow the action on this table to the role in use"),
            ("ExpiredTokenException", "the credentials have expired: sign in again"),
            ("ResourceNotFoundException", "deploy the hub, or check --store"),
            ("SomethingNew", "SomethingNew: words"),
        ],
    )
    def test_errors(self, code: str, words: str) -> None:
        """An error names the table, what was tried, DynamoDB's own words, and what to do."""
        one, _, _ = table(refusal(code))
        with pytest.raises(StoreError) as caught:
            one.get({})
        assert str(caught.value).startswith(f"table t, get item: {code}: words")
        assert words in str(caught.value)

    def test_pages(self) -> None:
        """A query goes on until there are no more pages, also over an empty one."""
        pages = {"Items": [{"a": 1}], "LastEvaluatedKey": {"k": 1}}, {"Items": [], "LastEvaluatedKey": {"k": 2}}
        one, client, _ = table(*pages, {"Items": [{"a": 2}]})
        assert list(one.query(7, IndexName="i")) == [{"a": 1}, {"a": 2}]
        assert [request.get("ExclusiveStartKey") for request in client.asked] == [None, {"k": 1}, {"k": 2}]
        assert {request["Limit"] for request in client.asked} == {7}


def image(revision: int, *told: Event) -> dict[str, Any]:
    """An item of the status table as the change stream has it, changed at its revision's number of seconds."""
    known = merged_by_version(told, ONE_WAY)[KEY, VERSION]
    numbers = {"born_at": 1, "revision": revision, "changed_at": 1_000 * revision, "expires_at": 9}
    return {
        "object_key": {"S": KEY},
        "version_id": {"S": VERSION},
        **{name: {"N": str(number)} for name, number in numbers.items()},
        **{name: {"B": body} for name, body in encode_parts(known).items()},
    }


class TestChange:
    """When something changed, and as which revision, is told by the entry alone: the same however often it comes."""

    def test_written(self) -> None:
        """The new image says when it was written; the revision is the one after the change."""
        images = {"OldImage": image(1, user_write()), "NewImage": image(2, user_write(), replica())}
        _, found = read_change({"dynamodb": {"SequenceNumber": "1", **images}})
        assert found is not None
        assert (found.at, found.revision) == (2_000, 2)

    @pytest.mark.parametrize(
        ("told", "at"),
        [(1_795_330_800, AT), (1_795_330_800.0, AT), (datetime(2026, 11, 22, 7, tzinfo=UTC), AT), (None, 0)],
    )
    def test_removed(self, told: object, at: int) -> None:
        """Of what left the table tells, as a number to Lambda and as a time to a reader of the stream."""
        given = {} if told is None else {"ApproximateCreationDateTime": told}
        _, found = read_change({"dynamodb": {"SequenceNumber": "1", "OldImage": image(3, user_write()), **given}})
        assert found is not None
        assert (found.after, found.at, found.revision) == (None, at, 3)

"""Notices: told at once, repeated at most hourly, closed when it is over, and made so that a person can act."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crr_monitor.core.failures import CATALOGUE
from crr_monitor.core.notice_words import KEPT_MS, ascii_subject
from crr_monitor.core.notices import (
    CANARY_LAGS,
    GONE_MS,
    REPEAT_MS,
    Flight,
    Notice,
    Told,
    Unanswered,
    bundled,
    decide,
    decode_canaries,
    decode_unanswered,
    encode_canaries,
    encode_unanswered,
    new_lags,
    remember,
    silent_buckets,
    told_from,
    unanswered_troubles,
)
from crr_monitor.core.statistics import UNKNOWN_REASON
from crr_monitor.core.times import MINUTE_MS
from crr_monitor.core.troubles import Trouble
from tests.factories import AT, REPLICA, SOURCE

FAILED = Trouble("failed", SOURCE, REPLICA, "DstKmsKeyNotFound", 3, 2_600, AT)
OVERDUE = Trouble("overdue", SOURCE, REPLICA, "", 1_200, 5_000_000, AT)
UNASKED = Trouble("could-not-ask", SOURCE, "", "role x may not s3:GetObjectVersion", 7)


class Receiver:
    """Looks every five minutes, and remembers."""

    def __init__(self) -> None:
        self.told = Told()
        self.now = AT

    def look(self, *troubles: Trouble, works: bool = True, minutes: int = 5) -> list[Notice]:
        """One look: what is sent."""
        self.now += minutes * MINUTE_MS
        notices = decide(troubles, self.told, self.now)
        self.told = remember(self.told, troubles, notices if works else [], self.now)
        self.told = told_from(self.told.to_bytes())
        return notices


def whats(notices: list[Notice]) -> list[str]:
    """What each says."""
    return [notice.what for notice in notices]


def test_a_trouble_of_two_hours() -> None:
    """Told at once, twice more while it lasts, and at the second look without it, that it is over."""
    receiver = Receiver()
    told = [whats(receiver.look(FAILED)) for _ in range(26)] + [whats(receiver.look()) for _ in range(4)]
    times = [number * 5 for number, each in enumerate(told) if each]
    assert [(time, *told[time // 5]) for time in times] == [(0, "new"), (60, "still"), (120, "still"), (135, "over")]
    assert receiver.told == Told()


def test_never_told_never_over() -> None:
    """Where nothing could be sent, it is tried at each look, and nothing is said when it is over."""
    receiver = Receiver()
    assert [whats(receiver.look(FAILED, works=False)) for _ in range(3)] == [["new"]] * 3
    assert [whats(receiver.look()) for _ in range(3)] == [[]] * 3


def test_over_is_tried_again() -> None:
    """That it is over is said until it could be sent, once."""
    receiver = Receiver()
    receiver.look(FAILED)
    receiver.look()
    assert [whats(receiver.look(works=works)) for works in (False, False, True, True)] == [["over"]] * 3 + [[]]


def test_flicker() -> None:
    """A trouble that is away for one look is the same one: it is neither over nor new."""
    receiver = Receiver()
    receiver.look(FAILED)
    assert whats(receiver.look()) == []
    assert whats(receiver.look(FAILED)) == []
    assert whats(receiver.look()) == []
    assert whats(receiver.look()) == ["over"]


def test_groups() -> None:
    """Each pair and each reason is told by itself; another number of objects is the same trouble."""
    receiver = Receiver()
    other = Trouble("failed", SOURCE, REPLICA, "DstBucketNotFound", 1)
    assert whats(receiver.look(FAILED, other, OVERDUE, UNASKED)) == ["new"] * 4
    more = Trouble("failed", SOURCE, REPLICA, "DstKmsKeyNotFound", 99)
    assert receiver.look(more, other, OVERDUE, UNASKED) == []


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_whatever_comes(looks: list[tuple[bool, bool]]) -> None:
    """At most one notice of a trouble per hour but for its end, which comes after each beginning and never alone."""
    receiver = Receiver()
    sent: list[tuple[int, str]] = []
    for there, works in looks:
        notices = receiver.look(*([FAILED] if there else []), works=works)
        sent += [(receiver.now, notice.what) for notice in notices if works]
    open_since: int | None = None
    for at, what in sent:
        if what == "new":
            assert open_since is None
        else:
            assert open_since is not None
        if what == "still":
            assert at - (open_since or 0) >= REPEAT_MS
        open_since = None if what == "over" else at


def test_what_failed() -> None:
    """The message names pair, number, size and time, the reason in words, the fix, and the commands."""
    (notice,) = decide([FAILED], Told(), AT, "crr-monitor --store dynamodb://t")
    assert notice.subject == "CRR Monitor: 3 failed, orders -> orders-dr (DstKmsKeyNotFound)"
    reason = CATALOGUE["DstKmsKeyNotFound"]
    assert notice.text.splitlines() == [
        "3 copies (2.5 KiB) from orders to orders-dr failed, the first of them written at 2026-11-22 07:00 UTC.",
        "",
        f"Reason: {reason.cause} (DstKmsKeyNotFound).",
        f"Fix: {reason.fix}.",
        "List: crr-monitor --store dynamodb://t list --status FAILED --source orders --destination orders-dr",
        "Repair, after the fix: crr-monitor --store dynamodb://t retry --source orders --reason DstKmsKeyNotFound",
        "S3 does not try again by itself.",
    ]


def test_no_retry() -> None:
    """Where a retry does not help, none is offered."""
    (notice,) = decide([Trouble("failed", SOURCE, REPLICA, "DstObjectHardDeleted", 1)], Told(), AT)
    assert " retry " not in notice.text.replace("a retry does not help", "")
    assert "1 copy from orders to orders-dr failed." in notice.text


def test_no_reason() -> None:
    """Where S3 told no reason, the message says so, how it would tell, and repairs whatever failed."""
    (notice,) = decide([Trouble("failed", SOURCE, REPLICA, UNKNOWN_REASON, 1)], Told(), AT)
    assert "Reason: S3 says that they failed, and not why." in notice.text
    assert "crr-monitor topology --enable-failure-events orders\n" in notice.text
    assert "crr-monitor retry --source orders\n" in notice.text


def test_unknown_reason() -> None:
    """A reason that nobody knows yet is told as it is; words with spaces are quoted for the shell."""
    (notice,) = decide([Trouble("failed", SOURCE, REPLICA, "DstMoonPhase", 1)], Told(), AT)
    assert "Reason: DstMoonPhase; nothing more is known of it." in notice.text
    (denied,) = decide([Trouble("failed", SOURCE, REPLICA, "AccessDenied s3:ReplicateObject", 1)], Told(), AT)
    assert "--reason 'AccessDenied s3:ReplicateObject'" in denied.text


NO_COMMAND = {UNKNOWN_REASON, *(code for code, reason in CATALOGUE.items() if not reason.retry)}


@given(
    st.text(min_size=1, max_size=40).filter(
        lambda text: "\n" not in text and "\0" not in text and text not in NO_COMMAND
    )
)
def test_commands_can_be_copied(reason: str) -> None:
    """Whatever a message gave as a reason that a retry helps, the command in the text has it as one word."""
    (notice,) = decide([Trouble("failed", SOURCE, REPLICA, reason, 1)], Told(), AT)
    (line,) = [line for line in notice.text.split("\n") if line.startswith("Repair, after the fix: ")]
    assert shlex.split(line.partition(": ")[2])[-2:] == ["--reason", reason]


def test_overdue_and_unasked() -> None:
    """A backlog names its list; what could not be asked names what is missing."""
    overdue, unasked = decide([OVERDUE, UNASKED], Told(), AT)
    assert overdue.subject == "CRR Monitor: 1,200 overdue, orders -> orders-dr"
    assert "1,200 copies (4.8 MiB) from orders to orders-dr should be there by now" in overdue.text
    assert "crr-monitor list --status PENDING --source orders --destination orders-dr" in overdue.text
    assert unasked.subject == "CRR Monitor: could not ask about 7, orders"
    assert "Reason: role x may not s3:GetObjectVersion" in unasked.text


def test_over_says_what_is_known() -> None:
    """Records that left for their age are not called repaired."""
    told = remember(Told(), [FAILED], decide([FAILED], Told(), AT), AT)
    told = remember(told, [], [], AT + KEPT_MS - GONE_MS)
    (notice,) = decide([], told, AT + KEPT_MS)
    assert notice.subject == "CRR Monitor: over: failed, orders -> orders-dr (DstKmsKeyNotFound)"
    assert "They may have left without having been repaired." in notice.text
    fresh = remember(remember(Told(), [FAILED], decide([FAILED], Told(), AT), AT), [], [], AT + 1)
    (notice,) = decide([], fresh, AT + 1 + GONE_MS)
    assert "Careful" not in notice.text


@given(st.text(max_size=300))
def test_subjects_that_sns_takes(text: str) -> None:
    """A subject has less than 100 characters, printable ones of ASCII, whatever it is made of."""
    subject = ascii_subject("CRR Monitor: " + text)
    assert len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()


def test_for_programs() -> None:
    """The document for programs has what is known, and no field for what is not."""
    (notice,) = decide([UNASKED], Told(), AT)
    document = notice.to_json()
    assert {name: document[name] for name in ("what", "kind", "source", "objects", "at")} == {
        "what": "new",
        "kind": "could-not-ask",
        "source": SOURCE,
        "objects": 7,
        "at": "2026-11-22T07:00:00.000Z",
    }
    assert document.keys() & {"bytes", "since", "destination"} == set()


def test_a_number_that_was_cut_off() -> None:
    """Where one round could not ask about all that is overdue, words and JSON say "at least", also where bundled."""
    (trouble,) = unanswered_troubles([Unanswered("a", "denied", 2), Unanswered("a", "no role", 5_000, cut=True)])
    assert trouble == Trouble("could-not-ask", "a", "", "no role; denied", 5_002, at_least=True)
    (notice,) = decide([trouble], Told(), AT)
    assert notice.subject == "CRR Monitor: could not ask about at least 5,002, a"
    assert notice.text.startswith("S3 gave no answer about at least 5,002 overdue object versions of a, so")
    assert notice.to_json()["at_least"] is True
    (_, (message, _)) = bundled([notice] * 3, 2)
    assert message.subject == "CRR Monitor: 2 more notices, at least 10,004 copies"


@pytest.mark.parametrize("body", [None, b"", b"{", b'{"entries": 7}'])
def test_unreadable_state(body: bytes | None) -> None:
    """Of what cannot be read nothing was told, so it is told again rather than never."""
    assert told_from(body) == Told()


def test_notes() -> None:
    """What reconciling and the canary leave is read back; being throttled is no trouble by itself."""
    found = [Unanswered("a", "denied", 2), Unanswered("b", "slow down", 9, throttled=True)]
    assert decode_unanswered(encode_unanswered(found)) == found
    assert decode_unanswered(None) is None
    assert unanswered_troubles(found) == [Trouble("could-not-ask", "a", "", "denied", 2)]
    assert silent_buckets([*found, Unanswered("c", "its key", 1, single=True)]) == {"a"}
    several = [Unanswered("a", f"no answer about key {number}", number) for number in range(1, 6)]
    (trouble,) = unanswered_troubles(several)
    assert (trouble.objects, trouble.reason.count("no answer"), trouble.reason[-10:]) == (15, 3, "and 2 more")
    assert trouble.key == unanswered_troubles(several[:1])[0].key
    flights = {"a b": Flight(7, {7: 1_500}), "a c": Flight(8)}
    assert decode_canaries(encode_canaries(flights)) == flights
    assert decode_canaries(b'{"a b": 7}') == {"a b": Flight(7)}
    assert decode_canaries(None) == {}


def test_flights() -> None:
    """A pair keeps the last lags that arrived, each once; one of which the lag is unknown only counts as arrived."""
    flight = Flight(AT).arrived({AT + 5: 300, AT + 9: None}).arrived({AT + 5: 300, AT + 7: 400})
    assert flight == Flight(AT + 9, {AT + 5: 300, AT + 7: 400})
    assert flight.arrived({}) == flight
    many = flight.arrived({AT + 100 + number: number for number in range(CANARY_LAGS)})
    assert [*many.lags.values()] == [*range(CANARY_LAGS)]
    assert new_lags({"a b": flight, "c d": Flight(AT)}, {"a b": [AT + 5]}) == {"a b": [400], "c d": []}
    assert new_lags({"a b": flight}, {}) == {"a b": [300, 400]}

"""An alert is sent once while it lasts, again until it arrives, and once when it is over; a secret is shown nowhere."""

from __future__ import annotations

import datetime as dt
import json
import sys

import pytest

from alert_receivers import hooks, mailbox
from mlsys import errors
from mlsys.alerts import alert_book, alert_delivery, alert_transports
from mlsys.alerts.alert_book import Condition
from mlsys.recipe import AlertSection
from mlsys.store import Store

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
SCOPE = [("champion", "watch"), ("champion", "retrain")]
RETRAIN = Condition("retrain", "critical", "Retrain: 2 of the last 3 windows.", reasons=("AUC & <calibration>",))
WATCH = Condition("watch", "warning", "Watch: the predictions move.")


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path)


@pytest.fixture
def hook():
    with hooks() as receiver:
        yield receiver


@pytest.fixture
def box():
    with mailbox() as receiver:
        yield receiver


def tell(store, places, conditions=(), hours=0, scope=SCOPE):
    return alert_delivery.tell(store, "demo", places, conditions, scope, NOON + hours * HOUR)


def to(kind, **keys):
    return AlertSection(to=kind, **keys)


def events(hook):
    return [(body["kind"], body["event"]) for body in hook.bodies]


def test_an_alert_is_sent_once_while_it_lasts_and_once_when_it_is_over(store, hook):
    place = to("webhook", url=f"{hook.url}/mlsys")
    (line,) = tell(store, [place], [RETRAIN])
    assert line.endswith("('retrain', raised): sent, webhook at 127.0.0.1")
    assert tell(store, [place], [RETRAIN], 1) == []
    assert len(tell(store, [place], [], 2)) == 1
    assert tell(store, [place], [], 3) == []
    assert events(hook) == [("retrain", "raised"), ("retrain", "recovered")]
    raised, recovered = hook.bodies
    assert raised["alert"] == recovered["alert"]
    assert raised["id"] == f"{raised['alert']}-raised"
    assert (raised["began_at"], recovered["ended_at"]) == ("2026-03-02T12:00:00+00:00", "2026-03-02T14:00:00+00:00")
    assert [headers["Idempotency-Key"] for _, headers, _ in hook.posts] == [raised["id"], recovered["id"]]


def test_one_that_comes_back_is_another_and_a_graver_one_takes_the_place_of_a_lighter_one(store, hook):
    place = to("webhook", url=hook.url)
    for hours, conditions in enumerate(([WATCH], [RETRAIN], [], [WATCH])):
        tell(store, [place], conditions, hours)
    kinds, what = zip(*events(hook), strict=True)
    assert kinds == ("watch", "watch", "retrain", "retrain", "watch")
    assert what == ("raised", "recovered", "raised", "recovered", "raised")
    assert len({body["alert"] for body in hook.bodies}) == 3


def test_what_was_not_judged_lasts_and_another_alias_has_its_own(store, hook):
    place = to("webhook", url=hook.url)
    tell(store, [place], [RETRAIN])
    assert tell(store, [place], [], 1, scope=[]) == []
    assert tell(store, [place], [], 1, scope=[("challenger", "retrain")]) == []
    assert [alert.is_open for alert in alert_book.read(store, "demo").alerts] == [True]


def test_a_failure_is_told_and_tried_again_under_the_same_id(store, hook):
    place = to("webhook", url=hook.url)
    hook.status = 500
    (line,) = tell(store, [place], [RETRAIN])
    assert "not sent, webhook at 127.0.0.1: the server answered with status 500; it is tried again next time" in line
    hook.status = 200
    assert len(tell(store, [place], [RETRAIN], 1)) == 1
    assert tell(store, [place], [RETRAIN], 2) == []
    assert len({body["id"] for body in hook.bodies}) == 1
    (alert,) = alert_book.read(store, "demo").alerts
    (delivery,) = alert.deliveries.values()
    assert (delivery.num_failed, delivery.num_sent, delivery.error) == (1, 1, None)


def test_one_that_was_over_before_it_arrived_is_told_as_over(store, hook):
    place = to("webhook", url=hook.url)
    hook.status = 503
    tell(store, [place], [RETRAIN])
    hook.status = 200
    tell(store, [place], [], 1)
    assert events(hook) == [("retrain", "raised"), ("retrain", "recovered")]
    assert tell(store, [place], [], 2) == []


def test_a_process_that_is_killed_after_sending_sends_the_same_message_again(store, hook, monkeypatch):
    place = to("webhook", url=hook.url)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(alert_book, "note_sent", killed)
        with pytest.raises(KeyboardInterrupt):
            tell(store, [place], [RETRAIN])
    assert len(tell(store, [place], [RETRAIN], 1)) == 1
    first, second = hook.bodies
    assert first["id"] == second["id"]


def test_a_server_that_is_not_there_and_a_redirection_are_failures(store, hook, free_port):
    (line,) = tell(store, [to("webhook", url=f"http://127.0.0.1:{free_port}")], [RETRAIN])
    assert "the server cannot be reached" in line
    hook.status = 302
    (line,) = tell(store, [to("webhook", url=hook.url)], [RETRAIN])
    assert "status 302" in line
    assert [path for path, _, _ in hook.posts] == ["/"]


def test_each_place_has_the_kinds_that_it_asks_for(store, hook):
    pager, chat = to("webhook", url=f"{hook.url}/pager", kinds=["retrain"]), to("webhook", url=f"{hook.url}/chat")
    tell(store, [pager, chat], [WATCH])
    tell(store, [pager, chat], [RETRAIN], 1)
    had = {
        path: [json.loads(body)["kind"] for at, _, body in hook.posts if at == path]
        for path in ("/pager", "/chat")
    }  # fmt: skip
    assert had == {"/pager": ["retrain"], "/chat": ["watch", "watch", "retrain"]}


def test_who_wants_no_recovery_gets_none_and_who_wants_repeats_gets_them_until_somebody_knows(store, hook):
    place = to("webhook", url=hook.url, recover=False, repeat="3h")
    for hours in range(5):
        tell(store, [place], [RETRAIN], hours)
    assert [event for _, event in events(hook)] == ["raised", "repeated"]
    with alert_book.changing(store, "demo") as book:
        book.acknowledge(book.alerts[0].id[:6], NOON)
    tell(store, [place], [RETRAIN], 20)
    tell(store, [place], [], 21)
    assert len(hook.posts) == 2


def test_an_acknowledged_alert_is_not_sent_where_it_could_not_be_sent(store, hook):
    place = to("webhook", url=hook.url)
    hook.status = 500
    tell(store, [place], [RETRAIN])
    with alert_book.changing(store, "demo") as book:
        assert book.acknowledge(book.alerts[0].id, NOON).acknowledged_by
    assert tell(store, [place], [RETRAIN], 1) == []


@pytest.mark.parametrize("what", ["all", "retrain", "id"])
def test_a_muted_alert_is_sent_when_the_time_is_over_if_it_still_lasts(store, hook, what):
    place = to("webhook", url=hook.url)
    tell(store, [], [RETRAIN])
    with alert_book.changing(store, "demo") as book:
        book.mute(book.alerts[0].id if what == "id" else what, NOON + 5 * HOUR)
    assert tell(store, [place], [RETRAIN], 4) == []
    assert len(tell(store, [place], [RETRAIN], 5)) == 1
    assert alert_book.read(store, "demo").mutes == {}


def test_an_alert_that_is_not_there_is_named(store):
    tell(store, [], [RETRAIN])
    (alert,) = alert_book.read(store, "demo").alerts
    with pytest.raises(errors.RegistryError) as caught:
        alert_book.read(store, "demo").get("xyz")
    assert str(caught.value) == (
        "alerts: 'xyz' of model 'demo'\n  got:      none of this id\n  expected: the id of an alert\n"
        f"  hint:     those that last: {alert.id}"
    )


def test_a_damaged_book_fails_nothing(store):
    tell(store, [], [RETRAIN])
    (store.root / "alerts" / "demo" / "book.json").write_text("{")
    (line,) = tell(store, [], [RETRAIN])
    assert line.startswith("alerts are not kept: store: file 'book.json'")


def test_of_alerts_that_are_over_the_last_hundred_stay(store):
    for hours in range(0, 2 * alert_book.MOST_ENDED + 10, 2):
        tell(store, [], [RETRAIN], hours)
        tell(store, [], [], hours + 1)
    alerts = alert_book.read(store, "demo").alerts
    assert len(alerts) == alert_book.MOST_ENDED
    assert alerts[-1].began_at > alerts[0].began_at


# Places


def test_slack_teams_and_pagerduty_have_their_own_bodies(store, hook, monkeypatch):
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setenv("ROUTING_KEY", "routing-secret")
    places = [
        to("slack", url="${HOOK}/slack"),
        to("teams", url="${HOOK}/teams"),
        to("pagerduty", key="${ROUTING_KEY}", url="${HOOK}/pagerduty"),
    ]
    assert all("sent, " in line for line in tell(store, places, [RETRAIN]))
    slack, teams, pager = hook.bodies
    (alert,) = alert_book.read(store, "demo").alerts
    assert slack["text"] == "mlsys: demo: 'retrain' begins"
    assert "AUC &amp; &lt;calibration&gt;" in slack["blocks"][0]["text"]["text"]
    assert slack["blocks"][1]["elements"][0]["text"] == f"alert {alert.id}-raised"
    card = teams["attachments"][0]["content"]
    assert (teams["type"], card["type"], card["body"][0]["text"]) == (
        "message", "AdaptiveCard", "mlsys: demo: 'retrain' begins",
    )  # fmt: skip
    assert card["body"][-1]["text"] == f"alert {alert.id}-raised"
    assert (pager["routing_key"], pager["event_action"], pager["dedup_key"]) == ("routing-secret", "trigger", alert.id)
    assert (pager["payload"]["severity"], pager["payload"]["source"]) == ("critical", "demo")
    tell(store, places, [], 1)
    assert (hook.bodies[-1]["event_action"], hook.bodies[-1]["dedup_key"]) == ("resolve", alert.id)


def test_an_email_has_its_id_and_its_password_is_shown_nowhere(store, box, monkeypatch):
    password = "pa@ss/wo:rd"
    monkeypatch.setenv("SMTP_PASSWORD", password)
    place = to(
        "email", server=f"smtp://me:${{SMTP_PASSWORD}}@127.0.0.1:{box.port}", sender="mlsys@example.com",
        addresses=["ops@example.com", "ml@example.com"],
    )  # fmt: skip
    (line,) = tell(store, [place], [RETRAIN])
    assert line.endswith("sent, email to ops@example.com, ml@example.com")
    (mail,), (alert,) = box.mails, alert_book.read(store, "demo").alerts
    assert mail["Subject"] == "mlsys: demo: 'retrain' begins"
    assert mail["Message-ID"] == f"<{alert.id}-raised@example.com>"
    assert f"alert {alert.id}-raised" in mail.get_content()
    assert [word for word in box.words if word.startswith("rcpt")] == [
        "rcpt TO:<ops@example.com>", "rcpt TO:<ml@example.com>",
    ]  # fmt: skip
    assert any(word.startswith("AUTH PLAIN") for word in box.words)
    box.refuses = True
    (line,) = tell(store, [place], [], 1)
    assert "not sent" in line
    box.refuses = False
    assert len(tell(store, [place], [], 2)) == 1
    kept = (store.root / "alerts" / "demo" / "book.json").read_text()
    assert password not in kept + line


def test_a_file_gets_a_line_and_a_command_the_body(store, tmp_path, monkeypatch):
    written = tmp_path / "body.json"
    program = [sys.executable, "-c", f"import sys; open({str(written)!r}, 'w').write(sys.stdin.read())"]
    file, command = to("file", path="log/alerts.jsonl"), to("command", command=program)
    lines = tell(store, [file, command], [RETRAIN])
    assert lines[0].endswith("sent, file log/alerts.jsonl")
    assert f"export MLSYS_ALERT_COMMANDS={sys.executable}" in lines[1]
    monkeypatch.setenv("MLSYS_ALERT_COMMANDS", f"true, {sys.executable}")
    assert len(tell(store, [file, command], [RETRAIN], 1)) == 1
    (line,) = (store.root / "log" / "alerts.jsonl").read_text().splitlines()
    assert json.loads(line) == json.loads(written.read_text())
    assert json.loads(line)["summary"] == RETRAIN.summary


def test_a_command_that_fails_is_a_failure(store, monkeypatch):
    monkeypatch.setenv("MLSYS_ALERT_COMMANDS", sys.executable)
    (line,) = tell(store, [to("command", command=[sys.executable, "-c", "raise SystemExit(3)"])], [RETRAIN])
    assert "ended with code 3" in line


def test_a_secret_is_in_no_failure(store, free_port, monkeypatch):
    for value in ("hidden-token", f"http://127.0.0.1:{free_port}/hidden-token", "http://hidden-token:x y/"):
        monkeypatch.setenv("HOOK_TOKEN", value)
        url = "${HOOK_TOKEN}" if "http" in value else f"http://127.0.0.1:{free_port}/${{HOOK_TOKEN}}"
        message = alert_delivery.attempt(store, "demo", [to("slack", url=url)])[0][1]
        assert message
        assert "hidden" not in message
    monkeypatch.delenv("HOOK_TOKEN")
    ((_, message),) = alert_delivery.attempt(store, "demo", [to("slack", url="${HOOK_TOKEN}")])
    assert "no environment variable HOOK_TOKEN" in message


def test_a_password_goes_in_plain_to_this_machine_alone(monkeypatch):
    assert [alert_transports.is_loopback(host) for host in ("127.0.0.9", "::1", "localhost", "10.0.0.1", "mail")] == [
        True, True, True, False, False,
    ]  # fmt: skip

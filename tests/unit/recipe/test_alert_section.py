"""A recipe says where alerts go; what is missing, without effect or a secret that is written out is refused unseen."""

import pytest

from mlsys import errors, recipe

TEXT = "name: demo\ntarget: y\ndata: {source: a.csv}\nmonitor: {alerts: [%s]}\n"


def refusal(place):
    with pytest.raises(errors.RecipeError) as caught:
        recipe.parse(TEXT % place)
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "{to: webhook, url: 'https://ops.example.com/hooks/${TOKEN}', kinds: [retrain]}",
            "webhook at ops.example.com",
        ),
        ("{to: slack, url: '${SLACK}'}", "slack"),
        ("{to: slack, url: 'https://hooks.slack.com/services/${SLACK}'}", "slack at hooks.slack.com"),
        ("{to: pagerduty, key: '${PAGER}', repeat: 4h}", "pagerduty"),
        ("{to: email, server: 'smtp://a:${P}@mail:587', sender: a@b.org, addresses: [c@d.org]}", "email to c@d.org"),
        ("{to: file, path: alerts.jsonl}", "file alerts.jsonl"),
        ("{to: command, command: [notify, now]}", "command notify"),
    ],
)
def test_a_place_is_read_written_and_shown_in_words(place, words):
    parsed = recipe.parse(TEXT % place)
    assert parsed.monitor.alerts[0].place == words
    assert recipe.parse(recipe.dump(parsed)) == parsed


@pytest.mark.parametrize(
    ("place", "got", "expected"),
    [
        ("{to: slack, url: https://hooks.slack.com/hidden}", "the keys to, url", "url with the secret as ${NAME}"),
        ("{to: pagerduty, key: hidden}", "the keys to, key", "key with the secret as ${NAME}"),
        ("{to: webhook, url: 'https://u:hidden@h/x'}", "the keys to, url", "url with its password or token as ${NAME}"),
        ("{to: webhook, url: 'https://h/x?token=hidden'}", "the keys to, url", "url with its password or token"),
        ("{to: email, server: 'smtp://u:hidden@h'}", "the keys to, server", "sender and addresses with to: email"),
        ("{to: file, path: a, url: hidden}", "the keys to, path, url", "no url, without effect with to: file"),
        ("{to: webhook, url: [hidden]}", "another list, which is not shown", "text"),
    ],
)
def test_what_does_not_fit_is_refused_without_showing_it(place, got, expected):
    message = refusal(place)
    assert message.startswith("recipe: 'monitor.alerts.0")
    assert f"got:      {got}" in message
    assert f"expected: {expected}" in message
    assert "hidden" not in message


def test_an_unknown_key_of_a_place_is_named_with_the_nearest():
    message = refusal("{to: file, pth: a}")
    assert "unknown key 'monitor.alerts.0.pth'" in message
    assert "did you mean 'path'?" in message

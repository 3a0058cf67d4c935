"""Requests to an endpoint as a client sends them that speaks JSON."""

import json
import urllib.error
import urllib.request


def ask(url, body=None):
    """Status and JSON of a request; one with a body is a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())

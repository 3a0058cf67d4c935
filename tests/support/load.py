"""A small load generator: keep-alive connections that send a row after the other, and count how each was answered."""

import http.client
import json
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

AGAIN_S = 1.0
"""Seconds after which a request whose connection was closed is sent once more, as most clients do it."""

MANY = 5
"""Odd answers that are shown at most."""


class Load:
    """Requests of several connections while a block runs.

    `kinds` counts first attempts by their status, or by ``closed`` (no answer came) and ``refused`` (no connection);
    `again` counts second attempts of those two. `odd` are the first of other kinds than 200: seconds since the
    beginning, kind, and what is known of the cause. `versions` are those that answered, `longest_s` is the longest time
    without an answer.
    """

    def __init__(self, url, body, connections=4):
        self.kinds, self.again, self.versions, self.longest_s = Counter(), Counter(), set(), 0.0
        self.odd, self._started = [], time.monotonic()
        self._url, self._body = urlsplit(url), json.dumps(body).encode()
        self._is_over, self._lock, self._last = threading.Event(), threading.Lock(), time.monotonic()
        self._threads = [threading.Thread(target=self._send) for _ in range(connections)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait(50)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self):
        """First attempts that were not answered with 200."""
        return self.kinds.total() - self.kinds["200"]

    def wait(self, answers, limit_s=60):
        """Wait until there are so many more answers."""
        goal, end = self.kinds["200"] + self.again["200"] + answers, time.monotonic() + limit_s
        while self.kinds["200"] + self.again["200"] < goal:
            assert time.monotonic() < end, self.summary
            time.sleep(0.01)

    @property
    def summary(self):
        counts = f"{dict(self.kinds)}, again {dict(self.again)}, {self.longest_s:.2f} s without an answer"
        return "\n".join([counts, *map(str, self.odd)])

    def _send(self):
        connection = None
        while not self._is_over.is_set():
            connection, kind = self._ask(connection)
            self._count(self.kinds, kind)
            if kind in ("closed", "refused"):
                time.sleep(AGAIN_S)
                connection, kind = self._ask(None)
                self._count(self.again, kind)
            time.sleep(0.002 if kind == "200" else 0.1)
        if connection is not None:
            connection.close()

    def _count(self, counts, kind):
        with self._lock:
            counts[kind] += 1
            if kind == "200":
                now = time.monotonic()
                self.longest_s, self._last = max(self.longest_s, now - self._last), now

    def _note(self, kind, *cause):
        if len(self.odd) < MANY:
            self.odd.append((round(time.monotonic() - self._started, 2), kind, *cause))

    def _ask(self, connection):
        """Send a request; returns the connection, None if it is no more, and the kind of the answer."""
        is_new = connection is None
        if is_new:
            connection = http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=60)
        try:
            connection.request("POST", self._url.path, self._body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except ConnectionRefusedError:
            return None, "refused"
        except (OSError, http.client.HTTPException) as error:
            self._note("closed", error, "on a new connection" if is_new else "on one that was kept")
            connection.close()
            return None, "closed"
        if answer.status == 200:
            self.versions.add(json.loads(text)["model"]["version"])
        else:
            self._note(answer.status, answer.getheaders(), text[:300])
        if answer.will_close:
            connection.close()
            connection = None
        return connection, str(answer.status)

"""Call an ASGI app in this process with exactly these bytes: what an HTTP client would not let through, too."""

import asyncio


async def call(app, method, path, body=b"", headers=(), chunks=None):
    """Status, headers and body of an answer; `chunks` of a body may be seconds of silence, and the last one ends it."""
    sent, waiting = [], list(chunks) if chunks is not None else [body]

    async def receive():
        if waiting and isinstance(waiting[0], float):
            await asyncio.sleep(waiting.pop(0))
        if not waiting:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), answer


def below(prefix, app):
    """The app below a path, as Serve puts it."""

    async def mounted(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith(prefix):
            scope = {**scope, "path": scope["path"].removeprefix(prefix), "raw_path": b""}
        await app(scope, receive, send)

    return mounted

"""Receivers of alerts on loopback: an HTTP server that keeps what it is sent, and one that speaks SMTP (RFC 5321)."""

import asyncio
import contextlib
import email
import email.policy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hooks:
    """What an HTTP server was sent; it answers with `status`, and with a place to go to where that is a redirection."""

    def __init__(self):
        self.status, self.posts, self.url = 200, [], ""

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.posts]


@contextlib.contextmanager
def hooks():
    """A webhook during the block."""
    kept = Hooks()

    class Post(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.posts.append((self.path, dict(self.headers), body))
            self.send_response(kept.status)
            if kept.status == 302:
                self.send_header("Location", f"{kept.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            kept.posts.append((self.path, dict(self.headers), b"{}"))
            self.send_error(404)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Post) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


ANSWERS = {
    "EHLO": b"250-loopback\r\n250 AUTH PLAIN\r\n",
    "AUTH": b"235 welcome\r\n",
    "DATA": b"354 go on\r\n",
    "QUIT": b"221 bye\r\n",
}
"""What the mail server answers to a verb; to others it says yes."""


class Mailbox:
    """E-mails that were taken, and the words of the clients; `refuses` lets the server take none."""

    def __init__(self):
        self.mails, self.words, self.port, self.refuses = [], [], 0, False


@contextlib.contextmanager
def mailbox():
    """A mail server during the block: it takes any user, and has no encryption, which loopback does not need."""
    box, loop, ready = Mailbox(), asyncio.new_event_loop(), threading.Event()

    async def serve(reader, writer):
        writer.write(b"220 loopback\r\n")
        while line := (await reader.readline()).decode().strip():
            box.words.append(line)
            verb = line.split()[0].upper()
            refused = box.refuses and verb == "MAIL"
            writer.write(b"451 later\r\n" if refused else ANSWERS.get(verb, b"250 yes\r\n"))
            if verb == "DATA":
                box.mails.append(email.message_from_bytes(await content(reader), policy=email.policy.default))
                writer.write(b"250 taken\r\n")
            if verb == "QUIT":
                break
        writer.close()

    async def content(reader):
        lines = []
        while (row := await reader.readline()) != b".\r\n":
            lines.append(row.removeprefix(b".") if row.startswith(b"..") else row)
        return b"".join(lines)

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        box.port = server.sockets[0].getsockname()[1]
        box.stop = asyncio.Event()
        ready.set()
        async with server:
            await box.stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(box.stop.set)
        thread.join(30)
        loop.close()

"""What takes a right and is not in the tests' scenario for deployments: SockJS by polling, and the run of each minute."""

import json
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.sync.client import connect

# Only so that it fails rather than hangs.
DEADLINE = 20

# Seconds that a token lasts which is to end: long enough for what comes before.
LIFE = 12


class Missing(Exception):
    """Something did not come."""


class Deployment:
    """A domain of its own on a deployment."""

    def __init__(self, urls):
        self.urls = urls
        self.domain = f"rights-{uuid.uuid4()}"

    def api(self, method, path, body):
        """Asks the HTTP API for something about the domain, as a back end does."""
        signed = AWSRequest(method, f"{self.urls['api']}/{path}", {"content-type": "application/json"}, json.dumps(body))
        SigV4Auth(Credentials("test", "test"), "execute-api", "us-east-1").add_auth(signed)
        status, answer = ask(method, signed.url, json.dumps(body), dict(signed.headers.items()))
        if status >= 300:
            raise Missing(f"{method} {path}: {status} {answer}")
        return json.loads(answer or "null")

    def token(self, subscriber, seconds=600):
        """A token of a subscriber."""
        path = f"domains/{self.domain}/subscribers/{subscriber}/tokens"
        return self.api("POST", path, {"expires-in": seconds})["token"]

    def connect(self, token):
        """A WebSocket of a token's subscriber."""
        return connect(f"{self.urls['websocket']}?access_token={token}", open_timeout=DEADLINE)


class Polling:
    """A SockJS client that polls."""

    def __init__(self, deployment, token):
        self.base = f"{deployment.urls['sockjs']}/000/{uuid.uuid4()}"
        self.token = token
        if self.poll() != "o":
            raise Missing("the session does not open")

    def poll(self):
        """A frame."""
        status, answer = ask("POST", f"{self.base}/xhr?access_token={self.token}", "")
        if status != 200:
            raise Missing(f"a poll is answered {status} {answer}")
        return answer.strip()

    def send(self, message):
        """Says something."""
        body = json.dumps([json.dumps(message)])
        status, answer = ask("POST", f"{self.base}/xhr_send?access_token={self.token}", body)
        if status != 204:
            raise Missing(f"sending is answered {status} {answer}")

    def until(self, kind):
        """Polls until there is a message of a type, or the frame that ends the session."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            frame = self.poll()
            if kind in frame:
                return
        raise Missing(f"no {kind}")


def heard(socket, kind):
    """Reads until there is a message of a type."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            if kind in socket.recv(timeout=max(0.1, deadline - time.monotonic())):
                return
        except TimeoutError:
            break
    raise Missing(f"no {kind}")


def ask(method, url, body, headers=None):
    """Status and body of an answer."""
    request = urllib.request.Request(url, body.encode(), headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE + 30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def polls(urls):
    """One who polls is pushed to by each function that pushes, and talks to one with a WebSocket."""
    site = Deployment(urls)
    with site.connect(site.token("carol")) as carol:
        channel = {"channel-id": "c"}
        carol.send(json.dumps({"type": "create-channel", "name": "Team", **channel}))
        heard(carol, '"ack"')
        carol.send(json.dumps({"type": "invite-subscriber", "subscriber-id": "una", **channel}))
        heard(carol, '"ack"')
        token = site.token("una")
        una = Polling(site, token)
        # By the worker, once the session is up.
        una.until("invitation")
        una.send({"type": "join-channel", **channel})
        una.until("channel-joined")
        una.send({"type": "channel-message", "content": "by SockJS", **channel})
        heard(carol, "by SockJS")
        carol.send(json.dumps({"type": "channel-message", "content": "by a WebSocket", **channel}))
        una.until("by a WebSocket")
        message = {"from": "carol", "content": "by the API"}
        site.api("POST", f"domains/{site.domain}/channels/c/messages", message)
        una.until("by the API")
        site.api("POST", "tokens/invalidate", {"token": token})
        una.until("token-invalidated")


def doorbell(urls, hung):
    """One who streams has a doorbell: without it, it hears the same, later and at the price of looking for it."""
    site = Deployment(urls)
    token = site.token("una")
    url = f"{site.urls['sockjs']}/000/{uuid.uuid4()}/xhr_streaming?access_token={token}"
    with ThreadPoolExecutor(1) as beside:
        # The emulator answers when the stream has ended.
        stream = beside.submit(ask, "POST", url, "")
        try:
            deadline = time.monotonic() + DEADLINE
            while not hung(site.domain):
                if time.monotonic() > deadline:
                    raise Missing("no doorbell")
                time.sleep(0.1)
        finally:
            site.api("POST", "tokens/invalidate", {"token": token})
        if "token-invalidated" not in stream.result()[1]:
            raise Missing("the stream is not ended")


def minute(urls, run, touch):
    """A token that ends takes its connection with it, what nobody drains is drained, and the dead are looked for."""
    site = Deployment(urls)
    ends = time.monotonic() + LIFE
    with site.connect(site.token("judy", seconds=LIFE)) as judy:
        judy.send(json.dumps({"type": "create-channel", "channel-id": "d", "name": "Team"}))
        heard(judy, '"ack"')
        Polling(site, site.token("una"))
        touch(site.domain)
        run()
        time.sleep(max(0, ends + 1 - time.monotonic()))
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            run()
            try:
                return heard(judy, "token-expired")
            except Missing:
                continue
        raise Missing("no token-expired")

"""Scenarios that need rights beyond the tests' scenario for deployments: SockJS over HTTP, and the run of each minute."""

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

# Seconds after which a wait fails instead of hanging.
DEADLINE = 20

# Lifetime in seconds of the token that expires in a scenario. The steps before its end take less.
LIFE = 12


class Missing(Exception):
    """An expected frame or answer is missing."""


class Deployment:
    """A deployment, with a new domain of its own."""

    def __init__(self, urls):
        self.urls = urls
        self.domain = f"rights-{uuid.uuid4()}"

    def api(self, method, path, body):
        """Sends a signed request to the HTTP API, as a back end does. Returns the JSON of the answer."""
        signed = AWSRequest(method, f"{self.urls['api']}/{path}", {"content-type": "application/json"}, json.dumps(body))
        SigV4Auth(Credentials("test", "test"), "execute-api", "us-east-1").add_auth(signed)
        status, answer = ask(method, signed.url, json.dumps(body), dict(signed.headers.items()))
        if status >= 300:
            raise Missing(f"{method} {path}: {status} {answer}")
        return json.loads(answer or "null")

    def token(self, subscriber, seconds=600):
        """Issues a token for a subscriber."""
        path = f"domains/{self.domain}/subscribers/{subscriber}/tokens"
        return self.api("POST", path, {"expires-in": seconds})["token"]

    def connect(self, token):
        """Opens a WebSocket with a token."""
        return connect(f"{self.urls['websocket']}?access_token={token}", open_timeout=DEADLINE)


class Polling:
    """A SockJS client that polls."""

    def __init__(self, deployment, token):
        self.base = f"{deployment.urls['sockjs']}/000/{uuid.uuid4()}"
        self.token = token
        if self.poll() != "o":
            raise Missing("no opening frame of the session")

    def poll(self):
        """Polls once and returns the frame."""
        status, answer = ask("POST", f"{self.base}/xhr?access_token={self.token}", "")
        if status != 200:
            raise Missing(f"a poll is answered with {status} {answer}")
        return answer.strip()

    def send(self, message):
        """Sends a client message."""
        body = json.dumps([json.dumps(message)])
        status, answer = ask("POST", f"{self.base}/xhr_send?access_token={self.token}", body)
        if status != 204:
            raise Missing(f"xhr_send is answered with {status} {answer}")

    def until(self, kind):
        """Polls until a frame contains `kind`, such as a message type or the code of the closing frame."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            frame = self.poll()
            if kind in frame:
                return
        raise Missing(f"no {kind}")


def heard(socket, kind):
    """Reads until a frame contains `kind`."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            if kind in socket.recv(timeout=max(0.1, deadline - time.monotonic())):
                return
        except TimeoutError:
            break
    raise Missing(f"no {kind}")


def ask(method, url, body, headers=None):
    """Sends a request and returns the status and body of its answer."""
    request = urllib.request.Request(url, body.encode(), headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE + 30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def polls(urls):
    """A polling client receives pushes of each function that pushes, and talks to a client with a WebSocket."""
    site = Deployment(urls)
    with site.connect(site.token("carol")) as carol:
        channel = {"channel-id": "c"}
        carol.send(json.dumps({"type": "create-channel", "name": "Team", **channel}))
        heard(carol, '"ack"')
        carol.send(json.dumps({"type": "invite-subscriber", "subscriber-id": "una", **channel}))
        heard(carol, '"ack"')
        token = site.token("una")
        una = Polling(site, token)
        # The worker pushes it once the session is active.
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
    """A streaming client's session has a doorbell. Without one, pushes arrive later, because the function polls the outbox."""
    site = Deployment(urls)
    token = site.token("una")
    url = f"{site.urls['sockjs']}/000/{uuid.uuid4()}/xhr_streaming?access_token={token}"
    with ThreadPoolExecutor(1) as beside:
        # The emulator returns the response only after the stream has ended.
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
            raise Missing("no token-invalidated on the stream")


def minute(urls, run, touch):
    """An expiring token closes its connection, an abandoned log is drained, and dead sessions are checked."""
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

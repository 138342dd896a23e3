// sockjs-client over one transport against a deployment: `node client.js URL TRANSPORT COUNT ALICE BOB`, the last two being
// tokens. What it wants done by the back end it asks for as a line of JSON; a line on its standard input says that it is done.
// The last line is what it measured, in milliseconds. Anything that is not as the protocol says ends it with status 1.
import { deepStrictEqual, equal, ok } from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import SockJS from 'sockjs-client';

const [url, transport, count, alice, bob] = process.argv.slice(2);
const messages = Number(count);
// What has to be escaped somewhere on the way, in some transport.
const TEXT = '100% "\\ \u00e9 \u2028 \u200c \ufffe \u0000\u001f \u{1f600} <\/script> \r\n';
// Messages of one side that are under way at once.
const WINDOW = 8;

const lines = createInterface({ input: process.stdin });

async function ask(what) {
  const done = once(lines, 'line');
  console.log(JSON.stringify({ ask: what }));
  await done;
}

// A session: what it was asked is answered by the `ack`, what nobody asked for goes to `pushed`.
class Session {
  constructor(token, pushed = () => {}) {
    const query = new URLSearchParams({ access_token: token });
    const begun = performance.now();
    this.socket = new SockJS(`${url}?${query}`, null, { transports: [transport], timeout: 20_000 });
    this.waiting = new Map();
    this.asked = 0;
    this.last = null;
    this.closed = new Promise((resolve) => {
      this.socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
    });
    this.opened = new Promise((resolve, reject) => {
      this.socket.onopen = () => resolve(performance.now() - begun);
      this.closed.then((how) => reject(new Error(`closed before it was open: ${JSON.stringify(how)}`)));
    });
    this.opened.catch(() => {});
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.last = message;
      const request = this.waiting.get(message['reply-to']);
      if (request === undefined) {
        ok(message['reply-to'] === undefined && message.type !== 'ack', `an answer to nothing: ${data}`);
        pushed(message);
      } else if (message.type === 'ack') {
        this.waiting.delete(message['reply-to']);
        ok(message.status, data);
        request.resolve({ response: request.response, after: performance.now() - request.begun });
      } else {
        equal(request.response, undefined, 'a second response');
        request.response = message;
      }
    };
  }

  static async open(token, pushed) {
    const session = new Session(token, pushed);
    session.after = await session.opened;
    equal(session.socket.transport, transport);
    return session;
  }

  ask(message) {
    const id = String((this.asked += 1));
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, begun: performance.now() });
      this.closed.then((how) => reject(new Error(`closed: ${JSON.stringify(how)}`)));
      this.socket.send(JSON.stringify({ ...message, id }));
    });
  }
}

// `messages` direct messages to a peer; how long each took until its `ack`, and until the peer had it.
async function talk(session, peer, sent) {
  const acks = [];
  let next = 0;
  const one = async () => {
    while (next < messages) {
      const number = next++;
      sent.set(number, performance.now());
      const content = { number, text: TEXT };
      const { response, after } = await session.ask({ type: 'direct-message', 'subscriber-id': peer, content });
      equal(response.status, 'stored');
      acks.push(after);
    }
  };
  await Promise.all(Array.from({ length: WINDOW }, one));
  return acks;
}

// Takes what the peer sends: each message once, in the order of the log, as it was sent.
class Listener {
  constructor(peer) {
    this.peer = peer;
    this.sequence = 0;
    this.sent = new Map();
    this.pushes = [];
    this.complete = new Promise((resolve) => (this.done = resolve));
  }

  take = (message) => {
    if (message.type !== 'direct-message') return;
    equal(message.from, this.peer);
    ok(message.sequence > this.sequence, 'out of order');
    this.sequence = message.sequence;
    const { number, text } = message.content;
    equal(text, TEXT);
    ok(this.sent.has(number), `not sent, or twice: ${number}`);
    this.pushes.push(performance.now() - this.sent.get(number));
    this.sent.delete(number);
    if (this.pushes.length === messages) this.done();
  };
}

function quantiles(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part) => Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(1));
  return { p50: at(0.5), p99: at(0.99) };
}

const [toAlice, toBob] = [new Listener('bob'), new Listener('alice')];
const [first, other] = await Promise.all([Session.open(alice, toAlice.take), Session.open(bob, toBob.take)]);
const { response: welcome } = await first.ask({ type: 'hello' });
equal(welcome['subscriber-id'], 'alice');

const [acks, more] = await Promise.all([talk(first, 'bob', toBob.sent), talk(other, 'alice', toAlice.sent)]);
await Promise.all([toAlice.complete, toBob.complete]);

// A reconnect, and what was missed meanwhile.
first.socket.close();
deepStrictEqual(await first.closed, { code: 1000, reason: 'Normal closure', wasClean: true });
const { response: stored } = await other.ask({ type: 'direct-message', 'subscriber-id': 'alice', content: TEXT });
const second = await Session.open(alice);
const position = { 'subscriber-id': 'bob', sequence: stored.sequence - 1 };
const { response: resumed } = await second.ask({ type: 'resume', positions: [position] });
equal(resumed.destinations[0].events.at(-1).content, TEXT);

// The service closes.
await ask('disconnect');
deepStrictEqual(await second.closed, { code: 3001, reason: 'shutdown', wasClean: true });
deepStrictEqual([second.last.type, second.last.code], ['disconnect', 'shutdown']);

// A token that holds no longer.
const third = await Session.open(alice);
await third.ask({ type: 'ping' });
await ask('invalidate');
deepStrictEqual(await third.closed, { code: 4401, reason: 'token-invalidated', wasClean: true });
deepStrictEqual([third.last.type, third.last.code], ['disconnect', 'token-invalidated']);
const refused = new Session(alice);
equal((await refused.closed).code, 1002);

other.socket.close();
const opened = [first, other, second, third].map((it) => it.after);
console.log(JSON.stringify({
  transport,
  open: quantiles(opened),
  ack: quantiles([...acks, ...more]),
  push: quantiles([...toAlice.pushes, ...toBob.pushes]),
}));
process.exit(0);

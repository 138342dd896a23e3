// What a user of sockjs-client does over one transport, under Node as in a page: many messages each way, a reconnect, a close by
// the service, a token that ends. Whatever is not as the protocol says is an error.

// What has to be escaped somewhere on the way, in some transport.
const TEXT = '100% "\\ \u00e9 \u2028 \u200c \ufffe \u0000\u001f \u{1f600} <\/script> \r\n';

function ok(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}

function equal(one, other) {
  const [shown, expected] = [one, other].map((it) => JSON.stringify(it));
  ok(shown === expected, `${shown} instead of ${expected}`);
}

// A session: what it was asked is answered by the `ack`, what nobody asked for goes to `pushed`.
class Session {
  constructor({ SockJS, url, transport }, token, pushed = () => {}) {
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
        request.resolve({ response: request.response, after: request.after });
      } else {
        ok(request.response === undefined, `a second response: ${data}`);
        request.response = message;
        request.after = performance.now() - request.begun;
      }
    };
  }

  static async open(place, token, pushed) {
    const session = new Session(place, token, pushed);
    session.after = await session.opened;
    equal(session.socket.transport, place.transport);
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

// Takes what the peer sends: each message once, in the order of the log, as it was sent.
class Listener {
  constructor(peer, messages) {
    this.peer = peer;
    this.messages = messages;
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
    if (this.pushes.length === this.messages) this.done();
  };
}

// Direct messages to a peer, `window` at once; how long each took until its `delivery`.
async function talk(session, peer, { sent, messages }, window) {
  const deliveries = [];
  let next = 0;
  const one = async () => {
    while (next < messages) {
      const number = next++;
      sent.set(number, performance.now());
      const content = { number, text: TEXT };
      const { response, after } = await session.ask({ type: 'direct-message', 'subscriber-id': peer, content });
      equal(response.status, 'stored');
      deliveries.push(after);
    }
  };
  await Promise.all(Array.from({ length: window }, one));
  return deliveries;
}

function quantiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part) => Number(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(1));
  return { p50: at(0.5), p99: at(0.99) };
}

// Runs it at a place, `{ SockJS, url, transport }`, with the tokens of two subscribers; `ask` has the back end do something and
// resolves when that is done. Gives what was measured, in milliseconds.
export async function run(place, { messages, window, alice, bob }, ask) {
  const [toAlice, toBob] = [new Listener('bob', messages), new Listener('alice', messages)];
  const [first, other] = await Promise.all([Session.open(place, alice, toAlice.take), Session.open(place, bob, toBob.take)]);
  const { response: welcome } = await first.ask({ type: 'hello' });
  equal(welcome['subscriber-id'], 'alice');

  const deliveries = await Promise.all([talk(first, 'bob', toBob, window), talk(other, 'alice', toAlice, window)]);
  await Promise.all([toAlice.complete, toBob.complete]);

  // A reconnect, and what was missed meanwhile.
  first.socket.close();
  equal(await first.closed, { code: 1000, reason: 'Normal closure', wasClean: true });
  const { response: stored } = await other.ask({ type: 'direct-message', 'subscriber-id': 'alice', content: TEXT });
  const second = await Session.open(place, alice);
  const position = { 'subscriber-id': 'bob', sequence: stored.sequence - 1 };
  const { response: resumed } = await second.ask({ type: 'resume', positions: [position] });
  equal(resumed.destinations[0].events.at(-1).content, TEXT);

  // The service closes.
  await ask('disconnect');
  equal(await second.closed, { code: 3001, reason: 'shutdown', wasClean: true });
  equal([second.last.type, second.last.code], ['disconnect', 'shutdown']);

  // A token that holds no longer.
  const third = await Session.open(place, alice);
  await third.ask({ type: 'ping' });
  await ask('invalidate');
  equal(await third.closed, { code: 4401, reason: 'token-invalidated', wasClean: true });
  equal([third.last.type, third.last.code], ['disconnect', 'token-invalidated']);
  const refused = new Session(place, alice);
  equal((await refused.closed).code, 1002);

  other.socket.close();
  return {
    open: quantiles([first, other, second, third].map((it) => it.after)),
    delivery: quantiles(deliveries.flat()),
    push: quantiles([...toAlice.pushes, ...toBob.pushes]),
  };
}

// The wire protocol in a browser: a connection that reconnects by itself, and a copy of the service's state.
// This file uses no DOM. The page listens to `change` and draws the state.

const ANSWER_MS = 30_000; // API Gateway ends an integration after 29 s, so no answer arrives later
const OPEN_MS = 15_000;
const PING_MS = 4 * 60_000; // API Gateway closes a connection that is idle for 10 minutes
const STEADY_MS = 5_000; // a connection that lasted this long resets the back-off
const BACKOFF_MS = [500, 30_000];
const GAP_MS = 250; // own deliveries overtake others' pushes, so only a gap that lasts this long is fetched
const PAGE = 50;
const MAX_POSITIONS = 100; // in one `resume`
const CONTENT_BYTES = 16 * 1024; // until `welcome` has the limit

/** The service rejected a message with an `ack` with `status: false`. */
export class Rejected extends Error {
  constructor(error = {}) {
    super(error.reason || "The service rejected this without a reason.");
    this.code = error.code ?? "unknown";
    this.retryMs = (error["retry-after"] ?? 0) * 1000;
  }
}

/** The connection was lost before the answer arrived. The message may or may not have been handled. */
export class Lost extends Error {
  constructor() {
    super("The connection was lost before the answer arrived.");
  }
}

/** Returns a UUID. `crypto.randomUUID` is missing if the page is not a secure context. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** A JSON object in sessionStorage. Without storage it lives as long as the page. */
export class Stored {
  constructor(key, initial) {
    this.key = key;
    this.value = initial;
    try {
      this.value = { ...initial, ...JSON.parse(sessionStorage.getItem(key) ?? "{}") };
    } catch { /* storage is disabled or has foreign data: start with the initial value */ }
  }

  save() {
    try {
      sessionStorage.setItem(this.key, JSON.stringify(this.value));
    } catch { /* storage is full or disabled: the page works without it */ }
  }
}

/** The known part of a destination's log: `events` are contiguous from `low` to `position`. */
export class Destination {
  constructor(kind, id, position) {
    Object.assign(this, { kind, id, position, last: position, low: position + 1, first: 1 });
    this.events = [];
    this.early = new Map(); // sequence → event that arrived before its predecessor
    this.name = kind === "channel" ? "" : id;
    this.administrator = false;
    this.unread = 0;
    this.counted = position; // the service's `unread` counts up to this sequence
    this.read = 0; // own read cursor
    this.reported = 0; // the read cursor that was last sent to the service
    this.peer = { received: 0, read: 0 };
    this.timestamp = "";
    this.members = null; // Map once listed
    this.moreMembers = undefined; // `next` of the member list
    this.typing = new Map(); // subscriber → timer that removes it
  }

  get key() {
    return `${this.kind}:${this.id}`;
  }

  get address() {
    return this.kind === "channel" ? { "channel-id": this.id } : { "subscriber-id": this.id };
  }

  get complete() {
    return this.low <= this.first;
  }

  /** Takes an event by the protocol's client rule. Returns the events that became part of the log, in order. */
  take(event) {
    this.last = Math.max(this.last, event.sequence);
    if (event.sequence <= this.position) return [];
    this.early.set(event.sequence, event);
    const applied = [];
    for (let next; (next = this.early.get(this.position + 1)); ) {
      this.early.delete(next.sequence);
      this.position = next.sequence;
      this.events.push(next);
      applied.push(next);
    }
    return applied;
  }

  /** Puts an older page before the known events. */
  prepend({ events, "first-sequence": first }) {
    const older = events.filter((event) => event.sequence < this.low);
    this.events.unshift(...older);
    this.low = older[0]?.sequence ?? this.low;
    this.first = older.length ? Math.max(first ?? 1, 1) : this.low;
  }

  /** Drops the events and continues from `position`, because those in between are past their retention. */
  restart(position) {
    this.events = [];
    this.position = position;
    this.low = position + 1;
    for (const sequence of this.early.keys()) if (sequence <= position) this.early.delete(sequence);
  }
}

/** A subscriber's session. Events: `change` (the state changed), `stopped` (`detail` is the reason as text). */
export class Session extends EventTarget {
  #socket = null;
  #requests = new Map();
  #counter = 0;
  #attempt = 0;
  #epoch = 0;
  #timers = { retry: 0, ping: 0, open: 0, steady: 0, change: 0, lists: 0 };
  #stored;
  #versions = new Map(); // subscriber → {version, tick} of its last pushed presence
  #tokenSuspect = false;

  constructor(domain, subscriber) {
    super();
    this.domain = domain;
    this.subscriber = subscriber;
    this.state = "connecting"; // connecting | online | waiting | stopped
    this.notice = "";
    this.retryAt = 0;
    this.limits = {};
    this.destinations = new Map();
    this.people = new Map();
    this.invitations = new Map();
    this.#stored = new Stored(`messaging:${domain}/${subscriber}`, {
      token: null, expires: null, outbox: [], invites: {}, announced: { availability: "available", status: "" },
    });
    for (const entry of this.outbox) if (entry.state === "sending") entry.state = "queued";
  }

  get outbox() {
    return this.#stored.value.outbox;
  }

  get announced() {
    return this.#stored.value.announced;
  }

  get contentBytes() {
    return this.limits["content-bytes"] ?? CONTENT_BYTES;
  }

  inviteToken(channel) {
    return this.#stored.value.invites[channel];
  }

  keepInviteToken(channel, token) {
    this.#stored.value.invites[channel] = token;
    this.#stored.save();
  }

  // --- the connection ---

  start() {
    this.#connect();
  }

  /** Ends the session. The page shows `words` as the reason if there are any. */
  stop(words) {
    this.#epoch += 1;
    this.#drop();
    clearTimeout(this.#timers.retry);
    this.#set("stopped", words ?? "");
    if (words) this.dispatchEvent(new CustomEvent("stopped", { detail: words }));
  }

  /** Reconnects at once instead of after the back-off. */
  retryNow() {
    if (this.state !== "waiting" && this.state !== "stopped") return;
    clearTimeout(this.#timers.retry);
    this.#attempt = 0;
    this.#connect();
  }

  async #connect() {
    this.#set("connecting", this.notice);
    const epoch = ++this.#epoch;
    let token;
    try {
      token = await this.#token();
    } catch (error) {
      if (epoch !== this.#epoch) return;
      if (error.final) return this.stop(error.message);
      return this.#later(error.message);
    }
    if (epoch !== this.#epoch) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const address = `${scheme}://${location.host}/messaging/websocket?access_token=${encodeURIComponent(token)}`;
    const socket = new WebSocket(address);
    this.#socket = socket;
    let opened = false;
    this.#timers.open = setTimeout(() => this.#closed(opened), OPEN_MS);
    socket.onopen = () => {
      opened = true;
      clearTimeout(this.#timers.open);
      this.#synchronise().catch((error) => {
        if (error instanceof Lost || this.#socket !== socket) return;
        this.#closed(true, error.message);
      });
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data);
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#closed(opened);
    };
  }

  /** Returns the stored token while it is valid, else a new one. A browser cannot tell a refused handshake from other failures. */
  async #token(fresh = false) {
    const kept = this.#stored.value;
    const good = kept.token && (!kept.expires || Date.parse(kept.expires) > Date.now() + 60_000);
    if (good && !fresh && !this.#tokenSuspect) return kept.token;
    const path = [this.domain, "subscribers", this.subscriber, "tokens"].map(encodeURIComponent).join("/");
    let response;
    try {
      response = await fetch(`/v1/domains/${path}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: "{}",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
    } catch {
      throw new Error("The service cannot be reached.");
    }
    const body = await response.json().catch(() => ({}));
    if (!response.ok) {
      const error = new Error(body.detail || body.title || `The service answered ${response.status} and gave no token.`);
      error.final = response.status >= 400 && response.status < 500 && response.status !== 429;
      throw error;
    }
    this.#tokenSuspect = false;
    kept.token = body.token;
    kept.expires = body["expires-at"];
    this.#stored.save();
    return body.token;
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    for (const name of ["ping", "open", "steady"]) clearTimeout(this.#timers[name]);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const open = [...this.#requests.values()];
    this.#requests.clear();
    for (const request of open) {
      clearTimeout(request.timer);
      request.reject(new Lost());
    }
  }

  #closed(opened, words = "The connection was lost.") {
    this.#drop();
    if (!opened) this.#tokenSuspect = true;
    if (this.state === "stopped") return;
    this.#later(opened ? words : "The service cannot be reached.");
  }

  #later(words) {
    const [first, most] = BACKOFF_MS;
    const delay = Math.min(most, first * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    this.retryAt = Date.now() + delay;
    this.#timers.retry = setTimeout(() => this.#connect(), delay);
    this.#set("waiting", words);
  }

  #set(state, notice) {
    this.state = state;
    this.notice = notice;
    this.#changed();
  }

  #changed() {
    this.#timers.change ||= setTimeout(() => {
      this.#timers.change = 0;
      this.dispatchEvent(new Event("change"));
    });
  }

  // --- one request, its answer and its ack ---

  /** Sends a client message. Resolves with its response, if any, when the `ack` arrives. */
  request(type, fields = {}) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Lost());
    const id = `${type}-${++this.#counter}`;
    return new Promise((resolve, reject) => {
      // After this silence the connection counts as lost, even if the browser did not notice.
      const timer = setTimeout(() => this.#socket === socket && this.#closed(true), ANSWER_MS);
      this.#requests.set(id, { resolve, reject, timer });
      socket.send(JSON.stringify({ type, id, ...fields }));
    });
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not a message of the protocol
    }
    const request = this.#requests.get(message["reply-to"]);
    if (message.type === "ack") {
      if (!request) return;
      this.#requests.delete(message["reply-to"]);
      clearTimeout(request.timer);
      if (message.status) request.resolve(request.response);
      else request.reject(new Rejected(message.error));
    } else {
      if (request) request.response = message;
      this.#handle(message, Boolean(request));
    }
    this.#changed();
  }

  #handle(message, solicited) {
    switch (message.type) {
      case "channel-message":
      case "direct-message":
        return this.#event(message, { kind: "message" });
      case "subscriber-joined":
      case "subscriber-left":
      case "administrator-changed":
        return this.#event(message, { kind: message.type });
      case "channel-updated":
      case "channel-deleted":
        return this.#event(message, { kind: message.type });
      case "delivery":
        return this.#delivery(message);
      case "presence":
        return this.#presence(message);
      case "invitation":
        if (!solicited) this.invitations.set(message["channel-id"], message);
        return;
      case "typing":
        return this.#typing(message);
      case "resync": {
        const destination = this.#destination(message, message["last-sequence"]);
        destination.last = Math.max(destination.last, message["last-sequence"]);
        return this.#catchUp(destination);
      }
      case "token-expiring":
        return this.#renew();
      case "disconnect":
        return this.#disconnected(message);
    }
  }

  async #renew() {
    try {
      await this.request("authorize", { token: await this.#token(true) });
    } catch { /* the service then sends `token-expired`, and the next connection uses a new token */ }
  }

  #disconnected({ code, reason, reconnect }) {
    const words = {
      "token-invalidated": "Your token was invalidated, so the service ended this connection.",
      "token-expired": "Your token expired, so the service ended this connection.",
      "connection-limit": "A newer connection of yours replaced this one.",
      "connection-expired": "The connection reached its maximum age.",
      shutdown: "The service is shutting down.",
    }[code] ?? (reason || "The service ended the connection.");
    if (code.startsWith("token-")) this.#tokenSuspect = true;
    // `reconnect` refers to the same token. An expired token is replaced by a new one.
    if (reconnect || code === "token-expired") this.#closed(true, words);
    else this.stop(words);
  }

  // --- after the handshake ---

  async #synchronise() {
    const socket = this.#socket;
    const welcome = await this.request("hello");
    this.limits = welcome?.limits ?? {};
    this.#timers.ping = setInterval(() => this.request("ping").catch(() => {}), PING_MS);
    this.#timers.steady = setTimeout(() => (this.#attempt = 0), STEADY_MS);
    this.#set("online", "");
    this.request("announce", this.announced).catch(() => {});
    for (const destination of this.destinations.values()) this.#flush(destination);
    try {
      await this.#lists();
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      return this.#listSoon(error.retryMs || 2000);
    }
    for (const entry of [...this.outbox]) {
      if (entry.kind === "direct") this.direct(entry.id);
      const destination = this.destinations.get(`${entry.kind}:${entry.id}`);
      if (destination) this.#flush(destination);
      else this.discard(entry); // its channel was left meanwhile
    }
    if (this.#socket !== socket) return;
    await this.#resume();
    // This connection missed the presence changes that happened meanwhile.
    for (const channel of this.destinations.values()) if (channel.members) await this.listMembers(channel);
  }

  /** Reads all channels and conversations: their names, unread counts and last sequences. */
  async #lists() {
    const before = new Set([...this.destinations.values()].filter((it) => it.kind === "channel"));
    for await (const item of this.#pages("list-channels", "channels")) {
      const channel = this.#known("channel", item["channel-id"], item["last-sequence"] ?? 0);
      before.delete(channel);
      this.#listed(channel, item);
      channel.name = item.name;
      channel.administrator = item.administrator;
    }
    for (const gone of before) this.#forget(gone);
    for await (const item of this.#pages("list-conversations", "conversations")) {
      this.#listed(this.#known("direct", item["subscriber-id"], item["last-sequence"] ?? 0), item);
    }
    this.#changed();
  }

  #listed(destination, item) {
    const last = item["last-sequence"] ?? 0;
    destination.last = Math.max(destination.last, last);
    destination.counted = Math.max(last, destination.position);
    destination.read = Math.max(destination.read, item["read-sequence"] ?? 0);
    destination.reported = destination.read;
    destination.unread = item.unread ?? 0;
    destination.timestamp = item.timestamp ?? destination.timestamp;
  }

  async *#pages(type, field, fields = {}) {
    let after;
    do {
      const page = await this.request(type, after === undefined ? fields : { ...fields, after });
      yield* page?.[field] ?? [];
      after = page?.next;
    } while (after !== undefined);
  }

  /** Fetches the missing events of all known destinations, with `resume` if it succeeds, else one by one. */
  async #resume() {
    const behind = [...this.destinations.values()].filter((it) => it.position < it.last || it.early.size);
    for (let start = 0; start < behind.length; start += MAX_POSITIONS) {
      const some = behind.slice(start, start + MAX_POSITIONS);
      let answers = [];
      try {
        const positions = some.map((it) => ({ ...it.address, sequence: it.position }));
        answers = (await this.request("resume", { positions }))?.destinations ?? [];
      } catch (error) {
        if (error instanceof Lost) throw error;
      }
      some.forEach((destination, index) => {
        const answer = answers[index];
        for (const event of answer?.events ?? []) this.#apply(destination, event);
        if (!answer || answer.error || !answer.complete) this.#catchUp(destination);
      });
      this.#changed();
    }
  }

  /** Fetches the events after the position, page by page. A destination has one fetch at a time. */
  async #catchUp(destination) {
    if (destination.catching) return void (destination.again = true);
    destination.catching = true;
    try {
      for (let more = true; more; ) {
        destination.again = false;
        const page = await this.request("get-history", { ...destination.address, after: destination.position, limit: 2 * PAGE });
        const before = destination.position;
        for (const event of page.events) this.#apply(destination, event);
        more = destination.again || (page.more && destination.position > before);
      }
    } catch (error) {
      await this.#catchUpFailed(destination, error);
    } finally {
      destination.catching = false;
      this.#changed();
    }
  }

  async #catchUpFailed(destination, error) {
    if (error.code === "not-found" && destination.kind === "channel") return this.#forget(destination);
    if (error.code === "unavailable") {
      setTimeout(() => this.state === "online" && this.#catchUp(destination), error.retryMs || 2000);
    }
    if (error.code === "gone") {
      const page = await this.request("get-history", { ...destination.address, limit: PAGE }).catch(() => null);
      if (!page) return;
      destination.restart((page.events[0]?.sequence ?? page["last-sequence"] + 1) - 1);
      for (const event of page.events) this.#apply(destination, event);
      destination.first = page["first-sequence"];
    }
  }

  // --- what comes in ---

  #known(kind, id, position) {
    const key = `${kind}:${id}`;
    let destination = this.destinations.get(key);
    if (!destination) this.destinations.set(key, (destination = new Destination(kind, id, position)));
    return destination;
  }

  /** Returns the destination that a message names. For a new one the lists are read soon, to get its name. */
  #destination(message, position) {
    const [kind, id] = message["channel-id"] === undefined
      ? ["direct", message["subscriber-id"]] : ["channel", message["channel-id"]];
    if (!this.destinations.has(`${kind}:${id}`)) this.#listSoon();
    return this.#known(kind, id, position);
  }

  #listSoon(delay = GAP_MS) {
    clearTimeout(this.#timers.lists);
    this.#timers.lists = setTimeout(() => {
      this.#lists().then(() => this.#resume()).catch((error) => {
        if (error instanceof Rejected) this.#listSoon(error.retryMs || 2000);
      });
    }, delay);
  }

  #forget(destination) {
    this.destinations.delete(destination.key);
    this.#stored.value.outbox = this.outbox.filter((it) => `${it.kind}:${it.id}` !== destination.key);
    this.#stored.save();
    this.#changed();
  }

  #event(message, { kind }) {
    const { type: _, "channel-id": channel, ...event } = message;
    const leaving = kind === "subscriber-left" && message["subscriber-id"] === this.subscriber;
    if (leaving || kind === "channel-deleted") {
      const known = this.destinations.get(`channel:${channel}`);
      if (known) this.#forget(known);
      return;
    }
    if (event.sequence === undefined) return; // a response without a sequence: the next event closes the gap
    const destination = this.#destination(message, event.sequence - 1);
    this.#apply(destination, { ...event, kind });
    if (destination.early.size) this.#gap(destination);
  }

  #gap(destination) {
    if (destination.gapTimer) return;
    destination.gapTimer = setTimeout(() => {
      destination.gapTimer = 0;
      if (destination.early.size && this.state === "online") this.#catchUp(destination);
    }, GAP_MS);
  }

  #apply(destination, taken) {
    for (const event of destination.take(taken)) {
      if (event.timestamp) destination.timestamp = event.timestamp;
      const members = destination.members;
      switch (event.kind) {
        case "message":
          destination.typing.delete(event.from);
          this.#settle(event["message-id"], event.from);
          if (event.from !== this.subscriber && event.sequence > destination.counted) destination.unread += 1;
          break;
        case "subscriber-joined":
          this.#person(event.subscriber);
          members?.set(event.subscriber.id, { id: event.subscriber.id, administrator: event.subscriber.administrator });
          break;
        case "subscriber-left":
          members?.delete(event["subscriber-id"]);
          break;
        case "administrator-changed": {
          const member = members?.get(event["subscriber-id"]);
          if (member) member.administrator = event.administrator;
          if (event["subscriber-id"] === this.subscriber) destination.administrator = event.administrator;
          break;
        }
        case "channel-updated":
          destination.name = event.name ?? destination.name;
      }
    }
  }

  #delivery(message) {
    const { "message-id": messageId, status, sequence } = message;
    if (status === "stored") {
      const entry = this.outbox.find((it) => it.messageId === messageId);
      const destination = this.#destination(message, sequence - 1);
      const { timestamp } = message;
      const from = this.subscriber;
      if (entry) {
        this.#apply(destination, { kind: "message", sequence, timestamp, "message-id": messageId, from, content: entry.content });
        if (destination.early.size) this.#gap(destination);
      }
      this.#settle(messageId, from);
      return;
    }
    const destination = this.#destination(message, sequence);
    // This notice has two meanings: the peer has read a message, or the subscriber itself has read it on another page.
    // The author of the message tells which.
    const author = destination.events.find((it) => it.sequence === sequence)?.from;
    if (status !== "received" && author !== this.subscriber) return this.#readTo(destination, sequence, status);
    const peer = destination.peer;
    peer.received = Math.max(peer.received, sequence);
    if (status === "read") peer.read = Math.max(peer.read, sequence);
  }

  #readTo(destination, sequence, status) {
    if (status !== "read") return;
    destination.read = Math.max(destination.read, sequence);
    const unread = (it) => it.kind === "message" && it.from !== this.subscriber && it.sequence > destination.read;
    destination.unread = destination.read >= destination.counted
      ? destination.events.filter(unread).length : destination.unread;
  }

  #presence({ subscriber, version }) {
    const known = this.#versions.get(subscriber.id);
    if (known && version < known.version) return;
    this.#versions.set(subscriber.id, { version, tick: this.#counter });
    this.#person(subscriber);
  }

  /** Stores a subscriber's presence from a list or an event, unless a push was newer. */
  #person({ id, status, availability, attributes }, asked = Infinity) {
    if (availability === undefined || (this.#versions.get(id)?.tick ?? -1) >= asked) return;
    this.people.set(id, { id, status, availability, attributes });
  }

  #typing(message) {
    const id = message["subscriber-id"];
    const destination = message["channel-id"] === undefined
      ? this.destinations.get(`direct:${id}`) : this.destinations.get(`channel:${message["channel-id"]}`);
    if (!destination) return;
    clearTimeout(destination.typing.get(id));
    destination.typing.delete(id);
    if (!message.active) return;
    const forget = () => destination.typing.delete(id) && this.#changed();
    destination.typing.set(id, setTimeout(forget, 10_000));
  }

  // --- what goes out ---

  /** Puts a message into the outbox. It stays there over reconnects and reloads until it is stored or removed. */
  send(destination, content) {
    const { kind, id } = destination;
    this.outbox.push({ messageId: uuid(), kind, id, content, state: "queued", error: "", written: new Date().toISOString() });
    this.#stored.save();
    this.#flush(destination);
    this.#changed();
  }

  retry(entry) {
    entry.state = "queued";
    entry.error = "";
    this.#flush(this.#known(entry.kind, entry.id, 0));
    this.#changed();
  }

  discard(entry) {
    this.#stored.value.outbox = this.outbox.filter((it) => it !== entry);
    this.#stored.save();
    this.#changed();
  }

  #settle(messageId, from) {
    if (from !== this.subscriber) return;
    const entry = this.outbox.find((it) => it.messageId === messageId);
    if (entry) this.discard(entry);
  }

  /** Sends a destination's queued messages. Each waits for the `ack` of the one before, which keeps the order. */
  async #flush(destination) {
    if (destination.sending) return;
    destination.sending = true;
    const next = () => this.outbox.find((it) => it.kind === destination.kind && it.id === destination.id && it.state === "queued");
    try {
      for (let entry; this.state === "online" && (entry = next()); ) {
        entry.state = "sending";
        try {
          await this.request(`${entry.kind}-message`, { ...destination.address, "message-id": entry.messageId, content: entry.content });
          // The `delivery` arrives before the `ack` or soon after. If it is lost, the message is sent again, which is idempotent.
          if (this.outbox.includes(entry)) setTimeout(() => this.outbox.includes(entry) && this.retry(entry), ANSWER_MS / 3);
        } catch (error) {
          entry.state = "queued";
          if (error instanceof Lost) return;
          if (error.code === "unavailable") await new Promise((done) => setTimeout(done, error.retryMs || 2000));
          else Object.assign(entry, { state: "failed", error: error.message });
        }
        this.#changed();
      }
    } finally {
      destination.sending = false;
      this.#stored.save();
    }
  }

  /** Returns a conversation, which may still be empty. */
  direct(subscriber) {
    return this.#known("direct", subscriber, 0);
  }

  /** Loads the page before the known events. */
  async older(destination) {
    if (destination.loading || destination.complete || this.state !== "online") return false;
    destination.loading = true;
    this.#changed();
    try {
      destination.prepend(await this.request("get-history", { ...destination.address, before: destination.low, limit: PAGE }));
    } finally {
      destination.loading = false;
      this.#changed();
    }
    return true;
  }

  /** Reports to the service that everything up to the last message of others is read. */
  async markRead(destination) {
    const last = destination.events.findLast((it) => it.kind === "message" && it.from !== this.subscriber);
    destination.unread = 0;
    if (!last || last.sequence <= Math.max(destination.read, destination.reported) || this.state !== "online") return;
    destination.reported = last.sequence;
    try {
      await this.request("delivery", { ...destination.address, sequence: last.sequence, status: "read" });
      destination.read = Math.max(destination.read, last.sequence);
    } catch { /* reported with the next message, or after the next connect */ }
  }

  async announce(announced) {
    this.#stored.value.announced = announced;
    this.#stored.save();
    this.#changed();
    if (this.state === "online") await this.request("announce", announced);
  }

  /** Creates a channel. A retry with the same `id` after a lost answer creates no second channel. */
  async createChannel(id, name, inviteToken) {
    const answer = await this.request("create-channel", { name, "channel-id": id, "invite-token": inviteToken });
    const channel = this.#known("channel", answer["channel-id"], 0);
    Object.assign(channel, { name: answer.name, administrator: answer.administrator ?? true });
    this.keepInviteToken(channel.id, answer["invite-token"] ?? inviteToken);
    this.#catchUp(channel);
    return channel;
  }

  async join(id, inviteToken) {
    const asked = this.#counter;
    const token = inviteToken ? { "invite-token": inviteToken } : {};
    const answer = await this.request("join-channel", { "channel-id": id, ...token });
    this.invitations.delete(id);
    if (inviteToken) this.keepInviteToken(id, inviteToken);
    const channel = this.#known("channel", id, answer.sequence ?? 0);
    Object.assign(channel, { name: answer.membership.name, administrator: answer.membership.administrator });
    channel.members = new Map();
    this.#members(channel, answer, asked);
    channel.last = Math.max(channel.last, answer.sequence ?? 0);
    if (channel.position < channel.last) this.#catchUp(channel);
    return channel;
  }

  async leave(id) {
    await this.request("leave-channel", { "channel-id": id });
    this.invitations.delete(id);
    const channel = this.destinations.get(`channel:${id}`);
    if (channel) this.#forget(channel);
    this.#changed();
  }

  async listMembers(channel, more = false) {
    const asked = this.#counter;
    const after = more ? { after: channel.moreMembers } : {};
    const page = await this.request("list-subscribers", { ...channel.address, ...after });
    if (!more) channel.members = new Map();
    this.#members(channel, page, asked);
  }

  #members(channel, { subscribers, next }, asked) {
    for (const member of subscribers) {
      this.#person(member, asked);
      channel.members.set(member.id, { id: member.id, administrator: member.administrator });
    }
    channel.moreMembers = next;
    this.#changed();
  }

  /** Sends an administrator's change of a channel. The service does not push its event to this connection, so it is fetched. */
  async administer(channel, type, subscriber, fields = {}) {
    await this.request(type, { ...channel.address, "subscriber-id": subscriber, ...fields });
    this.#catchUp(channel);
  }

  sendTyping(destination, active) {
    if (this.state === "online") this.request("typing", { ...destination.address, active }).catch(() => {});
  }
}

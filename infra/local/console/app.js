// The page: draws a session and turns the user's actions into client messages.
// Text from the service is inserted as text, never as markup.

import { Session, Stored, uuid } from "./protocol.js";

const $ = (id) => document.getElementById(id);
const ID = /^(?=.*[A-Za-z0-9])[A-Za-z0-9._~+@:-]{1,128}$/;
const AVAILABILITY = { available: "Available", dnd: "Do not disturb", busy: "Busy", invisible: "Offline" };
const MARKS = { waiting: ["◷", "Not sent yet"], stored: ["✓", "Stored"], received: ["✓✓", "Received"], read: ["✓✓", "Read"] };
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const GROUP_MS = 5 * 60_000;
const TYPING_MS = 5_000;
const UNSURE = "Continue only if you want that.";
const RETRY = [$("banner-button"), $("offline-button")]; // of the list, and of the conversation, which is another screen on narrow displays

const confirmed = new Stored("confirmed", { who: "" }); // the identity that the user entered

let session = null;
let open = null; // the destination on screen
let wanted = null; // an invite link to follow once signed in: {channel, token}
let drafts = new Map();
let stick = true; // true if the log stays scrolled to its end
let end = 0; // the scroll position of the last scroll to the end
let typedAt = 0;
let newChannel = ""; // the id of the channel that the dialog creates; it stays the same over retries

// --- small tools ---

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

const signatures = new WeakMap();

/** Makes `node` look like `fresh` and keeps as many nodes as possible: a focused or pressed node must not be replaced. */
function morph(node, fresh) {
  const [kept, wanted] = [[...node.childNodes], [...fresh.childNodes]];
  for (const { name } of [...node.attributes]) if (!fresh.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  if (kept.length !== wanted.length || kept.some((it, at) => it.nodeName !== wanted[at].nodeName)) {
    node.replaceChildren(...wanted);
  } else {
    kept.forEach((it, at) => {
      if (it.nodeType === Node.ELEMENT_NODE) morph(it, wanted[at]);
      else if (it.data !== wanted[at].data) it.data = wanted[at].data;
    });
  }
}

/**
 * Makes the children of `parent` those of `items` {key, sig, build}. A node with the same `sig` stays unchanged.
 * A changed node is updated but keeps its first listeners, so listeners must not capture values that may change.
 */
function reconcile(parent, items) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let cursor = parent.firstElementChild;
  for (const { key, sig, build } of items) {
    let node = old.get(key);
    old.delete(key);
    if (!node || signatures.get(node) !== sig) {
      const fresh = build();
      fresh.dataset.key = key;
      if (node) morph(node, fresh);
      else node = fresh;
      signatures.set(node, sig);
    }
    if (node === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(node, cursor);
  }
  for (const node of old.values()) node.remove();
}

/** Returns a subscriber's round picture: an initial, a colour by name, and a dot for a known availability. */
function avatar(id, availability) {
  let hue = 0;
  for (const letter of id) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  const node = el("span", { class: "avatar", "aria-hidden": "true", text: [...id][0]?.toUpperCase() ?? "?" });
  node.style.setProperty("--hue", hue);
  if (availability) node.append(el("span", { class: "dot", "data-availability": availability }));
  return node;
}

function put(parent, ...nodes) {
  parent.replaceChildren(...nodes);
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const title = (destination) => destination.name || (destination.kind === "channel" ? "Channel" : destination.id);
const presence = (id) => session.people.get(id);
const presenceWords = (id) => {
  const person = presence(id);
  if (!person) return "";
  return [AVAILABILITY[person.availability] ?? person.availability, person.status].filter(Boolean).join(" · ");
};

// --- the address: #domain/subscriber?join=channel&token=invite-token ---

function parseFragment(hash) {
  const [who, query = ""] = hash.replace(/^#/, "").split("?");
  const [domain = "", subscriber = ""] = who.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return "";
    }
  });
  const fields = new URLSearchParams(query);
  const join = fields.get("join") ? { channel: fields.get("join"), token: fields.get("token") ?? "" } : null;
  return { domain, subscriber, join };
}

function inviteLink(channel) {
  const token = session.inviteToken(channel.id);
  const query = new URLSearchParams({ join: channel.id, ...(token ? { token } : {}) });
  return `${location.origin}${location.pathname}#${encodeURIComponent(session.domain)}/?${query}`;
}

/**
 * Returns true if a page of another site may have chosen the address. The server marks the page if the browser says so;
 * an opener can also change the fragment later, and old browsers send only a referrer.
 */
function isChosenElsewhere() {
  const { referrer } = document;
  return document.documentElement.dataset.openedBy === "another-site" || Boolean(window.opener)
    || (referrer !== "" && !referrer.startsWith(`${location.origin}/`));
}

function followFragment() {
  const { domain, subscriber, join } = parseFragment(location.hash);
  const asks = isChosenElsewhere();
  if (join) wanted = join;
  if (session && join && domain === session.domain && (!subscriber || subscriber === session.subscriber)) {
    showIdentity();
    return asks ? askToJoin(`Another site opened this page to join this channel. ${UNSURE}`) : followInvite();
  }
  if (session && domain === session.domain && subscriber === session.subscriber) return;
  if (session) signOut();
  $("sign-in-domain").value = domain || $("sign-in-domain").value;
  $("sign-in-subscriber").value = subscriber;
  if (join) $("sign-in-lead").textContent = "You were invited to a channel. Sign in to join it.";
  if (!ID.test(domain) || !ID.test(subscriber)) return $(domain ? "sign-in-subscriber" : "sign-in-domain").focus();
  // After a reload the user need not confirm the same identity again.
  if (!asks || (!join && confirmed.value.who === `${domain}/${subscriber}`)) return signIn(domain, subscriber);
  const wish = join ? `to sign you in and join the channel ${join.channel}` : "to sign you in";
  $("sign-in-lead").textContent = `Another site opened this page ${wish}. ${UNSURE}`;
}

/** Shows the wanted invitation in a dialog instead of following it. */
function askToJoin(text) {
  const { channel, token } = wanted;
  wanted = null;
  openDialog("join");
  $("join-channel").value = channel;
  $("join-token").value = token;
  $("join-form").querySelector(".error").textContent = text;
}

function showIdentity() {
  const who = [session.domain, session.subscriber].map(encodeURIComponent).join("/");
  history.replaceState(null, "", `${location.pathname}#${who}`);
}

// --- signing in and out ---

function signIn(domain, subscriber) {
  const mine = (session = new Session(domain, subscriber));
  let seen = false;
  session.addEventListener("change", () => {
    if (session !== mine) return;
    draw();
    if (seen || mine.state !== "online") return;
    seen = true;
    showIdentity();
    followInvite();
  });
  session.addEventListener("stopped", ({ detail }) => {
    if (seen || session !== mine) return;
    signOut();
    $("sign-in-domain").value = domain;
    $("sign-in-subscriber").value = subscriber;
    $("sign-in-error").textContent = detail;
  });
  $("sign-in-error").textContent = "";
  $("sign-in").hidden = true;
  $("console").hidden = false;
  $("domain").textContent = domain;
  $("me-name").textContent = subscriber;
  $("availability").value = session.announced.availability;
  $("status-text").value = session.announced.status ?? "";
  session.start();
  draw();
}

function signOut() {
  session?.stop();
  session = null;
  drafts = new Map();
  show(null);
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  $("console").hidden = true;
  $("sign-in").hidden = false;
  document.title = "Messaging console";
}

async function followInvite() {
  if (!wanted || session.state !== "online") return;
  const invitation = wanted;
  wanted = null;
  try {
    show(await session.join(invitation.channel, invitation.token));
  } catch (error) {
    wanted = invitation;
    askToJoin(error.message);
  }
}

$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [domain, subscriber] = [$("sign-in-domain").value.trim(), $("sign-in-subscriber").value.trim()];
  const wrong = [["Domain", domain, "sign-in-domain"], ["Subscriber", subscriber, "sign-in-subscriber"]].find(([, id]) => !ID.test(id));
  if (!wrong) {
    confirmed.value.who = `${domain}/${subscriber}`;
    confirmed.save();
    return signIn(domain, subscriber);
  }
  $("sign-in-error").textContent = `${wrong[0]}: 1 to 128 letters, digits or . _ ~ + @ : -, at least one letter or digit`;
  $(wrong[2]).focus();
});

$("sign-out").addEventListener("click", () => {
  history.replaceState(null, "", location.pathname);
  signOut();
  $("sign-in-subscriber").focus();
});

addEventListener("hashchange", followFragment);
addEventListener("online", () => session?.state === "waiting" && session.retryNow());
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !session) return;
  if (session.state === "waiting") session.retryNow();
  draw();
});

// --- drawing ---

function draw() {
  if (!session) return;
  if (open && session.destinations.get(open.key) !== open) show(null);
  drawConnection();
  drawLists();
  drawMe();
  if (open) drawOpen();
  const unread = [...session.destinations.values()].reduce((sum, it) => sum + it.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ""}${open ? `${title(open)} · ` : ""}${session.subscriber}`;
}

function drawConnection() {
  const { state, notice } = session;
  const words = { online: "Connected", connecting: "Connecting…", waiting: "Not connected", stopped: "Not connected" };
  const connection = $("connection");
  connection.dataset.state = state;
  if (connection.textContent !== words[state]) connection.textContent = words[state];
  const broken = state === "waiting" || state === "stopped";
  $("banner").hidden = !broken;
  const text = state === "waiting" ? `${notice} Trying again soon.` : notice;
  if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
  for (const button of RETRY) button.textContent = state === "stopped" ? "Connect again" : "Try now";
  $("offline-button").disabled = !broken;
  $("offline").hidden = state === "online";
  const offline = state === "stopped" ? notice : "Not connected. Messages are kept and sent later.";
  if ($("offline-text").textContent !== offline) $("offline-text").textContent = offline;
}

function drawLists() {
  const all = [...session.destinations.values()];
  const channels = all.filter((it) => it.kind === "channel").sort((a, b) => title(a).localeCompare(title(b)));
  const direct = all.filter((it) => it.kind === "direct" && (it.last > 0 || it === open || waiting(it).length))
    .sort((a, b) => b.timestamp.localeCompare(a.timestamp) || a.id.localeCompare(b.id));
  const invitations = [...session.invitations.values()].filter((it) => !session.destinations.has(`channel:${it["channel-id"]}`));
  reconcile($("channel-list"), channels.map(listItem));
  reconcile($("conversation-list"), direct.map(listItem));
  reconcile($("invitation-list"), invitations.map(invitationItem));
  $("no-channels").hidden = channels.length > 0;
  $("no-conversations").hidden = direct.length > 0;
  $("invitations").hidden = invitations.length === 0;
}

function listItem(destination) {
  const { kind, id, unread, key } = destination;
  const availability = kind === "direct" ? presence(id)?.availability ?? "" : "";
  const current = destination === open;
  const name = title(destination);
  return {
    key,
    sig: JSON.stringify([name, unread, availability, current]),
    build: () => el("li", {}, el("button", {
      type: "button", class: "entry", "data-testid": `${kind}-entry`, "data-id": id, "data-unread": unread,
      "aria-current": current ? "true" : undefined, onclick: () => show(destination, true),
    },
    kind === "channel" ? el("span", { class: "hash", "aria-hidden": "true", text: "#" }) : avatar(id, availability),
    el("span", { class: "name", dir: "auto", text: name }),
    availability && el("span", { class: "visually-hidden", text: AVAILABILITY[availability] }),
    unread > 0 && el("span", { class: "badge", "aria-label": `${unread} unread`, text: unread > 99 ? "99+" : unread }))),
  };
}

function invitationItem(invitation) {
  const id = invitation["channel-id"];
  const act = (work) => async () => {
    $("invitation-error").textContent = "";
    try {
      await work();
    } catch (error) {
      $("invitation-error").textContent = error.message;
    }
  };
  return {
    key: id,
    sig: JSON.stringify(invitation),
    build: () => el("li", { class: "invitation", "data-testid": "invitation", "data-id": id },
      el("span", { dir: "auto", text: invitation.name }),
      invitation.from && el("span", { class: "quiet small", text: `from ${invitation.from}` }),
      el("span", { class: "buttons" },
        el("button", { type: "button", class: "text", text: "Decline", "aria-label": `Decline ${invitation.name}`, onclick: act(() => session.leave(id)) }),
        el("button", { type: "button", class: "primary", text: "Join", "aria-label": `Join ${invitation.name}`, "data-testid": "accept", onclick: act(async () => show(await session.join(id, invitation["invite-token"]), true)) }))),
  };
}

function drawMe() {
  const shown = session.state === "online" ? session.announced.availability : "invisible";
  if ($("me-avatar").dataset.shown === session.subscriber + shown) return;
  $("me-avatar").dataset.shown = session.subscriber + shown;
  put($("me-avatar"), avatar(session.subscriber, shown));
}

// --- the open destination ---

function show(destination, byUser = false) {
  if (open) {
    drafts.set(open.key, $("message").value);
    if (open.typed) stopTyping();
  }
  open = destination;
  [stick, end] = [true, 0];
  $("console").dataset.view = open ? "conversation" : "list";
  $("open").hidden = !open;
  $("nothing-open").hidden = Boolean(open);
  toggleMembers(false);
  notice("");
  if (!open) return put($("log"));
  put($("log"));
  $("message").value = drafts.get(open.key) ?? "";
  fitComposer();
  if (open.kind === "channel") listMembers(open);
  draw();
  if (byUser && matchMedia("(min-width: 700px)").matches) $("message").focus();
  else if (byUser) $("open-title").focus({ preventScroll: true });
}

function notice(words) {
  $("notice").textContent = words;
  $("notice").hidden = !words;
}

const waiting = ({ kind, id }) => session.outbox.filter((it) => it.kind === kind && it.id === id);

function drawOpen() {
  const channel = open.kind === "channel";
  $("open-title").textContent = title(open);
  const members = open.members?.size;
  const about = channel
    ? members ? `${plural(members, "member")}${open.moreMembers ? " and more" : ""}${open.administrator ? " · you are an administrator" : ""}` : ""
    : presenceWords(open.id);
  if ($("open-subtitle").textContent !== about) $("open-subtitle").textContent = about;
  const picture = `${open.key} ${channel ? "" : presence(open.id)?.availability ?? ""}`;
  if ($("open-avatar").dataset.shown !== picture) {
    $("open-avatar").dataset.shown = picture;
    put($("open-avatar"), channel ? el("span", { class: "hash large", "aria-hidden": "true", text: "#" }) : avatar(open.id, presence(open.id)?.availability));
  }
  $("invite-open").hidden = !channel;
  $("members-toggle").hidden = !channel;
  const typing = [...open.typing.keys()];
  const typed = typing.length ? `${typing.join(", ")} ${typing.length > 1 ? "are" : "is"} typing…` : "";
  if ($("typing").textContent !== typed) $("typing").textContent = typed;
  drawLog();
  drawMembers();
  if (stick && !document.hidden) session.markRead(open);
}

function drawLog() {
  const log = $("log");
  const fromEnd = log.scrollHeight - log.scrollTop;
  const last = log.lastElementChild?.dataset.key;
  if (stick && log.scrollTop < end - 1 && !atEnd()) stick = false; // the user scrolled, but the scroll event has not arrived yet
  const first = log.dataset.low;
  log.setAttribute("aria-busy", String(Boolean(open.loading)));
  reconcile(log, logItems());
  log.dataset.low = open.low;
  if (stick) toEnd();
  else if (first !== log.dataset.low) log.scrollTop = log.scrollHeight - fromEnd; // keeps the view when older messages appear above
  if (stick) $("newest").hidden = true;
  else if (last && last !== log.lastElementChild.dataset.key) $("newest").hidden = false;
  loadOlder();
}

function atEnd() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function toEnd() {
  const log = $("log");
  log.scrollTop = log.scrollHeight;
  end = log.scrollTop;
}

function logItems() {
  const beginning = open.kind === "channel" ? `This is the beginning of ${title(open)}.` : `This is the beginning of your conversation with ${open.id}.`;
  const items = [open.complete
    ? { key: "start", sig: beginning, build: () => el("p", { class: "line", "data-testid": "start", text: beginning }) }
    : { key: "earlier", sig: String(session.state), build: () => el("p", { class: "line", text: session.state === "online" ? "Loading earlier messages…" : "Earlier messages load after reconnecting." }) }];
  let before = null;
  const add = (event, item) => {
    const time = new Date(event.timestamp);
    const day = DAY.format(time);
    if (day !== (before && DAY.format(before.time))) {
      items.push({ key: `day ${day} ${time.getFullYear()}`, sig: "", build: () => el("p", { class: "line day", text: day }) });
      before = null;
    }
    const grouped = before?.from === event.from && event.kind === "message" && time - before.time < GROUP_MS;
    items.push(item(grouped));
    before = { from: event.kind === "message" ? event.from : undefined, time };
  };
  for (const event of open.events) {
    if (event.kind === "message") add(event, (grouped) => messageItem(event, mark(event), grouped));
    else if (lineWords(event)) add(event, () => lineItem(event));
  }
  for (const entry of waiting(open)) {
    const event = { kind: "message", from: session.subscriber, content: entry.content, timestamp: entry.written, "message-id": entry.messageId };
    add(event, (grouped) => messageItem(event, "waiting", grouped, entry));
  }
  return items;
}

function mark(event) {
  if (event.from !== session.subscriber) return "";
  if (open.kind === "channel") return "stored";
  return event.sequence <= open.peer.read ? "read" : event.sequence <= open.peer.received ? "received" : "stored";
}

/** Returns the item of a message. `entry` is its outbox entry while it is not stored. */
function messageItem(event, marked, grouped, entry) {
  const own = event.from === session.subscriber;
  const failed = entry?.state === "failed";
  return {
    key: `message ${event.from} ${event["message-id"]}`,
    sig: JSON.stringify([marked, grouped, failed, entry?.error]),
    build: () => el("article", {
      class: `message ${own ? "own" : "other"}${grouped ? " grouped" : ""}${failed ? " failed" : ""}`, "data-testid": "message",
      "data-from": event.from, "data-sequence": event.sequence, "data-mark": marked || undefined,
    },
    !own && (grouped ? el("span", { class: "avatar-space" }) : avatar(event.from)),
    el("div", { class: "bubble" },
      !grouped && (own ? el("span", { class: "visually-hidden", text: "You" }) : el("span", { class: open.kind === "direct" ? "visually-hidden" : "from", dir: "auto", text: event.from })),
      contentNode(event.content),
      el("span", { class: "meta" },
        el("time", { datetime: event.timestamp, text: CLOCK.format(new Date(event.timestamp)) }),
        marked && !failed && el("span", { class: "mark", role: "img", "aria-label": MARKS[marked][1], title: MARKS[marked][1], text: MARKS[marked][0] })),
      failed && el("div", { class: "failure", role: "alert" },
        el("span", { text: `Not sent. ${entry.error}` }),
        el("button", { type: "button", class: "text", text: "Try again", onclick: () => session.retry(entry) }),
        el("button", { type: "button", class: "text", text: "Remove", onclick: () => session.discard(entry) })))),
  };
}

function contentNode(content) {
  const text = typeof content === "string" ? content : content?.text;
  const plain = typeof content === "string" || (typeof text === "string" && Object.keys(content).length === 1);
  if (plain) return el("p", { class: "text", dir: "auto", "data-testid": "text", text });
  return el("pre", { class: "json", "data-testid": "json", tabindex: "0", text: JSON.stringify(content, null, 2) });
}

function lineWords(event) {
  const who = event["subscriber-id"] ?? event.subscriber?.id;
  const me = who === session.subscriber;
  switch (event.kind) {
    case "subscriber-joined": return `${me ? "You" : who} joined`;
    case "subscriber-left": return event.reason === "removed" ? `${me ? "You were" : `${who} was`} removed` : `${me ? "You" : who} left`;
    case "administrator-changed": return `${me ? "You are" : `${who} is`} ${event.administrator ? "now an administrator" : "no longer an administrator"}`;
    case "channel-updated": return `The channel is now “${event.name}”`;
    default: return ""; // a void event, or a kind that this page does not know
  }
}

function lineItem(event) {
  const text = lineWords(event);
  return { key: `line ${event.sequence}`, sig: text, build: () => el("p", { class: "line", "data-testid": "line", "data-sequence": event.sequence, text }) };
}

async function loadOlder() {
  const log = $("log");
  const destination = open;
  if (log.scrollTop > 120 || destination.complete || destination.failedOlder) return;
  try {
    await session.older(destination);
  } catch (error) {
    if (error.code === undefined) return; // the connection was lost; the next draw tries again
    destination.failedOlder = true;
    setTimeout(() => (destination.failedOlder = false, draw()), error.retryMs || 3000);
    if (destination === open) notice(`Earlier messages: ${error.message}`);
  }
}

$("log").addEventListener("scroll", () => {
  const log = $("log");
  if (!open) return;
  stick = atEnd();
  if (stick) {
    $("newest").hidden = true;
    if (!document.hidden) session.markRead(open);
  }
  loadOlder();
}, { passive: true });

// Keeps the end of the log in view when the composer grows or a phone's keyboard appears.
new ResizeObserver(() => stick && toEnd()).observe($("log"));

$("newest").addEventListener("click", () => {
  [stick, end] = [true, 0];
  $("newest").hidden = true;
  draw();
});

// --- writing ---

function fitComposer() {
  const field = $("message");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 160)}px`;
}

function stopTyping() {
  open.typed = false;
  typedAt = 0;
  session.sendTyping(open, false);
}

$("message").addEventListener("input", () => {
  fitComposer();
  const now = Date.now();
  if (!$("message").value) return open.typed && stopTyping();
  if (now - typedAt < TYPING_MS) return;
  typedAt = now;
  open.typed = true;
  session.sendTyping(open, true);
});

$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("message").value.trim();
  if (!text || !open) return;
  const content = { text };
  if (new TextEncoder().encode(JSON.stringify(content)).length > session.contentBytes) {
    return notice(`This message is too long. The limit is ${session.contentBytes / 1024} KiB.`);
  }
  notice("");
  [stick, end] = [true, 0];
  $("message").value = "";
  fitComposer();
  if (open.typed) stopTyping();
  session.send(open, content);
  $("message").focus();
});

// --- members ---

async function listMembers(channel, more = false) {
  $("members-error").textContent = "";
  try {
    await session.listMembers(channel, more);
  } catch (error) {
    if (error.code !== undefined && channel === open) $("members-error").textContent = error.message;
  }
}

function drawMembers() {
  const members = [...(open.members?.values() ?? [])];
  reconcile($("member-list"), members.map(memberItem));
  $("more-members").hidden = !open.moreMembers;
}

function memberItem({ id, administrator }) {
  const me = id === session.subscriber;
  const availability = me && session.state === "online" ? session.announced.availability : presence(id)?.availability ?? "invisible";
  const words = me ? [AVAILABILITY[availability], session.announced.status].filter(Boolean).join(" · ") : presenceWords(id);
  const channel = open;
  const act = (type, fields) => async () => {
    $("members-error").textContent = "";
    try {
      await session.administer(channel, type, id, fields?.());
    } catch (error) {
      $("members-error").textContent = error.message;
    }
  };
  return {
    key: id,
    sig: JSON.stringify([administrator, availability, words, channel.administrator]),
    build: () => el("li", { class: "member", "data-testid": "member", "data-id": id, "data-availability": availability },
      avatar(id, availability),
      el("div", { class: "who" },
        el("span", { class: "name" }, el("bdi", { text: me ? `${id} (you)` : id }), administrator && el("span", { class: "tag", "data-testid": "administrator", text: "Administrator" })),
        words && el("span", { class: "quiet small", dir: "auto", text: words }),
        el("span", { class: "acts" },
          !me && el("button", { type: "button", class: "text", text: "Message", "aria-label": `Message ${id}`, onclick: () => show(session.direct(id), true) }),
          channel.administrator && el("button", {
            type: "button", class: "text", text: administrator ? "Remove administrator" : "Make administrator",
            "aria-label": administrator ? `Remove the administrator right of ${id}` : `Make ${id} an administrator`, onclick: act("set-administrator", () => ({ administrator: !channel.members.get(id)?.administrator })),
          }),
          channel.administrator && !me && el("button", { type: "button", class: "text", text: "Remove", "aria-label": `Remove ${id}`, onclick: act("remove-subscriber") })))),
  };
}

function toggleMembers(visible) {
  const had = $("members").contains(document.activeElement);
  $("members").hidden = !visible;
  $("members-toggle").setAttribute("aria-expanded", String(visible));
  if (visible) $("members-close").focus();
  else if (had) $("members-toggle").focus();
}

$("members-toggle").addEventListener("click", () => toggleMembers($("members").hidden));
$("members-close").addEventListener("click", () => toggleMembers(false));
$("members").addEventListener("keydown", ({ key }) => key === "Escape" && toggleMembers(false));
$("more-members").addEventListener("click", () => listMembers(open, true));
$("leave").addEventListener("click", async () => {
  const channel = open;
  if (!confirm(`Leave ${title(channel)}? You will no longer see its messages.`)) return;
  try {
    await session.leave(channel.id);
  } catch (error) {
    $("members-error").textContent = error.message;
  }
});

// --- the rest of the frame ---

$("back").addEventListener("click", () => {
  const key = open?.key;
  show(null);
  draw();
  document.querySelector(`li[data-key="${CSS.escape(key ?? "")}"] button`)?.focus();
});

for (const button of RETRY) button.addEventListener("click", () => session.retryNow());

async function announce(event) {
  event.preventDefault();
  $("me-error").textContent = "";
  try {
    await session.announce({ availability: $("availability").value, status: $("status-text").value.trim() });
  } catch (error) {
    if (error.code !== undefined) $("me-error").textContent = error.message;
  }
}

$("me").addEventListener("change", announce);
$("me").addEventListener("submit", announce);

// --- dialogs ---

function openDialog(name) {
  const form = $(`${name}-form`);
  form.reset();
  form.querySelector(".error").textContent = "";
  $(`${name}-dialog`).showModal();
}

/** Runs `work` when a dialog's form is submitted. Closes the dialog on success and shows the error on failure. */
function dialog(name, work) {
  const [box, form] = [$(`${name}-dialog`), $(`${name}-form`)];
  form.querySelector("[data-close]").addEventListener("click", () => box.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [error, button] = [form.querySelector(".error"), form.querySelector("[type=submit]")];
    error.textContent = "";
    button.disabled = true;
    try {
      if (await work() !== false) box.close();
    } catch (failure) {
      error.textContent = failure.message;
    } finally {
      button.disabled = false;
    }
  });
}

function need(id, words, pattern = /./) {
  const value = $(id).value.trim();
  if (pattern.test(value)) return value;
  $(id).focus();
  throw new Error(words);
}

dialog("create", async () => {
  show(await session.createChannel(newChannel, need("create-name", "Give the channel a name."), $("create-token").value.trim() || undefined), true);
});

dialog("join", async () => {
  const given = need("join-channel", "Give a channel id or an invite link.");
  const link = given.includes("#") ? parseFragment(given.slice(given.indexOf("#"))).join : null;
  show(await session.join(link?.channel ?? given, link?.token || $("join-token").value.trim()), true);
});

dialog("direct", async () => {
  const subscriber = need("direct-subscriber", "1 to 128 letters, digits or . _ ~ + @ : -, at least one letter or digit", ID);
  if (subscriber === session.subscriber) throw new Error("This is you. Choose another subscriber.");
  show(session.direct(subscriber), true);
});

dialog("invite", async () => {
  const subscriber = need("invite-subscriber", "1 to 128 letters, digits or . _ ~ + @ : -, at least one letter or digit", ID);
  $("invite-done").textContent = "";
  await session.administer(open, "invite-subscriber", subscriber);
  $("invite-done").textContent = `${subscriber} was invited.`;
  $("invite-subscriber").value = "";
  return false;
});

$("create-open").addEventListener("click", () => {
  newChannel = uuid();
  openDialog("create");
  $("create-token").value = uuid().slice(0, 13);
});
$("join-open").addEventListener("click", () => openDialog("join"));
$("direct-open").addEventListener("click", () => openDialog("direct"));
$("invite-open").addEventListener("click", () => {
  openDialog("invite");
  const token = session.inviteToken(open.id);
  $("invite-link").value = inviteLink(open);
  $("invite-channel").value = open.id;
  $("invite-token").value = token ?? "";
  $("invite-token-row").hidden = !token;
  $("invite-subscriber-row").hidden = !open.administrator;
  $("invite-done").textContent = "";
  $("invite-note").textContent = token
    ? "Everyone with this link may join."
    : "This page does not know the invite token. The link works only for subscribers who are invited by name.";
});
$("invite-copy").addEventListener("click", async () => {
  const field = $("invite-link");
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    document.execCommand("copy"); // if the page is not a secure context
  }
  $("invite-done").textContent = "Copied.";
});

followFragment();

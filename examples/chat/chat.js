// The page of the chat. Its rules:
//
// 1. What people wrote only ever becomes text: nodes are built with `append`, never parsed from a string.
// 2. A message is sent once. It stands at the end of the log as "sending" until the server's echo confirms it. If the
//    connection drops before that, nobody knows whether it arrived, so the page says so and does not send it again.
// 3. A socket's echoes come in the order of its messages, so the oldest unconfirmed message is the one confirmed.
// 4. The server's `welcome` is the truth about who is here; `joined` and `left` change it.

const FIRST_DELAY = 500; // milliseconds before the first new attempt; doubles with each that fails …
const LONGEST_DELAY = 15_000; // … up to this
const ECHO_TIMEOUT = 10_000; // milliseconds without an echo after which a connection counts as dead
const SAME_BREATH = 180; // seconds within which messages of one person share a heading
const LONGEST_LOG = 500; // lines kept in the page
const ROOM_LENGTH = 64; // characters, as in server.py

const $ = (id) => document.getElementById(id);
const log = $("log");
const field = $("text");
const door = $("door");

let name = sessionStorage.getItem("name"); // per tab, so two tabs may be two people
let room = roomInAddress();
let myId = null;
let unread = 0;

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

// The room

function roomInAddress() {
  const fragment = location.hash.slice(1);
  try {
    return cleanRoom(decodeURIComponent(fragment));
  } catch {
    return cleanRoom(fragment); // a stray "%" is part of the name
  }
}

function cleanRoom(text) {
  return Array.from(text.trim().replace(/^#+/, "")).slice(0, ROOM_LENGTH).join("").trim() || "lobby";
}

function enterRoom() {
  room = roomInAddress();
  history.replaceState(null, "", `#${encodeURIComponent(room)}`); // so that the address can be shared
  $("room").textContent = room;
  log.replaceChildren();
  pending.length = 0;
  stuck = true;
  listPeople({});
  missed(0);
  showTitle();
  const url = new URL("chat", location.href.replace(/^http/, "ws"));
  url.search = new URLSearchParams({ name, room });
  url.hash = "";
  lostAt = null;
  attempt = 0;
  connect(url);
}

// The connection

let address = null;
let socket = null;
let attempt = 0;
let retry = 0; // timer
let echoTimer = 0;
let lostAt = null; // when the connection was lost, while it is

function connect(url = address) {
  address = url;
  abandon();
  showState("connecting", lostAt ? "Reconnecting" : "Connecting");
  socket = new WebSocket(url);
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = lose;
}

// Forgets the socket at once. A dead network would delay its `close` event, and a late one must not disturb its successor.
function abandon() {
  clearTimeout(retry);
  clearTimeout(echoTimer);
  if (!socket) return;
  socket.onmessage = socket.onclose = null;
  socket.close();
  socket = null;
}

function lose() {
  abandon();
  lostAt ??= Date.now();
  for (const node of pending.splice(0)) {
    node.classList.replace("sending", "lost");
    node.append(element("p", "fate", "May not have arrived"));
  }
  // Exponential backoff, and jitter so that a restarted server does not meet everybody in the same instant.
  const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempt++) * (0.5 + Math.random() / 2);
  countDown(Date.now() + delay);
}

function countDown(until) {
  const left = until - Date.now();
  if (left <= 0) return connect();
  const seconds = Math.ceil(left / 1000);
  if (navigator.onLine) showState("waiting", "Reconnecting", `in ${seconds} s`);
  else showState("offline", "Offline");
  retry = setTimeout(countDown, left - (seconds - 1) * 1000, until);
}

const away = () => lostAt !== null && socket === null;
addEventListener("online", () => away() && connect());
addEventListener("offline", () => socket && lose());
document.addEventListener("visibilitychange", () => !document.hidden && away() && connect());

function showState(state, word, countdown = "") {
  const connected = state === "connected";
  $("state").dataset.state = state;
  // A live region is read out whenever it is written to, so write only news; the seconds are outside it.
  if ($("state-word").textContent !== word) $("state-word").textContent = word;
  $("countdown").textContent = countdown;
  const fieldset = $("composer").firstElementChild;
  if (fieldset.disabled !== connected) return;
  const hadFocus = document.activeElement === field || document.activeElement === document.body;
  fieldset.disabled = !connected;
  field.placeholder = connected ? `Message #${room}` : "Waiting for the connection…";
  if (connected && hadFocus && !door.open && matchMedia("(hover: hover)").matches) field.focus();
}

// What the server says

function receive(event) {
  const at = new Date();
  if (event.type === "welcome") {
    myId = event.id;
    attempt = 0;
    listPeople(event.people);
    if (lostAt === null) add(note(at, "You are in ", element("bdi", "", `#${room}`)));
    else add(note(at, "Connected again. What was said in between is not shown."));
    lostAt = null;
    showState("connected", "Connected");
  } else if (event.type === "joined") {
    addPerson(event.id, event.name);
    add(note(at, element("bdi", "", event.name), " joined"));
  } else if (event.type === "left") {
    removePerson(event.id);
    add(note(at, element("bdi", "", event.name), " left"));
  } else if (event.type === "message" && event.id === myId) {
    confirm(at);
  } else if (event.type === "message") {
    add(message(event.id, event.name, event.text, at));
    if (document.hidden) unread += 1;
    showTitle();
  }
}

// The log

const pending = []; // own messages that the server has not confirmed yet; the last lines of the log
let stuck = true; // to the bottom
let missedCount = 0;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });

function timeOf(at) {
  const node = element("time", "", clock.format(at));
  node.dateTime = at.toISOString();
  node.title = at.toLocaleString();
  return node;
}

function note(at, ...children) {
  return element("p", "note", ...children, " ", timeOf(at));
}

function message(by, author, text, at) {
  const body = element("p", "text", text);
  body.dir = "auto";
  const node = element(
    "article", "message", avatar(author), element("p", "who", element("bdi", "", author), timeOf(at)), body,
  );
  node.style.setProperty("--hue", hue(author));
  node.dataset.by = by;
  node.dataset.at = at / 1000;
  return node;
}

// Puts a line behind all that is confirmed and before all that is not: so every tab shows the server's order.
function add(node) {
  log.insertBefore(node, pending[0] ?? null);
  showQuiet();
  joinHeadings(node);
  if (node.nextElementSibling) joinHeadings(node.nextElementSibling);
  while (log.childElementCount > LONGEST_LOG) log.firstElementChild.remove();
  if (stuck) scrollDown();
  else if (node.matches(".message")) missed(missedCount + 1);
}

function joinHeadings(node) {
  if (!node.matches(".message")) return;
  const before = node.previousElementSibling;
  const sameBreath = before?.dataset.by === node.dataset.by && node.dataset.at - before.dataset.at < SAME_BREATH;
  node.classList.toggle("continued", sameBreath);
}

function scrollDown() {
  log.scrollTop = log.scrollHeight;
  missed(0);
}

function missed(count) {
  missedCount = count;
  $("newer").hidden = count === 0;
  $("newer").textContent = count === 1 ? "1 new message ↓" : `${count} new messages ↓`;
}

log.addEventListener("scroll", () => {
  stuck = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
  if (stuck) missed(0);
});
new ResizeObserver(() => stuck && scrollDown()).observe(log); // a phone's keyboard opened, the composer grew
$("newer").addEventListener("click", () => {
  scrollDown();
  field.focus();
});

// Own messages

function send() {
  const text = field.value.trim();
  if (!text || $("state").dataset.state !== "connected") return;
  socket.send(text);
  const node = message("me", name, text, new Date());
  node.classList.add("own", "sending");
  stuck = true;
  log.append(node);
  pending.push(node);
  showQuiet();
  joinHeadings(node);
  scrollDown();
  if (pending.length === 1) awaitEcho();
  field.value = "";
  showLeft();
}

function confirm(at) {
  const node = pending.shift();
  node.classList.remove("sending");
  node.querySelector("time").replaceWith(timeOf(at));
  awaitEcho();
}

// A browser may take minutes to notice that the network is gone. A missing echo tells sooner.
function awaitEcho() {
  clearTimeout(echoTimer);
  if (pending.length > 0) echoTimer = setTimeout(lose, ECHO_TIMEOUT);
}

function showLeft() {
  const left = field.maxLength - field.value.length;
  $("left").hidden = left > 200;
  $("left").textContent = left;
}

field.addEventListener("input", showLeft);
field.addEventListener("keydown", (event) => {
  // While an input method composes a word, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
  field.focus();
});

// The people

const people = new Map(); // id → list item; two people may have one name

// FNV-1a: names that look alike get colours that do not.
function hue(author) {
  let hash = 0x811c9dc5;
  for (const character of author) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return (hash >>> 0) % 360;
}

function avatar(author) {
  const node = element("span", "avatar", Array.from(author)[0].toUpperCase());
  node.style.setProperty("--hue", hue(author));
  node.ariaHidden = "true";
  return node;
}

function listPeople(names) {
  people.clear();
  $("people-list").replaceChildren();
  for (const [id, author] of Object.entries(names)) addPerson(id, author);
  countPeople();
}

function addPerson(id, author) {
  const node = element("li", "", avatar(author), element("bdi", "", author));
  if (id === myId) node.append(element("span", "", "you"));
  people.set(id, node);
  $("people-list").append(node);
  countPeople();
}

function removePerson(id) {
  people.get(id).remove();
  people.delete(id);
  countPeople();
}

function countPeople() {
  for (const node of document.querySelectorAll(".count")) node.textContent = people.size;
  showQuiet();
}

function showPeople(open) {
  document.body.classList.toggle("people-open", open);
  $("people-button").ariaExpanded = String(open);
}

$("people-button").addEventListener("click", () => showPeople(!document.body.classList.contains("people-open")));
addEventListener("keydown", (event) => event.key === "Escape" && showPeople(false));

// An invitation, as long as nobody else is here and nothing was said
function showQuiet() {
  $("quiet").hidden = people.size !== 1 || log.querySelector(".message") !== null;
}

for (const button of document.querySelectorAll(".copy")) {
  const label = button.textContent;
  button.hidden = !navigator.clipboard; // browsers offer it on https: and localhost only
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
}

// The title

function showTitle() {
  if (!document.hidden) unread = 0;
  document.title = `${unread ? `(${unread}) ` : ""}#${room} · bunws chat`;
}

document.addEventListener("visibilitychange", showTitle);

// The door: asks for the name once per tab, and is how to change it or the room

function openDoor() {
  $("name").value = name ?? "";
  $("room-name").value = room;
  $("door-title").textContent = name ? "Name and room" : "Who is there?";
  $("enter").textContent = name ? "Change" : "Come in";
  $("door-hint").hidden = Boolean(name);
  $("stay").hidden = !name;
  door.showModal();
}

door.addEventListener("close", () => {
  if (!name) openDoor(); // Escape does not make a name
});
$("stay").addEventListener("click", () => door.close());
door.addEventListener("submit", (event) => {
  event.preventDefault();
  const before = name;
  name = $("name").value.trim().replace(/\s+/g, " ");
  sessionStorage.setItem("name", name);
  door.close();
  const wanted = cleanRoom($("room-name").value);
  if (wanted !== roomInAddress()) location.hash = encodeURIComponent(wanted); // `hashchange` enters it
  else if (name !== before) enterRoom();
});
$("room-button").addEventListener("click", openDoor);
addEventListener("hashchange", () => {
  if (name) enterRoom();
  else $("room-name").value = roomInAddress();
});

if (name) enterRoom();
else openDoor();

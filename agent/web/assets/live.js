// Keeps the texts of a page current by one stream of events, and says when they are old.
// An element with data-field shows the text of that name; data-tone-field chooses a look by it.

const stale = document.getElementById("stale");
const address = document.body.classList.contains("tech") ? "/tech/events" : "/events";
const listeners = new Map();
let source = null;
let timer = 0;

/** Calls back with the data of every event of this name. */
export function listen(name, callback) {
  listeners.set(name, callback);
  source?.addEventListener(name, (event) => callback(JSON.parse(event.data)));
}

function show(fields) {
  for (const element of document.querySelectorAll("[data-field]")) {
    const text = fields[element.dataset.field];
    if (text !== undefined && element.textContent !== text) element.textContent = text;
  }
  for (const element of document.querySelectorAll("[data-tone-field]")) {
    const tone = fields[element.dataset.toneField];
    if (tone !== undefined) element.dataset.tone = tone;
  }
  for (const element of document.querySelectorAll("[data-running-field]")) {
    const running = fields[element.dataset.runningField];
    if (running !== undefined) element.dataset.running = running;
  }
  const page = document.querySelector("[data-reload-field]");
  const stamp = page && fields[page.dataset.reloadField];
  if (stamp !== undefined && stamp !== null && stamp !== page.dataset.reloadStamp) location.reload();
  for (const bar of document.querySelectorAll("progress[data-value-field]")) {
    const value = fields[bar.dataset.valueField];
    if (value !== undefined) bar.value = Number(value);
  }
}

function old(isOld) {
  if (stale) stale.hidden = !isOld;
}

function connect() {
  clearTimeout(timer);
  source = new EventSource(address);
  source.onopen = () => old(false);
  source.onerror = () => {
    old(true);
    if (source?.readyState === EventSource.CLOSED) timer = setTimeout(connect, 4000 + 4000 * Math.random());
  };
  source.addEventListener("end", () => location.reload());
  for (const [name, callback] of listeners) {
    source.addEventListener(name, (event) => callback(JSON.parse(event.data)));
  }
}

// Nobody looks at a hidden page: it costs the charger nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    source?.close();
    source = null;
  } else if (source === null) {
    connect();
  }
});

listeners.set("fields", show);
connect();

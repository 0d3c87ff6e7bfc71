// Puts new lines on top as they come, until somebody pauses. Lines arrive as texts, never as HTML.

const list = document.getElementById("lines");
const pause = document.getElementById("pause");
const none = document.getElementById("none");
const stale = document.getElementById("stale");
const MOST = 500;
let paused = false;
let source = null;
let timer = 0;

function make(name, text, className) {
  const element = document.createElement(name);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function add(line) {
  const summary = make("summary", "");
  summary.append(make("span", line.when, "when"), " ", make("span", line.mark, "way"), " ");
  summary.append(make("strong", line.title), " ", line.detail);
  const details = document.createElement("details");
  details.append(summary, make("pre", line.body));
  const item = document.createElement("li");
  item.dataset.tone = line.tone;
  item.append(details);
  list.prepend(item);
  while (list.children.length > MOST) list.lastElementChild.remove();
  none.hidden = true;
}

function connect() {
  clearTimeout(timer);
  source = new EventSource(list.dataset.stream);
  source.onopen = () => (stale.hidden = true);
  source.onerror = () => {
    stale.hidden = false;
    if (source?.readyState === EventSource.CLOSED) timer = setTimeout(connect, 4000 + 4000 * Math.random());
  };
  source.addEventListener("lines", (event) => JSON.parse(event.data).forEach(add));
  source.addEventListener("end", () => location.reload());
}

function disconnect() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on" : "Pause";
  pause.setAttribute("aria-pressed", String(paused));
  if (paused) disconnect();
  else location.reload(); // what came meanwhile is there again
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else if (!paused && source === null) location.reload();
});
connect();

// The chart of the last hour's power: one line for each EVSE, drawn as SVG from the stream of events.

import { listen } from "./live.js";

const HEIGHT = 260, LEFT = 44, RIGHT = 64, TOP = 10, BOTTOM = 26, HOUR_MS = 3_600_000;
const box = document.getElementById("power");
const evses = box.dataset.evses.split(",").map(Number);
let points = [];
let width = 900; // of the box, so that letters keep their size

function svg(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A round number of kW above the largest. */
function scaleTop(kilowatts) {
  for (const top of [1, 2, 4, 8, 12, 16, 24, 40, 60, 80, 120, 160, 240, 400]) if (kilowatts <= top) return top;
  return Math.ceil(kilowatts / 100) * 100;
}

function draw() {
  width = Math.max(280, box.clientWidth);
  const end = points.length ? points[points.length - 1][0] : Date.now();
  const x = (at) => LEFT + (1 - (end - at) / HOUR_MS) * (width - LEFT - RIGHT);
  const all = points.flatMap((point) => point.slice(1)).filter((value) => value !== null);
  const top = scaleTop(Math.max(0.5, ...all) / 1e6);
  const y = (kilowatts) => TOP + (1 - kilowatts / top) * (HEIGHT - TOP - BOTTOM);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
  for (let part = 0; part <= 4; part += 1) {
    const kilowatts = (top * part) / 4;
    picture.append(svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(kilowatts), y2: y(kilowatts) }));
    picture.append(svg("text", { class: "tick", x: LEFT - 8, y: y(kilowatts) + 4, "text-anchor": "end" }, String(kilowatts)));
  }
  for (let minutes = 60; minutes >= 0; minutes -= width < 600 ? 30 : 15) {
    const text = minutes === 0 ? "now" : `-${minutes} min`;
    const anchor = minutes === 60 ? "start" : "middle";
    picture.append(svg("text", { class: "tick", x: x(end - minutes * 60_000), y: HEIGHT - 6, "text-anchor": anchor }, text));
  }
  const labels = [];
  evses.forEach((evse, index) => {
    const look = (index % 4) + 1;
    for (const run of runs(index + 1)) {
      if (run.length === 1) run.unshift([run[0][0] - 2_000, run[0][1]]);
      const line = run.map(([at, value]) => `${x(at).toFixed(1)},${y(value / 1e6).toFixed(1)}`).join(" ");
      picture.append(svg("polyline", { class: `line k${look}`, points: line }));
    }
    const last = points.length ? points[points.length - 1][index + 1] : null;
    if (last !== null) labels.push({ look, text: `EVSE ${evse}`, y: y(last / 1e6) + 4 });
  });
  labels.sort((one, other) => one.y - other.y);
  labels.forEach((label, index) => {
    if (index > 0) label.y = Math.max(label.y, labels[index - 1].y + 14);
  });
  const over = labels.length ? Math.max(0, labels[labels.length - 1].y - (HEIGHT - BOTTOM)) : 0;
  for (const label of labels) {
    picture.append(svg("text", { class: `label f${label.look}`, x: width - RIGHT + 6, y: label.y - over }, label.text));
  }
  box.replaceChildren(picture);
  const now = points.length ? points[points.length - 1].slice(1) : [];
  const said = now.map((value, index) => `EVSE ${evses[index]} ${value === null ? "–" : (value / 1e6).toFixed(1)} kW`);
  box.setAttribute("aria-label", `Power over the last hour; now: ${said.join(", ")}`);
}

/** Stretches of known values: a gap is a gap. */
function runs(column) {
  const found = [];
  let run = [];
  for (const point of points) {
    if (point[column] === null) {
      if (run.length) found.push(run);
      run = [];
    } else {
      run.push([point[0], point[column]]);
    }
  }
  if (run.length) found.push(run);
  return found;
}

addEventListener("resize", draw);
listen("chart", (all) => {
  points = all;
  draw();
});
listen("point", (point) => {
  points.push(point);
  points = points.filter(([at]) => at > point[0] - HOUR_MS);
  draw();
});

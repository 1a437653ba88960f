// Success over episodes: a dot for each, the running mean as a line, and below it which policy acted.

const SVG = "http://www.w3.org/2000/svg";
const CHART = LAYOUT.cameras.length ? [520, 330] : [940, 250]; // beside cameras there is less room

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function inWords(episode) {
  const outcome = episode.success === null ? "nobody said" : episode.success ? "success" : "no success";
  const changed = episode.changed ? `, ${episode.changed} changed` : "";
  const reason = episode.reason ? `; ${episode.reason}` : "";
  return `${episode.number}: ${episode.name}, ${outcome}, ${episode.steps} steps${changed}${reason}`;
}

let successShown = "";
function drawSuccess() {
  const over = [...episodes.values()].filter((one) => !one.running).sort((one, other) => one.number - other.number);
  const state = JSON.stringify(over.map((one) => [one.number, one.success, one.policy]));
  if (state === successShown) return;
  successShown = state;
  const judged = over.filter((one) => one.success !== null), successes = judged.filter((one) => one.success).length;
  const words = `${successes} of ${judged.length} since the monitor was started; line: mean of ${WINDOW}`;
  here("success", ".muted").textContent = over.length ? words : "";

  const [width, height] = CHART, left = 42, right = width - 10, top = 12, bottom = height - 34;
  const first = over.length ? over[0].number : 1;
  const newest = Math.max(over.length ? over[over.length - 1].number : 1, first + 9);
  const slot = (right - left) / (newest - first + 1);
  const x = (number_) => left + (number_ - first + 0.5) * slot;
  const y = (share) => bottom - share * (bottom - top);

  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  for (const share of [0, 0.5, 1]) {
    draw(svg, "line", { x1: left, x2: right, y1: y(share), y2: y(share), stroke: "var(--line)" });
    draw(svg, "text", { x: left - 6, y: y(share) + 4, "text-anchor": "end" }, `${100 * share}%`);
  }
  const rough = Math.max(1, (newest - first + 1) / 12), power = 10 ** Math.floor(Math.log10(rough));
  const every = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= rough);
  for (let number_ = Math.ceil(first / every) * every; number_ <= newest; number_ += every) {
    draw(svg, "text", { x: x(number_), y: height - 4, "text-anchor": "middle" }, number_);
  }

  const means = [], recent = [];
  let shade = false, before = null;
  for (const one of over) {
    // A new shade where another policy acts.
    if (before !== null && one.policy !== before) shade = !shade;
    before = one.policy;
    const band = { x: x(one.number) - slot / 2, y: bottom + 9, width: slot, height: 6, fill: "var(--c4)" };
    const policy = draw(svg, "rect", { ...band, opacity: shade ? 0.85 : 0.35 });
    draw(policy, "title", {}, one.policy ? `policy ${one.policy}` : "no policy");
    let look = { cy: y(0.5), fill: "none", stroke: "var(--grey)" };
    if (one.success !== null) {
      recent.push(one.success ? 1 : 0);
      if (recent.length > WINDOW) recent.shift();
      means.push(`${x(one.number)},${y(recent.reduce((sum, value) => sum + value, 0) / recent.length)}`);
      look = { cy: y(one.success ? 1 : 0), fill: one.success ? "var(--c2)" : "var(--grey)" };
    }
    const size = Math.min(4, Math.max(2, slot / 3));
    const dot = draw(svg, "circle", { cx: x(one.number), r: size, ...look, class: "episode", "data-success": one.success });
    draw(dot, "title", {}, inWords(one));
  }
  const line = { points: means.join(" "), fill: "none", stroke: "var(--c2)", "stroke-width": 2 };
  if (means.length > 1) draw(svg, "polyline", line);
  if (!over.length) {
    draw(svg, "text", { x: (left + right) / 2, y: y(0.5) - 8, "text-anchor": "middle" }, "no episode yet");
  }
  here("success", ".chart").replaceChildren(svg);
}

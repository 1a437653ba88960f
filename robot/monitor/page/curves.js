// Curves.

function surface(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function tick(value) {
  const size = Math.abs(value);
  return size >= 1000 || (size && size < 0.001) ? value.toExponential(1) : String(+value.toPrecision(3));
}

// Round values between two others: three to six of them.
function ticks(low, high) {
  const rough = (high - low) / 3, power = 10 ** Math.floor(Math.log10(rough));
  const step = [5, 2, 1].map((times) => times * power).find((one) => one <= rough);
  const found = [];
  for (let count = Math.ceil(low / step); count * step <= high; count++) found.push(count * step);
  return found;
}

// Curves: [{t, value(row) -> number or null, values, colour, width, step, limits, shade}].
function plot(canvas, curves, ink) {
  const { context, width, height } = surface(canvas);
  const left = 44, right = width - 4, top = 5, bottom = height - 15, end = now(), begin = end - SPAN;
  let low = Infinity, high = -Infinity, points = 0;
  for (const curve of curves) {
    curve.points = [];
    curve.t.forEach((t, place) => {
      if (t < begin - GAP) return;
      const value = curve.value(curve.values[place]);
      curve.points.push([t, value]);
      if (value === null || t < begin) return;
      low = Math.min(low, value);
      high = Math.max(high, value);
      points++;
    });
  }
  if (!points) [low, high] = curves.map((curve) => curve.limits).find(Boolean) || [-1, 1];
  const width_ = high - low;
  for (const [one, other] of curves.map((curve) => curve.limits).filter(Boolean)) {
    // A limit is shown when what is measured comes near.
    if (one < low && low - one <= 0.6 * Math.max(width_, 0.1 * (other - one))) low = one;
    if (other > high && other - high <= 0.6 * Math.max(width_, 0.1 * (other - one))) high = other;
  }
  const margin = 0.08 * (high - low) || 0.05 * Math.abs(high) || 0.01;
  [low, high] = [low - margin, high + margin];
  const x = (t) => left + ((t - begin) / SPAN) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  context.font = "10.5px system-ui, sans-serif";
  context.lineWidth = 1;
  context.strokeStyle = ink.line;
  context.fillStyle = ink.muted;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const value of ticks(low, high)) {
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(right, y(value));
    context.stroke();
    context.fillText(tick(value), left - 5, y(value));
  }
  context.textBaseline = "alphabetic";
  for (const ago of [SPAN, SPAN / 2, 0]) {
    context.textAlign = ago === SPAN ? "left" : ago ? "center" : "right";
    context.fillText(ago ? `-${ago} s` : "now", x(end - ago), height - 3);
  }
  context.save();
  context.beginPath();
  context.rect(left, top - 2, right - left, bottom - top + 4);
  context.clip();
  for (const curve of curves) {
    if (!curve.limits) continue;
    const [one, other] = curve.limits;
    // Where the curves of a chart have limits of their own, shades would lie on each other.
    context.fillStyle = curve.shade || "transparent";
    context.globalAlpha = 0.1;
    if (other < high) context.fillRect(left, top - 2, right - left, y(other) - top + 2);
    if (one > low) context.fillRect(left, y(one), right - left, bottom + 2 - y(one));
    context.globalAlpha = 0.6;
    context.strokeStyle = curve.shade || curve.colour;
    context.setLineDash([4, 3]);
    for (const limit of [one, other]) {
      context.beginPath();
      context.moveTo(left, y(limit));
      context.lineTo(right, y(limit));
      context.stroke();
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
  }
  for (const curve of curves) {
    context.strokeStyle = context.fillStyle = curve.colour;
    context.lineWidth = curve.width || 1.4;
    context.beginPath();
    let before = null;
    for (const [t, value] of curve.points) {
      if (value === null) before = null;
      else if (before === null || t - before[0] > GAP) {
        context.moveTo(x(t), y(value));
        // A sample that stands alone is a point.
        context.lineTo(x(t) + 1.2, y(value));
        before = [t, value];
      } else {
        if (curve.step) context.lineTo(x(t), y(before[1]));
        context.lineTo(x(t), y(value));
        before = [t, value];
      }
    }
    context.stroke();
  }
  context.restore();
  canvas.dataset.points = points;
}

const number = (value) => (value === null || value === undefined ? "–" : tick(value));
const last = (curves, column) => {
  const row = curves.values[curves.values.length - 1];
  return row ? row[column] : null;
};

const actionPlots = LAYOUT.action.map((action, column) => {
  const value = make("i"), canvas = make("canvas", { "data-name": action.name });
  const name = make("div", { class: "name" }, make("b", {}, action.name), make("i", {}, action.unit), value);
  here("commands", ".plots").append(make("div", { class: "plot" }, name, canvas));
  return { column, canvas, value, limits: action.limits };
});

const statePlots = LAYOUT.state.map((chart) => {
  const canvas = make("canvas", { "data-name": chart.title }), age = make("span", { class: "age" });
  const name = make("div", { class: "name" }, make("b", {}, chart.title), make("i", {}, chart.unit));
  const curves = chart.curves.map((curve, place) => {
    const key = make("span", { class: "key", title: curve.name });
    key.style.setProperty("--key", `var(--c${place})`);
    // What the title says already need not be said by every curve.
    key.textContent = curve.name.startsWith(`${chart.title}_`) ? curve.name.slice(chart.title.length + 1) : curve.name;
    if (chart.curves.length > 1) name.append(key);
    return { ...curve, place };
  });
  name.append(age);
  const element = make("div", { class: "plot" }, name, canvas);
  here("state", ".plots").append(element);
  return { element, canvas, age, curves };
});

function drawCurves() {
  const ink = { line: css("--line"), muted: css("--muted") };
  const colours = Array.from({ length: 8 }, (_, place) => css(`--c${place}`)), red = css("--red");
  for (const { column, canvas, value, limits } of actionPlots) {
    const at = (row) => (row === null ? null : row[column]);
    plot(canvas, [
      { ...proposed, value: at, colour: css("--proposed"), width: 4, step: true },
      { ...sent, value: at, colour: colours[0], step: true, limits, shade: red },
    ], ink);
    value.textContent = number(last(sent, column));
  }
  for (const { canvas, curves } of statePlots) {
    const shade = curves.length === 1 ? red : null;
    plot(canvas, curves.map(({ input, column, limits, place }) => (
      { ...inputs[input], value: (row) => row[column], colour: colours[place], limits, shade }
    )), ink);
  }
  drawStrip(ink);
}

function drawStrip(ink) {
  const { context, width, height } = surface(get("strip"));
  const end = now(), begin = end - STRIP, bottom = height - 13;
  const x = (t) => ((t - begin) / STRIP) * width;
  const colours = STRIP_COLOURS.map((name) => name && css(name));
  context.fillStyle = ink.line;
  context.fillRect(0, bottom - 1, width, 1);
  sent.t.forEach((t, place) => {
    const verdict = sent.verdict[place], next = sent.t[place + 1] ?? t + 0.1;
    if (t < begin || !verdict) return;
    const tall = STRIP_HEIGHTS[verdict] * (bottom - 2);
    context.fillStyle = colours[verdict];
    context.fillRect(x(t), bottom - tall, Math.max(1, x(Math.min(next, t + 0.25)) - x(t) - 0.4), tall);
  });
  context.font = "10.5px system-ui, sans-serif";
  context.fillStyle = ink.muted;
  for (let ago = STRIP; ago >= 0; ago -= 10) {
    context.textAlign = ago === STRIP ? "left" : ago ? "center" : "right";
    context.fillText(ago ? `-${ago} s` : "now", x(end - ago), height - 2);
  }
  get("strip").dataset.points = sent.t.length;
}

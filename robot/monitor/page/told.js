"use strict";
// The page of the monitor. It asks for what is new a few times a second, keeps the last minute, and draws.
// All ages are in steady time: what the server says they were, and what has passed here since it said so.
// The files of this folder make one script, in the order in which `serving.py` names them.

const LAYOUT = JSON.parse(document.getElementById("layout").textContent);
const SPAN = 30; // of the curves [s]
const STRIP = 60; // of the verdicts [s]
const POLL = 0.25, HIDDEN = 2; // between two questions [s]
const OVERLAP = 0.3; // what may still have changed of what was told [s]
const GONE = 1.5; // without an answer from the server [s]
const NODE = 3; // without a word from a node, which says one every second [s]
const ANSWERING = 1.2; // for a stop to be confirmed [s]
const GAP = 1; // between two samples that no line joins [s]
const WINDOW = 20; // episodes of the running mean
const VERDICTS = ["", "passed", "changed", "held", "stopped"];
const STRIP_COLOURS = ["", "--green", "--amber", "--grey", "--red"];
const STRIP_HEIGHTS = [0, 0.3, 0.65, 0.45, 1];

const get = (id) => document.getElementById(id);
const here = (id, selector) => get(id).querySelector(selector);
const steady = () => performance.now() / 1000;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// What was told.

let told = null; // the newest document
let heard = steady(); // when it came
let pressed = null; // when the button was, last
let refused = ""; // what the server said to that
const inputs = LAYOUT.inputs.map(() => ({ t: [], values: [] }));
const proposed = { t: [], values: [] };
const sent = { t: [], values: [], verdict: [] };
const episodes = new Map(); // by number

const passed = () => steady() - heard;
const aged = (age) => (age === null ? null : age + passed());
const now = () => (told ? told.now + passed() : 0);

function extend(curves, news) {
  // A sample that was told before may have changed: what is told now counts.
  let kept = curves.t.length;
  while (kept && news.t.length && curves.t[kept - 1] >= news.t[0]) kept--;
  const begins = curves.t.findIndex((t) => t > told.now - STRIP - 1);
  for (const key of Object.keys(curves)) {
    curves[key] = curves[key].slice(begins < 0 ? kept : begins, kept).concat(news[key]);
  }
}

function take(document_) {
  if (document_.server !== LAYOUT.server) {
    // Another server than the one that this page came from: the button's token is not its.
    location.reload();
    return;
  }
  told = document_;
  heard = steady();
  told.inputs.forEach((news, number) => extend(inputs[number], news));
  extend(proposed, told.proposed);
  extend(sent, told.sent);
  for (const episode of told.episodes) episodes.set(episode.number, episode);
  drawSlow();
  drawAll();
}

async function poll() {
  const since = told ? told.now - OVERLAP : 0;
  const from = told ? Math.max(0, ...episodes.keys()) : 0;
  try {
    const answer = await fetch(`/state?since=${since}&episode=${from}`, { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(answer.statusText);
    take(await answer.json());
  } catch (error) {
    // How long it has been gone is shown by `drawGone`.
    console.warn(`no state: ${error}`);
  }
  setTimeout(poll, 1000 * (document.hidden ? HIDDEN : POLL));
}

// Ages.

function seconds(age) {
  if (age < 99.95) return `${age.toFixed(1)} s`;
  return age < 5400 ? `${Math.round(age / 60)} min` : `${(age / 3600).toFixed(1)} h`;
}

function showAge(element, age, silence, what = "message") {
  const silent = age === null || age > silence;
  element.classList.toggle("silent", silent);
  // What never was there may not belong to this robot.
  element.classList.toggle("never", age === null);
  element.textContent = age === null ? `no ${what} yet` : silent ? `no ${what} for ${seconds(age)}` : seconds(age);
  return silent;
}

// Cameras.

const cameras = [...document.querySelectorAll("figure[data-camera]")].map((figure, place) => ({
  figure, name: figure.dataset.camera, silence: LAYOUT.cameras[place].silence,
  number: 0, heard: null, busy: false, problem: "",
}));

async function look(camera) {
  const newest = told && told.cameras.find((one) => one.name === camera.name);
  if (camera.busy || document.hidden || !newest || !newest.number || newest.number === camera.number) return;
  camera.busy = true;
  try {
    const answer = await fetch(`/camera/${encodeURIComponent(camera.name)}.jpg`, { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const address = URL.createObjectURL(await answer.blob()), image = camera.figure.querySelector("img");
    image.src = address;
    try {
      await image.decode();
      // When this very picture came, whatever has come since.
      [camera.number, camera.heard, camera.problem] = [newest.number, Number(answer.headers.get("X-Heard")), ""];
    } finally {
      URL.revokeObjectURL(address);
    }
  } catch (error) {
    camera.problem = error.message;
  } finally {
    camera.busy = false;
  }
}

function drawCameras() {
  for (const camera of cameras) {
    const age = camera.heard === null ? null : now() - camera.heard;
    const silent = showAge(camera.figure.querySelector(".age"), age, camera.silence, "picture");
    camera.figure.classList.toggle("silent", silent);
    const words = camera.problem || (age === null ? "no picture yet" : `no picture for ${seconds(age)}`);
    camera.figure.querySelector(".over").textContent = silent ? words : "";
    look(camera);
  }
}

// Words.

function facts(list, pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  list.replaceChildren(...known.flatMap(([name, value]) => (
    [make("dt", {}, name), make("dd", {}, value instanceof Node ? value : String(value))]
  )));
}

function big(id, text, colour = "") {
  const element = here(id, ".big");
  element.className = `big ${colour}`;
  element.textContent = text;
}

const short = (policy) => make("code", { title: policy }, policy.slice(0, 8));

function drawGuardian() {
  const guardian = told.guardian, age = aged(guardian.age);
  const silent = showAge(here("guardian", ".age"), age, NODE, "word");
  if (age === null && guardian.stopped === null) big("guardian", "no guardian seen", "grey");
  else if (silent) big("guardian", age === null ? "says nothing of itself" : `silent for ${seconds(age)}`, "red");
  else if (guardian.stopped) big("guardian", `stopped: ${guardian.reason}`, "red");
  else if (guardian.enabled) big("guardian", "motion is enabled", "green");
  else big("guardian", "motion is not enabled", "grey");
  const counts = guardian.counts;
  facts(here("guardian", ".facts"), [
    ["last heard", silent && guardian.stopped ? `stopped: ${guardian.reason}` : null],
    ["passed", counts.passed], ["changed", counts.clamped], ["held", counts.held], ["stopped", counts.stopped],
    ["also sends", guardian.others],
  ]);
}

function drawEpisode() {
  const episode = told.episode, age = aged(episode.age), running = Boolean(episode.running);
  // While one is under way the recorder says so four times a second; afterwards there is nothing to say.
  const silent = running && age > 2;
  showAge(here("episode", ".age"), age, running ? 2 : Infinity);
  if (!episode.name) big("episode", "none yet", "grey");
  else if (silent) big("episode", "under way when last heard", "red");
  else if (running) big("episode", `step ${episode.steps}`);
  else if (episode.success) big("episode", "success", "green");
  else big("episode", episode.success === false ? "no success" : "over", "grey");
  facts(here("episode", ".facts"), [
    ["name", episode.name], ["task", episode.task],
    ["steps", running ? null : episode.steps], ["changed", episode.changed],
    ["acts", running ? { intervention: "a person", policy: "the policy" }[episode.source] || episode.source : null],
    ["policy", episode.policy ? short(episode.policy) : null], ["ended", running ? null : episode.reason],
  ]);
}

function drawVerdicts() {
  showAge(here("verdicts", ".age"), aged(told.sent.age), 1);
  const legend = here("verdicts", ".legend");
  if (!legend.children.length) {
    for (const verdict of [1, 2, 3, 4]) {
      const key = make("span", { class: "key" }, VERDICTS[verdict]);
      key.style.setProperty("--key", `var(${STRIP_COLOURS[verdict]})`);
      legend.append(key);
    }
  }
  here("verdicts", ".events").replaceChildren(...told.events.map((event) => make("li", {},
    make("span", { class: `tag v${event.verdict}` }, VERDICTS[event.verdict] || "?"),
    make("span", {}, event.reason + (event.count > 1 ? ` (${event.count} steps)` : "")),
    make("span", { class: "age" }, `${seconds(aged(event.age))} ago`))));
}

function drawAges() {
  showAge(here("commands", ".age"), aged(told.proposed.age), 1, "step");
  let worst = 0, silentInput = "";
  told.inputs.forEach((input, number_) => {
    const age = input.age === null ? Infinity : aged(input.age), { name, silence } = LAYOUT.inputs[number_];
    const silent = age === Infinity ? "no message yet" : `no message for ${seconds(age)}`;
    if ((age > silence || input.problem) && !silentInput) silentInput = `${name}: ${input.problem || silent}`;
    worst = Math.max(worst, age);
  });
  const element = here("state", ".age");
  element.classList.toggle("silent", Boolean(silentInput));
  element.textContent = silentInput || seconds(worst);
  get("commands").classList.toggle("silent", !(aged(told.proposed.age) <= 1));
  get("verdicts").classList.toggle("silent", !(aged(told.sent.age) <= 1));
  for (const { element: plot_, age: shown, curves } of statePlots) {
    const [oldest, silence] = curves.map(({ input }) => [told.inputs[input].age, LAYOUT.inputs[input].silence])
      .reduce((one, other) => (one[0] === null || (other[0] !== null && one[0] >= other[0]) ? one : other));
    const silent = oldest === null || aged(oldest) > silence;
    plot_.classList.toggle("silent", silent);
    shown.classList.toggle("silent", silent && oldest !== null);
    shown.textContent = silent ? (oldest === null ? "nothing yet" : `silent for ${seconds(aged(oldest))}`) : "";
  }
}

function drawNodes() {
  const rows = [here("words", "tr")], chips = [];
  for (const node of told.nodes) {
    const age = aged(node.age), silent = age !== null && age > NODE;
    const chip = make("span", { class: `node ${age === null ? "unseen" : silent ? "silent" : node.level}` }, node.name);
    if (silent) chip.append(` ${seconds(age)}`);
    chips.push(chip);
    const cell = make("td", { class: "age" });
    showAge(cell, age, NODE, "word");
    const says = age === null ? "not seen" : node.summary;
    rows.push(make("tr", {}, make("td", {}, node.name), make("td", {}, says), cell));
  }
  get("nodes").replaceChildren(...chips);
  here("words", "table").replaceChildren(...rows);
}

function drawPolicies() {
  facts(here("policies", ".facts"), [
    ["acts", told.acting ? short(told.acting) : "none seen"], ["next episode", told.ready ? short(told.ready) : null],
    ["learner's newest", told.learned ? short(told.learned) : null],
  ]);
  const table = here("policies", "table"), rows = told.policies.map((one) => {
    const share = one.judged ? `${one.successes} of ${one.judged}` : "–";
    const cells = [short(one.policy), String(one.first ?? "–"), String(one.episodes), share];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  });
  table.hidden = !rows.length;
  table.replaceChildren(table.rows[0], ...rows.reverse());
}

function drawLearner(place, learner) {
  if (!learner) {
    here(place, ".age").textContent = "";
    big(place, "no learner seen", "grey");
    facts(here(place, ".facts"), []);
    return;
  }
  const age = aged(learner.age), silent = showAge(here(place, ".age"), age, NODE, "word");
  const { behind, waiting, at, ...others } = learner.values, said = learner.said || {};
  const lag = behind === "0" ? "up to date" : behind === "1" ? "1 episode behind" : `${behind} episodes behind`;
  if (silent) big(place, age === null ? "says nothing of itself" : `silent for ${seconds(age)}`, "red");
  else if (learner.level === "ok") big(place, behind ? lag : learner.summary, Number(behind) ? "amber" : "green");
  else big(place, learner.summary, "red");
  facts(here(place, ".facts"), [
    ["handed over", learner.said ? `${seconds(aged(learner.said_age))} ago` : "nothing yet"],
    ["waits for episodes", waiting ? `${Math.round(100 * Number(waiting))} % of the time` : null],
    ...Object.entries({ ...others, ...said }).map(([name, value]) => [name.replaceAll("_", " "), value]),
  ]);
}

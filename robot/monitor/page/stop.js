// The stop.

get("stop").addEventListener("click", async () => {
  pressed = steady();
  refused = "";
  drawStop();
  try {
    const headers = { "X-Firsthand-Token": LAYOUT.token };
    const answer = await fetch("/stop", { method: "POST", headers, signal: AbortSignal.timeout(2000) });
    if (!answer.ok) refused = (await answer.text()).trim() || answer.statusText;
  } catch (error) {
    refused = `the monitor does not answer (${error.message})`;
  }
  drawStop();
});

function banner(element, kind, text, more = "") {
  element.hidden = false;
  element.className = `banner ${kind}`;
  const words = [text, ...(more ? [make("small", {}, more)] : [])];
  // A reader of the screen would say it again each time that it is written.
  if (element.textContent !== text + more) element.replaceChildren(...words);
}

const HARDWARE = "USE THE HARDWARE STOP.";
const LATER = "To go on, at a terminal: guardian/rearm, then guardian/enable.";

function drawStop() {
  const element = get("stopping"), stop = told ? told.stop : { state: "" }, guardian = told && told.guardian;
  const since = pressed === null ? Infinity : steady() - pressed;
  // What the server said before the button was pressed is no answer to it.
  const answered = told && heard > pressed && stop.age !== null && aged(stop.age) <= since + 0.5;
  const alive = guardian && aged(guardian.age) !== null && aged(guardian.age) <= NODE && passed() <= GONE;
  if (pressed !== null && answered && stop.state === "confirmed") pressed = null;
  if (refused) banner(element, "alarm", `The stop was not sent. ${HARDWARE}`, refused);
  else if (pressed !== null && since > ANSWERING && since < 60) alarm(element, stop, answered);
  else if (pressed !== null && since <= ANSWERING) banner(element, "asking", "Asking the guardian to stop …");
  else if (stop.state === "failed") alarm(element, stop, true);
  else if (stop.state === "asking") banner(element, "asking", "Asking the guardian to stop …");
  else if (alive && guardian.stopped) {
    banner(element, "stopped", `Stopped: ${guardian.reason}`, `The guardian says so. ${LATER}`);
  } else element.hidden = true;
}

function alarm(element, stop, answered) {
  const why = answered && stop.problem ? `${stop.problem}. ` : "";
  const again = answered && stop.trying
    ? `It is asked again and again (${stop.tries} times so far).` : "It is asked no more; press again to try again.";
  banner(element, "alarm", `The guardian did not answer. ${HARDWARE}`, why + again);
}

function drawGone() {
  const gone = passed() > GONE;
  document.body.classList.toggle("gone", gone);
  get("gone").hidden = !gone;
  if (gone) {
    const what = told ? `The monitor has not answered for ${seconds(passed())}` : "The monitor does not answer";
    banner(get("gone"), "alarm", what, "Nothing on this page is current, and the button above reaches nobody: "
      + "use the hardware stop. Start the monitor again with firsthand monitor.");
  }
}

// All of it, and again.

function drawSlow() {
  drawNodes();
  drawPolicies();
  drawLearner("learner", told.learner);
  drawLearner("undoing", told.undoing);
  get("undoing").hidden = !told.undoing;
  drawSuccess();
  const asks = told.episode.asks;
  get("asks").hidden = !asks;
  if (asks) banner(get("asks"), "please", `Please: ${asks}`, "Then call recorder/ready at a terminal.");
}

let drawn = 0;
function drawAll() {
  drawn = steady();
  drawGone();
  drawStop();
  if (!told || document.hidden) return;
  drawGuardian();
  drawEpisode();
  drawVerdicts();
  drawAges();
  drawCameras();
  drawCurves();
}

// Ages go on where nothing is told any more.
setInterval(() => steady() - drawn >= POLL && drawAll(), 100);
drawAll();
poll();

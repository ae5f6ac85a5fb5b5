// The page: opens videos, shows what a run finds in them, and keeps what a person corrects.

import { getJson, sendJson, whenTokenIsAsked } from "/static/api.js";
import { add, addHere, changeTimes, edit, relabel, remove, rename, retime, select, toggleDone } from "/static/correct.js";
import { exportFile, importFile, openDialog, saveManifest } from "/static/files.js";
import { listKeys, onKey, openHelp, zoomBy } from "/static/keys.js";
import { localize, next, open, playAt, rank, take } from "/static/open.js";
import { on, stage, state, tasks, timeline, videos } from "/static/parts.js";
import { atThreshold, found, showTip } from "/static/show.js";
import { $, colours, el, fill, remember, remembered, say, themes } from "/static/ui.js";
import { work } from "/static/work.js";

Object.assign(on, { add, changeTimes, hover: showTip, open, play: playAt, relabel, remove, rename, retime, select, work });

async function start() {
  themes($("theme"), () => timeline.restyle());
  listKeys();
  whenTokenIsAsked(askForToken);
  state.runs = await getJson("/v1/runs");
  const finders = state.runs.filter((run) => run.can.includes("localize"));
  fill($("run"), finders.map((run) => [run.run, run.run]), remembered("avpea:run") ?? undefined);
  $("run-pick").hidden = finders.length < 2;
  chooseRun();
  tasks.offer(state.runs);
  await videos.load();
  $("rank").hidden = $("next").hidden = !finders.length;
  const wanted = decodeURIComponent(location.hash.slice(1));
  $("save-manifest").hidden = !videos.all.some((one) => !one.uploaded);
  if (wanted && videos.get(wanted)) await open(wanted);
}

/** Whether a person gives the token; the dialog can be closed without. */
function askForToken() {
  const dialog = $("token");
  $("token-problem").hidden = true;
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(false); // with Escape; after a token it is settled already
    $("token-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await sendJson("POST", "/v1/session", { token: $("token-value").value });
        resolve(true);
        dialog.close();
      } catch (error) {
        $("token-problem").hidden = false;
        $("token-problem").textContent = error.message;
      }
    };
  });
}

function chooseRun() {
  state.run = state.runs.find((run) => run.run === $("run").value) ?? null;
  const watcher = state.run?.attention ? state.run : state.runs.find((run) => run.attention);
  stage.run = watcher ?? null;
  state.colour = colours(state.run?.classes ?? []);
  $("labels").replaceChildren(...(state.run?.classes ?? []).map((value) => el("option", { value })));
}

function listen() {
  const clicks = {
    "help-open": openHelp, add: addHere, undo: () => state.review.undo(), redo: () => state.review.redo(), done: toggleDone, next, rank,
    reset: () => edit(found()), "task-cancel": () => state.job?.abort(), "save-manifest": saveManifest,
    "zoom-in": () => zoomBy(10), "zoom-out": () => zoomBy(-10),
    "export-open": () => {
      $("export-of").value = state.video ? "one" : "all";
      $("export-what").textContent = "Events that you have stored, as a file.";
      openDialog("export");
    },
    "export-go": exportFile, "export-close": () => $("export").close(),
    "import-open": () => openDialog("import"), "import-go": importFile, "import-close": () => $("import").close(),
  };
  for (const [id, act] of Object.entries(clicks)) $(id).addEventListener("click", () => act());
  $("zoom").addEventListener("input", () => timeline.zoom(Number($("zoom").value) / 100));
  $("threshold").addEventListener("input", atThreshold);
  $("shortest").addEventListener("change", atThreshold);
  $("run").addEventListener("change", () => {
    remember("avpea:run", $("run").value);
    chooseRun();
    stage.offer();
    videos.load();
    if (state.review) localize(); // a video that is being opened is looked at when it is there
  });
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = "";
    if (file) take(file);
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  addEventListener("beforeunload", (event) => {
    if (state.review && !state.review.stored) event.preventDefault();
  });
}

listen();
start().catch((error) => say(error.message, true));

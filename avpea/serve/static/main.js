// The page: opens videos, shows what a run finds in them, and keeps what a person corrects.

import { Cancelled, getJson, request, runJob, sendJson, upload, whenTokenIsAsked } from "/static/api.js";
import { choose, listEvents } from "/static/events.js";
import { Review } from "/static/review.js";
import { eventsAt, sureness, topClasses } from "/static/rule.js";
import { Stage } from "/static/stage.js";
import { Tasks } from "/static/tasks.js";
import { Timeline, hint } from "/static/timeline.js";
import { $, clock, colours, el, fill, remember, remembered, say, themes } from "/static/ui.js";
import { Videos } from "/static/videos.js";

const TOP = 5; // classes whose curves are drawn
const NEW_SECONDS = 1; // length of an event that is added with a key or the button
const KEYS = [
  ["Space", "play or pause"], ["← →", "one second back or on (with Shift a tenth)"], ["A", "add an event here"],
  ["[ ]", "let the chosen event begin or end here"], ["Delete", "delete the chosen event"], ["1 … 9", "give it that class"],
  ["E", "edit its label"], ["J K", "choose the next or the one before"], ["Ctrl+Z, Ctrl+Y", "undo, redo"],
  ["D", "mark the video as done, or not"], ["N", "next unsure video"], ["+ −", "zoom"], ["?", "this list"],
];

const state = { runs: [], run: null, video: null, review: null, answer: null, selected: -1, colour: colours([]), job: null };

const videos = new Videos((id) => open(id), () => state.run?.run);
const stage = new Stage((time) => (state.time = time));
const timeline = new Timeline($("timeline"), $("video"), {
  seek: (second) => stage.playable || stage.seek(second),
  select: (number, seek) => select(number, seek),
  change: (number, start, end) => changeTimes(number, start, end),
  add: (start, end) => add(start, end),
  name: (number) => rename(number),
  hover: (at) => showTip(at),
});
const tasks = new Tasks({ work, current: () => state.video, play: (id, second) => playAt(id, second), mark: (some, colour) => stage.mark(some, colour) });

// --- Starting -------------------------------------------------------------------------------------------------------

async function start() {
  themes($("theme"), () => timeline.restyle());
  $("keys").replaceChildren(...KEYS.flatMap(([key, what]) => [el("dt", {}, key), el("dd", {}, what)]));
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

function askForToken() {
  const dialog = $("token");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    $("token-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await sendJson("POST", "/v1/session", { token: $("token-value").value });
        dialog.close();
        resolve();
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

// --- Long work ------------------------------------------------------------------------------------------------------

/** Run a job with progress that can be cancelled; one at a time. */
async function work(title, body) {
  return shown(title, (signal, progress) => runJob(body, { signal, progress: (job) => progress(...stageOf(job)) }));
}

function stageOf(job) {
  if (!job.progress) return [job.state === "queued" ? "waiting for others" : "", null, null];
  const { stage: name, done, of } = job.progress;
  if (name === "decoding") return [of ? `decoding, ${clock(done, 0)} of ${clock(of, 0)}` : "decoding", done, of];
  return [`window ${Math.min(done + 1, of)} of ${of}`, done, of];
}

async function shown(title, act) {
  state.job?.abort();
  const job = (state.job = new AbortController());
  const progress = (text, done, of) => {
    if (state.job !== job) return;
    $("task-text").textContent = text ? `${title}: ${text}` : title;
    if (of) $("task-bar").max = of;
    if (of) $("task-bar").value = done;
    else $("task-bar").removeAttribute("value");
  };
  $("task").hidden = false;
  progress("", null, null);
  try {
    return await act(job.signal, progress);
  } finally {
    if (state.job === job) {
      state.job = null;
      $("task").hidden = true;
    }
  }
}

// --- Videos ---------------------------------------------------------------------------------------------------------

async function take(file) {
  try {
    const video = await shown(`Uploading ${file.name}`, (signal, progress) =>
      upload(file, { signal, progress: (done, of) => progress(done < of ? `${Math.round((100 * done) / of)} %` : "looking at it", done, of) }));
    await videos.load();
    await open(video.video);
  } catch (error) {
    if (!(error instanceof Cancelled)) say(error.message, true);
  }
}

async function open(id, second = 0, play = false) {
  if (id === state.video) {
    stage.seek(second, play);
    return;
  }
  state.job?.abort();
  state.review?.close();
  Object.assign(state, { video: id, answer: null, selected: -1 });
  videos.current = id;
  videos.show();
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  tasks.opened();
  showTip(null);
  try {
    const path = `/v1/videos/${encodeURIComponent(id)}`;
    const about = await getJson(path);
    if (state.video !== id) return;
    videos.update(id, about);
    $("welcome").hidden = true;
    $("view").hidden = false;
    $("name").textContent = about.name;
    $("saved").textContent = "";
    $("zoom").value = 0;
    stage.open(id, about, stage.run);
    if (second || play) stage.seek(second, play);
    const review = (state.review = new Review(id, () => state.review === review && refresh(), told));
    const bins = Math.min(20000, Math.max(1000, Math.round(about.seconds * 40)));
    const [wave] = await Promise.all([getJson(`${path}/waveform?bins=${bins}`), review.load()]);
    if (state.video !== id) return;
    const columns = Math.min(4000, Math.max(600, Math.round(about.seconds * 60)));
    await timeline.open({ seconds: about.seconds, peaks: wave.peaks, spectrogram: `${path}/spectrogram?columns=${columns}`, playable: stage.playable });
    refresh();
    if (state.run) await localize();
  } catch (error) {
    if (!(error instanceof Cancelled)) say(error.message, true);
  }
}

async function playAt(id, second) {
  await open(id, second, true);
  $("stage").scrollIntoView({ block: "nearest" });
}

async function localize() {
  const { video, run } = state;
  try {
    const answer = await work(`Looking for events with ${run.run}`, { kind: "localize", run: run.run, video });
    if (state.video !== video || state.run !== run) return;
    state.answer = answer;
    $("threshold").value = answer.threshold;
    const shortest = String(answer.min_seconds);
    if (![...$("shortest").options].some((one) => one.value === shortest)) $("shortest").append(el("option", { value: shortest }, `${shortest} s`));
    $("shortest").value = shortest;
    const chosen = { given: "as given", default: "this run has none of its own" }[answer.threshold_from];
    $("rule-note").textContent = chosen ?? `chosen on the split ${answer.threshold_from}`;
    for (const remark of answer.remarks) say(remark);
    atThreshold();
    await videos.load();
  } catch (error) {
    if (!(error instanceof Cancelled)) say(error.message, true);
    else if (state.video === video) say("Cancelled; choose the video's model again, or open it again, to look for events.");
  }
}

/** The model's events at the slider; nothing is asked of the server. */
function found() {
  if (!state.answer) return [];
  const given = Number($("threshold").value);
  const threshold = Math.abs(given - state.answer.threshold) < 0.005 ? state.answer.threshold : given;
  return eventsAt(state.answer, threshold, Number($("shortest").value));
}

function atThreshold() {
  state.review?.suggest(found());
  refresh();
}

// --- Showing --------------------------------------------------------------------------------------------------------

const sure = (event) => sureness(state.answer, event);

/** Show everything anew; the list of events stays when only another one is chosen, as somebody may be typing in it. */
function refresh(list = true) {
  const { review, answer, colour } = state;
  if (!review) return;
  const model = found();
  const doubtful = (event) => model.some((one) => one.doubtful && one.label === event.label && one.start_seconds === event.start_seconds);
  const events = review.events.map((event) => ({ ...event, doubtful: doubtful(event), shown: doubtful(event) ? `${event.label} ?` : event.label }));
  if (state.selected >= events.length) state.selected = -1;
  if (list) listEvents(events, state.selected, colour, sure, { select, relabel, retime, remove });
  else choose(state.selected);
  timeline.show({ events, selected: state.selected, colour, editable: true });
  const classes = answer ? topClasses(answer, TOP) : [];
  $("rule").hidden = !answer;
  $("legend").replaceChildren(...classes.map(key));
  if (answer) {
    const threshold = Number($("threshold").value);
    $("threshold-value").textContent = threshold.toFixed(2);
    timeline.plot({ answer, classes, threshold, found: model, colour });
  }
  $("undo").disabled = !review.past.length;
  $("redo").disabled = !review.future.length;
  $("reset").hidden = !review.mine || !answer;
  $("done").setAttribute("aria-pressed", String(review.done));
  $("done").textContent = review.done ? "Done ✓" : "Mark as done";
  const source = review.mine ? (review.done ? "yours, done" : "yours") : answer ? "as the model finds them" : "";
  $("events-source").textContent = source;
  const known = videos.get(state.video);
  if (known && (known.done !== review.done || known.revision !== review.revision)) videos.update(state.video, { done: review.done, revision: review.revision });
}

function key(name) {
  const line = el("i");
  line.style.background = state.colour(name);
  return el("span", {}, line, name);
}

function told(how, sentence = "") {
  const box = $("saved");
  box.textContent = { saving: "Storing …", saved: "Stored", failed: "Not stored", conflict: "" }[how];
  box.classList.toggle("bad", how === "failed");
  if (sentence) say(sentence, true);
  refresh();
}

function showTip(at) {
  const tip = $("tip");
  const text = at && state.review ? hint(at, state.review.events, state.answer, state.answer ? [...topClasses(state.answer, TOP), "background"] : [], sure) : "";
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(at.x + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, at.y - tip.offsetHeight - 12)}px`;
}

// --- Correcting -----------------------------------------------------------------------------------------------------

const rounded = (second) => Math.round(second * 1000) / 1000;
const seconds = () => videos.get(state.video)?.seconds ?? 0;

function select(number, seek = false, play = false) {
  if (seek) stage.seek(state.review.events[number]?.start_seconds ?? 0, play);
  if (state.selected === number) return;
  state.selected = number;
  const event = state.review.events[number];
  if (event) $("label").value = event.label;
  refresh(false);
}

/** Store events after an edit, and keep the changed one chosen. */
function edit(events, changed) {
  state.review.edit(events);
  state.selected = changed ? state.review.events.findIndex((one) => ["label", "start_seconds", "end_seconds"].every((name) => one[name] === changed[name])) : -1;
  refresh();
}

function replace(number, changes) {
  const events = [...state.review.events];
  events[number] = { ...events[number], ...changes };
  edit(events, events[number]);
}

function changeTimes(number, start, end) {
  const from = rounded(Math.max(0, start));
  const to = rounded(Math.min(end, seconds()));
  if (to > from) replace(number, { start_seconds: from, end_seconds: to });
  else refresh();
}

function retime(number, name, text) {
  const event = { ...state.review.events[number], [name]: Math.min(Number(text), seconds()) };
  if (text === "" || !(event.start_seconds >= 0 && event.start_seconds < event.end_seconds)) {
    say(`An event starts before it ends, both within the ${clock(seconds())} of the video.`, true);
    refresh();
    return;
  }
  replace(number, { [name]: rounded(event[name]) });
}

function relabel(number, label) {
  if (label && label !== state.review.events[number].label) replace(number, { label });
  else refresh();
}

function remove(number) {
  if (state.review.events[number]) edit(state.review.events.filter((_, other) => other !== number));
}

function add(start, end) {
  const label = $("label").value.trim() || state.run?.classes[0];
  if (!label) {
    say("Write the label of the new event first.", true);
    $("label").focus();
    refresh();
    return;
  }
  const event = { start_seconds: rounded(Math.max(0, start)), end_seconds: rounded(Math.min(end, seconds())), label };
  if (event.end_seconds > event.start_seconds) edit([...state.review.events, event], event);
}

function addHere() {
  const start = Math.min(stage.time, Math.max(0, seconds() - 0.1));
  add(start, start + NEW_SECONDS);
}

function rename(number) {
  select(number);
  const field = $("events").children[number]?.querySelector('[data-part="label"]');
  field?.focus();
  field?.select();
}

function toggleDone() {
  const { review } = state;
  if (review) review.edit(review.events, !review.done);
}

async function next() {
  try {
    const query = new URLSearchParams({ run: state.run.run, ...(state.video ? { after: state.video } : {}) });
    const { video, left, ranked } = await getJson(`/v1/review/next?${query}`);
    if (!video) say("All videos are done.");
    else await open(video);
    if (video && ranked < left) say(`${left - ranked} videos have not been looked at by the model yet; Rank by doubt does that.`);
  } catch (error) {
    say(error.message, true);
  }
}

/** Let the model look at every video that is not done, so that the most doubtful ones come first. */
async function rank() {
  const left = videos.all.filter((one) => !one.done && (one.unsure === null || one.unsure === undefined));
  const failed = [];
  try {
    await shown("Ranking", async (signal, progress) => {
      for (const [index, one] of left.entries()) {
        progress(`video ${index + 1} of ${left.length}`, index, left.length);
        try {
          await runJob({ kind: "localize", run: state.run.run, video: one.video }, { signal });
        } catch (error) {
          if (error instanceof Cancelled) throw error;
          failed.push(`${one.name} (${error.message})`);
        }
      }
    });
    say(failed.length ? `${failed.length} videos could not be ranked, such as ${failed[0]}` : "Ranked; Next unsure video opens the most doubtful one.", failed.length > 0);
  } catch (error) {
    if (!(error instanceof Cancelled)) say(error.message, true);
  }
  await videos.load();
}

// --- Files ----------------------------------------------------------------------------------------------------------

async function exportFile() {
  const one = $("export-of").value === "one" && state.video;
  const query = new URLSearchParams({ format: $("export-format").value, ...(one ? { video: state.video } : {}) });
  try {
    const answer = await request(`/v1/review/export?${query}`);
    const named = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") ?? "");
    const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: named ? decodeURIComponent(named[1]) : "events" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("export").close();
  } catch (error) {
    $("export-problem").hidden = false;
    $("export-problem").textContent = error.message;
  }
}

const ENDINGS = { csv: "csv", txt: "audacity", srt: "srt", vtt: "vtt", eaf: "elan", json: "json" };

async function importFile() {
  const file = $("import-file").files[0];
  const ending = file?.name.split(".").pop().toLowerCase();
  const format = $("import-format").value === "auto" ? ENDINGS[ending] : $("import-format").value;
  try {
    if (!file) throw new Error("Choose a file first.");
    if (!format) throw new Error(`The ending .${ending} tells no format; choose one.`);
    const remarks = await state.review.import(file, format);
    for (const remark of remarks) say(remark);
    $("import").close();
  } catch (error) {
    $("import-problem").hidden = false;
    $("import-problem").textContent = error.message;
  }
}

async function saveManifest() {
  try {
    const saved = await sendJson("POST", "/v1/review/save", {});
    say(`${saved.file} with ${saved.events} events of ${saved.videos} videos is in the folder of the videos. Train with: avpea train own --data.root ${saved.file} --run runs/corrected`);
  } catch (error) {
    say(error.message, true);
  }
}

function openDialog(name) {
  $(`${name}-problem`).hidden = true;
  $(name).showModal();
}

// --- Keys and buttons -----------------------------------------------------------------------------------------------

const typing = (node) => node.matches?.("input:not([type=range]), select, textarea") || node.isContentEditable;

function step(by) {
  const count = state.review?.events.length ?? 0;
  if (count) select((Math.max(state.selected, by > 0 ? -1 : 0) + by + count) % count, true);
}

function zoomBy(by) {
  $("zoom").value = Number($("zoom").value) + by;
  timeline.zoom(Number($("zoom").value) / 100);
}

function onKey(event) {
  if (document.querySelector("dialog[open]") || event.altKey) return;
  const control = event.ctrlKey || event.metaKey;
  if (control && !typing(event.target) && state.review && ["z", "y"].includes(event.key.toLowerCase())) {
    event.preventDefault();
    if (event.key.toLowerCase() === "y" || event.shiftKey) state.review.redo();
    else state.review.undo();
    return;
  }
  if (control || typing(event.target)) return;
  if (event.key === "?") return openHelp();
  if (event.key.toLowerCase() === "n" && state.run) return next();
  if (!state.review) return;
  const range = event.target.matches?.("input[type=range]");
  const button = event.target.matches?.("button, a, summary");
  const small = event.shiftKey ? 0.1 : 1;
  const chosen = state.review.events[state.selected];
  const acts = {
    " ": () => (button ? false : stage.toggle()),
    ArrowLeft: () => (range ? false : stage.seek(stage.time - small)),
    ArrowRight: () => (range ? false : stage.seek(stage.time + small)),
    a: addHere,
    "[": () => chosen && changeTimes(state.selected, stage.time, chosen.end_seconds),
    "]": () => chosen && changeTimes(state.selected, chosen.start_seconds, stage.time),
    Delete: () => remove(state.selected),
    Backspace: () => remove(state.selected),
    e: () => chosen && rename(state.selected),
    j: () => step(1),
    k: () => step(-1),
    d: toggleDone,
    "+": () => zoomBy(10),
    "-": () => zoomBy(-10),
  };
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = /^[1-9]$/.test(name) && chosen ? state.run?.classes[Number(name) - 1] : undefined;
  if (digit) relabel(state.selected, digit);
  else if (!acts[name] || acts[name]() === false) return;
  event.preventDefault();
}

function openHelp() {
  $("help").showModal();
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
    if (state.video) localize();
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

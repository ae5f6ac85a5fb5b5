// Videos: uploaded, opened, ranked; and the model's look at one.

import { Cancelled, getJson, runJob, upload } from "/static/api.js";
import { stage, state, tasks, timeline, videos } from "/static/parts.js";
import { Review } from "/static/review.js";
import { atThreshold, clear, refresh, told } from "/static/show.js";
import { $, el, say } from "/static/ui.js";
import { shown, work } from "/static/work.js";

export async function take(file) {
  try {
    const video = await shown(`Uploading ${file.name}`, (signal, progress) =>
      upload(file, { signal, progress: (done, of) => progress(done < of ? `${Math.round((100 * done) / of)} %` : "looking at it", done, of) }));
    await videos.load();
    await open(video.video);
  } catch (error) {
    if (!(error instanceof Cancelled)) say(error.message, true);
  }
}

/** Open a video at a second; the one that is open goes there, and is looked at if no model has done so. */
export async function open(id, second = 0, play = false) {
  if (state.opening?.id === id) {
    Object.assign(state.opening, { second, play });
    if (stage.id === id) stage.seek(second, play);
    return;
  }
  if (id === state.video && state.review) {
    stage.seek(second, play);
    if (!play && state.run && !state.answer && !state.job) await localize();
    return;
  }
  const opening = begin(id, second, play);
  try {
    if (!(await opened(opening))) return;
  } catch (error) {
    if (state.opening !== opening) return;
    giveUp();
    say(error.message, true);
    return;
  }
  if (state.run) await localize();
}

/** Leave the video that is open: what is done from now on is about none, until the next one is there. */
function begin(id, second, play) {
  state.job?.abort();
  state.review?.close();
  const opening = { id, second, play };
  Object.assign(state, { video: id, opening, review: null, seconds: null, answer: null, selected: -1 });
  videos.current = id;
  videos.show();
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  hide();
  return opening;
}

function giveUp() {
  Object.assign(state, { video: null, opening: null });
  videos.current = null;
  videos.show();
  hide();
  $("welcome").hidden = false;
}

function hide() {
  if ($("view").contains(document.activeElement)) $("work").focus({ preventScroll: true });
  $("view").hidden = true;
  stage.close();
  clear();
  tasks.opened();
}

/** Show a video; false if another one has been opened in the meantime. Until its review is there, it only plays. */
async function opened(opening) {
  const { id } = opening;
  const path = `/v1/videos/${encodeURIComponent(id)}`;
  const about = await getJson(path);
  if (state.opening !== opening) return false;
  videos.update(id, about);
  $("welcome").hidden = true;
  $("view").hidden = false;
  $("events-card").inert = true;
  $("name").textContent = about.name;
  $("zoom").value = 0;
  stage.open(id, about, stage.run);
  if (opening.second || opening.play) stage.seek(opening.second, opening.play);
  const review = new Review(id, () => state.review === review && refresh(), told);
  const bins = Math.min(20000, Math.max(1000, Math.round(about.seconds * 40)));
  const [wave] = await Promise.all([getJson(`${path}/waveform?bins=${bins}`), review.load()]);
  if (state.opening !== opening) return false;
  const columns = Math.min(4000, Math.max(600, Math.round(about.seconds * 60)));
  const spectrogram = `${path}/spectrogram?columns=${columns}`;
  await timeline.open({ seconds: about.seconds, peaks: wave.peaks, spectrogram, playable: stage.playable });
  if (state.opening !== opening) return false;
  Object.assign(state, { opening: null, review, seconds: about.seconds });
  $("events-card").inert = false;
  refresh();
  return true;
}

export async function playAt(id, second) {
  await open(id, second, true);
  $("stage").scrollIntoView({ block: "nearest" });
}

export async function localize() {
  const { video, run } = state;
  state.answer = null; // that of another model is not this one's
  atThreshold();
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

export async function next() {
  try {
    const query = new URLSearchParams({ run: state.run.run, ...(state.video ? { after: state.video } : {}) });
    const { video, left, ranked } = await getJson(`/v1/review/next?${query}`);
    if (video) await open(video);
    else say(left ? "This is the last one that is not done." : "All videos are done.");
    if (video && ranked < left) say(`${left - ranked} videos have not been looked at by the model yet; Rank by doubt does that.`);
  } catch (error) {
    say(error.message, true);
  }
}

/** Let the model look at every video that is not done, so that the most doubtful ones come first. */
export async function rank() {
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

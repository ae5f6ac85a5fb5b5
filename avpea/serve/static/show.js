// What the model finds and what a person says, shown in the list, on the timeline and in the pointer's hint.

import { choose, listEvents } from "/static/events.js";
import { on, state, timeline, videos } from "/static/parts.js";
import { eventsAt, sureness, topClasses } from "/static/rule.js";
import { hint } from "/static/timeline.js";
import { $, el, say } from "/static/ui.js";

const TOP = 5; // classes whose curves are drawn

/** The model's events at the slider; nothing is asked of the server. */
export function found() {
  if (!state.answer) return [];
  const given = Number($("threshold").value);
  const threshold = Math.abs(given - state.answer.threshold) < 0.005 ? state.answer.threshold : given;
  return eventsAt(state.answer, threshold, Number($("shortest").value));
}

export function atThreshold() {
  state.review?.suggest(found());
  refresh();
}

const sure = (event) => sureness(state.answer, event);

/** Show everything anew; the list of events stays when only another one is chosen, as somebody may be typing in it. */
export function refresh(list = true) {
  const { review, answer, colour } = state;
  if (!review) return;
  const model = found();
  const doubtful = (event) => model.some((one) => one.doubtful && one.label === event.label && one.start_seconds === event.start_seconds);
  const events = review.events.map((event) => ({ ...event, doubtful: doubtful(event), shown: doubtful(event) ? `${event.label} ?` : event.label }));
  if (state.selected >= events.length) state.selected = -1;
  if (list) listEvents(events, state.selected, colour, sure, on);
  else choose(state.selected);
  timeline.show({ events, selected: state.selected, colour, editable: true });
  const classes = answer ? topClasses(answer, TOP) : [];
  $("rule").hidden = !answer;
  $("legend").replaceChildren(...classes.map(key));
  if (!answer) timeline.plot(null);
  else {
    const threshold = Number($("threshold").value);
    $("threshold-value").textContent = threshold.toFixed(2);
    timeline.plot({ answer, classes, threshold, found: model, colour });
  }
  showState(review, answer);
}

/** What can be done with a review, and what the list of videos says of it; no list of events is built anew. */
function showState(review, answer) {
  $("undo").disabled = !review.past.length;
  $("redo").disabled = !review.future.length;
  $("reset").hidden = !review.mine || !answer;
  $("done").setAttribute("aria-pressed", String(review.done));
  $("done").textContent = review.done ? "Done ✓" : "Mark as done";
  const source = review.mine ? (review.done ? "yours, done" : "yours") : answer ? "as the model finds them" : "";
  $("events-source").textContent = source;
  showInList(review);
}

function showInList(review) {
  const known = videos.get(review.video);
  const { done, revision } = review;
  if (known && (known.done !== done || known.revision !== revision)) videos.update(review.video, { done, revision });
}

/** Nothing of a video: while another one opens, and when it cannot be opened. */
export function clear() {
  timeline.close();
  listEvents([], -1, state.colour, sure, on);
  $("no-events").hidden = true;
  $("rule").hidden = true;
  $("legend").replaceChildren();
  $("name").textContent = $("saved").textContent = $("events-source").textContent = "";
  showTip(null);
}

function key(name) {
  const line = el("i");
  line.style.background = state.colour(name);
  return el("span", {}, line, name);
}

/** How storing a review goes. It is not always the one that is shown: a person may have opened another video since. */
export function told(review, how, sentence = "") {
  if (state.review !== review) {
    if (sentence) say(`${videos.get(review.video)?.name ?? "A video"}: ${sentence}`, true);
    if (how === "saved" || how === "conflict") showInList(review);
    return;
  }
  const box = $("saved");
  box.textContent = { saving: "Storing …", saved: "Stored", failed: "Not stored", conflict: "" }[how];
  box.classList.toggle("bad", how === "failed");
  if (sentence) say(sentence, true);
  showState(review, state.answer);
}

export function showTip(at) {
  const tip = $("tip");
  const text = at && state.review ? hint(at, state.review.events, state.answer, state.answer ? [...topClasses(state.answer, TOP), "background"] : [], sure) : "";
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const left = Math.min(at.x + 14, innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, at.y - tip.offsetHeight - 12)}px`;
}

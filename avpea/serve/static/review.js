// The events of one video while a person corrects them: undo, and every edit stored at once.

import { Problem, getJson, request, sendJson } from "/static/api.js";
import { recall, recalled, remember, remembered } from "/static/ui.js";

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const plain = ({ start_seconds, end_seconds, label }) => ({ start_seconds, end_seconds, label });
const RETRY_MILLISECONDS = 3000;
const MOST_STEPS = 100; // that can be taken back after a reload

/** Events as a review has them: by time. */
export const inOrder = (events) =>
  [...events].sort((a, b) => a.start_seconds - b.start_seconds || a.end_seconds - b.end_seconds);

export class Review {
  /** `changed` is called after every change, `told` with this review, how storing goes, and a sentence of a problem. */
  constructor(video, changed, told) {
    this.video = video;
    this.path = `/v1/videos/${encodeURIComponent(video)}/review`;
    this.changed = changed;
    this.told = told;
    this.events = [];
    this.done = false;
    this.revision = 0;
    this.mine = false; // whether a person has edited, so that the model's events no longer replace these
    this.past = [];
    this.future = [];
    this.waiting = null;
    this.sending = null;
    this.failing = false; // whether a person has been told that the server does not store
    this.closed = false;
  }

  async load() {
    this.take(await getJson(this.path));
    const steps = recalled(this.steps);
    if (steps?.revision === this.revision) Object.assign(this, { past: steps.past, future: steps.future });
    this.replay(this.unsaved());
  }

  /** An edit from before a crash or a reload, when the server did not answer. */
  replay(kept) {
    if (!kept) return;
    const equal = same(kept.events, this.events) && kept.done === this.done;
    if (kept.revision !== this.revision) {
      if (!equal) this.lose(kept);
    } else if (!equal || this.revision === 0) {
      this.edit(kept.events, kept.done); // the first edit counts also if it is that nothing happens
    }
  }

  take(stored) {
    this.events = stored.events.map(plain);
    this.done = stored.done;
    this.revision = stored.revision;
    this.mine = stored.revision > 0;
    this.changed();
  }

  /** The model's events, as long as nobody has edited. */
  suggest(events) {
    if (this.mine) return;
    this.events = events.map(plain);
    this.changed();
  }

  edit(events, done = false) {
    this.past.push({ events: this.events, done: this.done, mine: this.mine });
    this.future = [];
    this.put(events, done);
  }

  undo() {
    this.step(this.past, this.future);
  }

  redo() {
    this.step(this.future, this.past);
  }

  step(from, to) {
    const state = from.pop();
    if (!state) return;
    to.push({ events: this.events, done: this.done, mine: this.mine });
    this.put(state.events, state.done);
  }

  put(events, done) {
    this.events = inOrder(events).map(plain);
    this.done = done;
    this.mine = true;
    this.waiting = { events: this.events, done };
    this.keep();
    this.changed();
    this.send();
  }

  get stored() {
    return !this.waiting && !this.sending;
  }

  async send() {
    if (this.sending || !this.waiting || this.closed) return;
    this.sending = this.waiting;
    this.waiting = null;
    if (!this.failing) this.told(this, "saving");
    try {
      const stored = await sendJson("PUT", this.path, { ...this.sending, revision: this.revision });
      this.revision = stored.revision;
      this.sending = null;
      this.failing = false;
      if (this.waiting) this.keep();
      else this.settled();
    } catch (error) {
      if ((await this.failed(error)) === "later") return;
    }
    this.send();
  }

  /** What to do about an edit that was not stored; "later" if only another edit sends it again. */
  async failed(error) {
    const lost = this.sending;
    const { failing } = this;
    this.sending = null;
    this.failing = false;
    const stored = error.status === 409 ? await getJson(this.path).catch(() => null) : null;
    if (stored && same(stored.events.map(plain), lost.events) && stored.done === lost.done) {
      this.revision = stored.revision; // it was stored, and only the answer was lost
      if (!this.waiting) this.settled();
    } else if (stored) {
      const mine = this.waiting ?? lost; // the newest, which has all that the lost one has
      this.waiting = null;
      this.take(stored);
      this.lose(mine);
    } else if (error.status === 401) {
      // To ask again by itself would open the dialog again that a person has just closed.
      this.waiting = this.waiting ?? lost;
      this.told(this, "failed", `${error.message} Your edits stay in this browser, and the next one asks again.`);
      return "later";
    } else if (error instanceof Problem && error.status && error.status < 500 && error.status !== 409) {
      remember(this.key, null);
      this.told(this, "failed", error.message);
    } else {
      this.waiting = this.waiting ?? lost;
      this.told(this, "failed", failing ? "" : `${error.message} It is tried again.`);
      this.failing = true;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
    return "now";
  }

  /** Others have stored something in between: a person's events are one step back. */
  lose(mine) {
    remember(this.key, null);
    this.past.push({ events: mine.events, done: mine.done, mine: true });
    this.future = [];
    this.keepSteps();
    this.told(this, "conflict", "Somebody else has changed this video; theirs is shown. Undo brings your events back.");
  }

  /** Everything is stored. */
  settled() {
    remember(this.key, null);
    this.keepSteps();
    this.told(this, "saved");
  }

  /** Undo and redo are kept for a reload, and for when the video is opened again, as long as nobody else edits. */
  keepSteps() {
    const [past, future] = [this.past, this.future].map((some) => some.slice(-MOST_STEPS));
    recall(this.steps, { revision: this.revision, past, future });
  }

  get steps() {
    return `avpea:steps:${this.video}`;
  }

  get key() {
    return `avpea:unsaved:${this.video}`;
  }

  keep() {
    remember(this.key, JSON.stringify({ revision: this.revision, events: this.events, done: this.done }));
  }

  unsaved() {
    try {
      return JSON.parse(remembered(this.key));
    } catch {
      return null;
    }
  }

  /** Replace the events by those of a file. */
  async import(file, format) {
    const before = { events: this.events, done: this.done, mine: this.mine };
    const query = new URLSearchParams({ format, revision: this.revision, name: file.name.slice(-120) });
    const headers = { "Content-Type": "application/octet-stream" };
    const answer = await request(`${this.path}/import?${query}`, { method: "POST", headers, body: file });
    const stored = await answer.json();
    this.past.push(before);
    this.future = [];
    this.take(stored);
    this.settled();
    return stored.remarks;
  }

  close() {
    this.closed = this.stored;
  }
}

// Questions, captions, lanes, masks and the search: one card each, shown where a run of the server can do it.

import { Cancelled, sendJson } from "/static/api.js";
import { $, clock, colours, el, fill, percent, say } from "/static/ui.js";

const OF_A_VIDEO = ["ask", "caption", "parse", "segment"];
const LANES = { seen: "Seen", heard: "Heard", both: "Seen and heard at once" };

const able = (runs, can) => runs.filter((run) => run.can.includes(can));

/** `work(title, body)` runs a job with progress; `current()` is the video; `play(id, second)` plays one;
 * `mark(seconds, colour)` outlines objects on the picture. */
export class Tasks {
  constructor({ work, current, play, mark }) {
    Object.assign(this, { work, current, play, mark });
    $("ask-form").addEventListener("submit", (event) => this.ask(event));
    $("caption").addEventListener("click", () => this.caption());
    $("parse").addEventListener("click", () => this.parse());
    $("segment").addEventListener("click", () => this.segment());
    $("search-form").addEventListener("submit", (event) => this.search(event, { text: $("sentence").value.trim() }));
    $("similar").addEventListener("click", (event) => this.search(event, { video: this.current() }));
  }

  offer(runs) {
    this.runs = runs;
    for (const can of OF_A_VIDEO) {
      const some = able(runs, can);
      fill($(`${can}-run`), some.map((run) => [run.run, run.run]));
      $(`${can}-run`).parentElement.hidden = some.length < 2;
    }
    this.opened();
  }

  /** Another video, or none, is open. */
  opened() {
    const here = Boolean(this.current());
    for (const can of OF_A_VIDEO) $(`${can}-card`).hidden = !here || !able(this.runs, can).length;
    $("search-card").hidden = !able(this.runs, "search").length;
    $("similar").hidden = !here;
    for (const box of ["answer", "captions", "lanes", "segments"]) $(box).replaceChildren();
  }

  async ask(event) {
    event.preventDefault();
    const question = $("question").value.trim();
    const video = this.current();
    if (!question || !video) return;
    const found = await this.tried(() => this.work("Looking for an answer", { kind: "ask", run: $("ask-run").value, video, question }));
    if (!found || video !== this.current()) return;
    const chances = Object.entries(found.answers ?? {});
    const starts = (name) => [...(found.seconds ?? [])].sort((a, b) => (b[name] ?? 0) - (a[name] ?? 0))[0]?.start_seconds;
    const jump = (text, second) => el("button", { type: "button", on: { click: () => this.play(video, second) } }, `${text} ${clock(second, 0)}`);
    const seen = found.seconds?.some((one) => one.seen !== undefined);
    $("answer").replaceChildren(
      el("p", { class: "best" }, found.answer),
      ...(chances.length ? [el("ul", { class: "chances" }, ...chances.map(([name, chance]) => meter(name, chance)))] : []),
      ...(found.remarks ?? []).map((text) => el("p", { class: "muted" }, text)),
      ...(seen ? [el("p", { class: "row" }, jump("It looked most at", starts("seen")), jump("It listened most at", starts("heard")))] : []),
    );
  }

  async caption() {
    const video = this.current();
    const found = await this.tried(() => this.work("Describing the video", { kind: "caption", run: $("caption-run").value, video }));
    if (!found || video !== this.current()) return;
    $("captions").replaceChildren(...found.captions.map((one) => this.stretch(video, one, one.text)));
  }

  /** A line that plays from where it begins. */
  stretch(video, { start_seconds: start, end_seconds: end }, text) {
    const times = end === undefined ? clock(start, 0) : `${clock(start, 0)} – ${clock(end, 0)}`;
    return el("li", {}, el("button", { type: "button", on: { click: () => this.play(video, start) } },
      el("span", { class: "at" }, times), el("span", {}, text)));
  }

  async parse() {
    const video = this.current();
    const found = await this.tried(() => this.work("Taking the video apart", { kind: "parse", run: $("parse-run").value, video }));
    if (!found || video !== this.current()) return;
    const lanes = Object.entries(LANES).map(([lane, title]) => [title, found.events.filter((one) => one.lane === lane)]);
    $("lanes").replaceChildren(...lanes.filter(([, some]) => some.length).flatMap(([title, some]) => [
      el("h4", {}, title),
      el("ul", { class: "captions" }, ...some.map((one) => this.stretch(video, one, `${one.label} (${percent(one.confidence)})`))),
    ]));
    if (!found.events.length) $("lanes").replaceChildren(el("p", { class: "muted" }, "Nothing that the model knows was seen or heard."));
  }

  async segment() {
    const video = this.current();
    const found = await this.tried(() => this.work("Finding what sounds", { kind: "segment", run: $("segment-run").value, video }));
    if (!found || video !== this.current()) return;
    const some = found.seconds.filter((one) => one.objects.length);
    this.mark(found.seconds, colours(found.seconds.flatMap((one) => one.objects.map((object) => object.label))));
    $("segments").replaceChildren(...some.map((one) => this.stretch(video, one,
      one.objects.map((object) => `${object.label} on ${percent(object.share)} of the picture`).join(", "))));
    if (!some.length) $("segments").replaceChildren(el("li", { class: "muted" }, "Nothing that the model knows sounds."));
  }

  async search(event, asked) {
    event.preventDefault();
    if (!asked.text && !asked.video) return;
    const found = await this.tried(() => sendJson("POST", "/v1/search", { ...asked, by: $("by").value, top: 12 }));
    if (!found) return;
    $("results").replaceChildren(...found.map((one) => this.result(one)));
    if (!found.length) $("results").replaceChildren(el("li", { class: "muted" }, "Nothing was found."));
  }

  result(one) {
    const times = `${clock(one.start_seconds, 0)} – ${clock(one.end_seconds, 0)}`;
    const picture = el("img", { alt: "", loading: "lazy", on: { error: (event) => (event.target.style.visibility = "hidden") } });
    if (one.thumbnail?.startsWith("/v1/")) picture.src = one.thumbnail;
    return el("li", {}, el("button", {
      type: "button", disabled: !one.video, title: one.video ? "Play it from here" : "This video is not on the server",
      on: { click: () => this.play(one.video, one.start_seconds) },
    }, picture, el("span", { class: "about" }, el("span", { title: one.file }, one.file), el("span", { class: "muted" }, `${times} · ${one.score.toFixed(3)}`))));
  }

  async tried(act) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Cancelled)) say(error.message, true);
      return null;
    }
  }
}

function meter(name, chance) {
  const bar = el("i");
  bar.style.width = `${100 * chance}%`;
  return el("li", {}, el("span", { class: "name" }, name), el("span", { class: "meter", "aria-hidden": "true" }, bar), el("span", {}, percent(chance)));
}

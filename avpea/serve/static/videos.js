// The videos of the server: uploads and those of its folder.

import { getJson } from "/static/api.js";
import { $, clock, el, percent } from "/static/ui.js";

export class Videos {
  /** `open(id)` opens a video, and `run()` is the name of the run whose doubt is shown. */
  constructor(open, run) {
    Object.assign(this, { open, run });
    this.all = [];
    this.current = null;
    $("filter").addEventListener("input", () => this.show());
  }

  async load() {
    const run = this.run();
    this.all = await getJson(run ? `/v1/videos?${new URLSearchParams({ run })}` : "/v1/videos");
    this.show();
  }

  get(id) {
    return this.all.find((one) => one.video === id);
  }

  /** Remember what has changed of a video, and show it. */
  update(id, changes) {
    const known = this.get(id);
    if (known) Object.assign(known, changes);
    else this.all.unshift({ video: id, ...changes });
    this.show();
  }

  show() {
    const wanted = $("filter").value.trim().toLowerCase();
    const some = this.all.filter((one) => one.name.toLowerCase().includes(wanted));
    $("filter").hidden = this.all.length < 8;
    $("count").textContent = this.all.length ? `${this.all.filter((one) => one.done).length} of ${this.all.length} done` : "";
    $("no-videos").hidden = this.all.length > 0;
    $("videos").replaceChildren(...some.map((one) => this.item(one)));
  }

  item(one) {
    const shown = el("img", {
      alt: "", loading: "lazy", width: 64, height: 36,
      on: { error: (event) => event.target.replaceWith(el("span", { class: "blank" })) },
    });
    if (one.has_video !== false) shown.src = `/v1/videos/${encodeURIComponent(one.video)}/thumbnail?second=0`;
    const [text, kind] = state(one);
    const button = el("button", { type: "button", title: [one.name, ...(one.remarks ?? [])].join("\n"), on: { click: () => this.open(one.video) } },
      shown, el("span", { class: "what" }, one.name), el("span", { class: `state ${kind}` }, text));
    if (one.video === this.current) button.setAttribute("aria-current", "true");
    return el("li", {}, button);
  }
}

function state(one) {
  const length = one.seconds === null || one.seconds === undefined ? "" : clock(one.seconds, 0);
  if (one.remarks?.length) return [[length, "review damaged"].filter(Boolean).join(" · "), "broken"];
  if (one.done) return [[length, "done"].filter(Boolean).join(" · "), "done"];
  const doubt = one.unsure === null || one.unsure === undefined ? "" : `${percent(one.unsure)} doubt`;
  return [[length, one.revision ? "begun" : "", doubt].filter(Boolean).join(" · "), ""];
}

// The videos of the server: uploads and those of its folder.

import { getJson } from "/static/api.js";
import { $, clock, el, percent } from "/static/ui.js";

export class Videos {
  /** `open(id)` opens a video, and `run()` is the name of the run whose doubt is shown. */
  constructor(open, run) {
    Object.assign(this, { open, run });
    this.all = [];
    this.items = new Map(); // of the list, by the video's id
    this.current = null;
    $("filter").addEventListener("input", () => this.show());
  }

  async load() {
    const run = this.run();
    const all = await getJson(run ? `/v1/videos?${new URLSearchParams({ run })}` : "/v1/videos");
    const open = this.get(this.current);
    // A video of the library outside of the folder is in no list of the server's.
    if (open && !all.some((one) => one.video === open.video)) all.unshift(open);
    this.all = all;
    for (const id of this.items.keys()) if (!this.get(id)) this.items.delete(id);
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
    this.place(some.map((one) => this.item(one)));
  }

  /** Items in their order; those that stay there are left alone, with the focus of whoever tabs through them. */
  place(items) {
    const list = $("videos");
    if (items.length === list.children.length && items.every((item, number) => item === list.children[number])) return;
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    list.replaceChildren(...items);
    if (focused?.isConnected) focused.focus({ preventScroll: true });
  }

  item(one) {
    const item = this.items.get(one.video) ?? this.made(one);
    const [text, kind] = state(one);
    const [button] = item.children;
    const [what, shown] = [".what", ".state"].map((part) => button.querySelector(part));
    button.title = [one.name, ...(one.remarks ?? [])].join("\n");
    if (what.textContent !== one.name) what.textContent = one.name;
    if (shown.textContent !== text) shown.textContent = text;
    shown.className = `state ${kind}`;
    if (one.video === this.current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    return item;
  }

  made(one) {
    const shown = el("img", {
      alt: "", loading: "lazy", width: 64, height: 36,
      on: { error: (event) => event.target.replaceWith(el("span", { class: "blank" })) },
    });
    if (one.has_video !== false) shown.src = `/v1/videos/${encodeURIComponent(one.video)}/thumbnail?second=0`;
    const button = el("button", { type: "button", on: { click: () => this.open(one.video) } },
      shown, el("span", { class: "what" }), el("span", { class: "state" }));
    const item = el("li", {}, button);
    this.items.set(one.video, item);
    return item;
  }
}

function state(one) {
  const length = one.seconds === null || one.seconds === undefined ? "" : clock(one.seconds, 0);
  if (one.remarks?.length) return [[length, "review damaged"].filter(Boolean).join(" · "), "broken"];
  if (one.done) return [[length, "done"].filter(Boolean).join(" · "), "done"];
  const doubt = one.unsure === null || one.unsure === undefined ? "" : `${percent(one.unsure)} doubt`;
  return [[length, one.revision ? "begun" : "", doubt].filter(Boolean).join(" · "), ""];
}

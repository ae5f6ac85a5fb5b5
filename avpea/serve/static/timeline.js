// Waveform, spectrogram, events and probabilities on one zoomable line of time (wavesurfer.js with regions).

import WaveSurfer from "/static/vendor/wavesurfer/wavesurfer.esm.js";
import RegionsPlugin from "/static/vendor/wavesurfer/regions.esm.js";
import { clock, el, percent } from "/static/ui.js";

const WAVE = 60;
const SPECTROGRAM = 84;
const CHART = 132;
const RULER = 18; // of the chart, below the curves
const LANE = 14; // what the model finds at the threshold, above the curves
const MOST_PIXELS = 12000; // of a canvas, which browsers bound
const MOST_ZOOM = 400; // pixels of a second
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800]; // seconds between marks of the ruler
const NEW_SECONDS = 0.1; // a shorter drag adds nothing

const nonce = document.querySelector('meta[name="style-nonce"]').content;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Timeline {
  /** `tell` has: seek, select, change, add, name, hover. */
  constructor(box, media, tell) {
    this.box = box;
    this.media = media;
    this.tell = tell;
    this.regions = null;
    this.wave = null;
    this.shown = { events: [], selected: -1, colour: () => "gray", editable: false };
    this.chart = null;
  }

  async open({ seconds, peaks, spectrogram, playable }) {
    this.close();
    this.box.classList.remove("zoomed");
    this.seconds = seconds;
    this.regions = RegionsPlugin.create();
    this.wave = WaveSurfer.create({
      container: this.box, height: WAVE, peaks: [peaks], duration: seconds, normalize: true, cspNonce: nonce,
      dragToSeek: false, plugins: [this.regions], minPxPerSec: 1, cursorWidth: 2, autoScroll: true,
      ...(playable ? { media: this.media } : {}), ...this.colours(),
    });
    this.picture = el("img", { alt: "", draggable: false });
    Object.assign(this.picture.style, {
      display: "block", width: "100%", height: `${SPECTROGRAM}px`, pointerEvents: "none", background: "#000004",
    });
    this.picture.addEventListener("error", () => (this.picture.style.visibility = "hidden"));
    this.picture.src = spectrogram;
    this.canvas = el("canvas", { role: "img" });
    this.canvas.setAttribute("aria-label", "Probability of each class over time");
    Object.assign(this.canvas.style, { position: "static", display: "block", width: "100%", height: `${CHART}px` });
    this.wave.getWrapper().append(this.picture, this.canvas);
    this.listen();
    await new Promise((resolve) => (this.wave.getDuration() ? resolve() : this.wave.once("ready", resolve)));
    this.fit = this.box.clientWidth / seconds;
    this.draw();
    this.show(this.shown);
  }

  colours() {
    return { waveColor: style("--wave"), progressColor: style("--played"), cursorColor: style("--accent") };
  }

  listen() {
    this.wave.on("interaction", (second) => this.tell.seek(second));
    this.wave.on("redraw", () => this.draw());
    this.wave.on("zoom", () => this.draw());
    this.regions.on("region-clicked", (region, event) => {
      event.stopPropagation();
      this.tell.select(region.number, true);
    });
    this.regions.on("region-double-clicked", (region, event) => {
      event.stopPropagation();
      this.tell.name(region.number);
    });
    this.regions.on("region-updated", (region) => {
      if (region.number !== undefined) this.tell.change(region.number, region.start, region.end);
    });
    this.regions.on("region-created", (region) => {
      if (region.number !== undefined || this.showing) return;
      region.remove(); // it comes back as one of the events
      if (region.end - region.start >= NEW_SECONDS) this.tell.add(region.start, region.end);
    });
    const wrapper = this.wave.getWrapper();
    wrapper.addEventListener("pointermove", (event) => this.hover(event));
    wrapper.addEventListener("pointerleave", () => this.tell.hover(null));
  }

  hover(event) {
    const box = this.wave.getWrapper().getBoundingClientRect();
    const second = ((event.clientX - box.left) / box.width) * this.seconds;
    const over = event.composedPath().find((node) => node.getAttribute?.("part")?.includes("region "));
    const region = over && this.regions.getRegions().find((one) => one.element === over);
    const onChart = event.clientY > box.bottom - CHART;
    this.tell.hover({ second, number: onChart ? undefined : region?.number, onChart, x: event.clientX, y: event.clientY });
  }

  /** Show the events as regions. */
  show(shown) {
    this.shown = shown;
    if (!this.wave?.getDuration()) return;
    this.showing = true;
    this.regions.clearRegions();
    this.stopDragging?.();
    shown.events.forEach((event, number) => {
      const region = this.regions.addRegion({
        start: event.start_seconds, end: event.end_seconds, drag: shown.editable, resize: shown.editable,
        color: shown.colour(event.label, number === shown.selected ? 0.36 : 0.24), content: event.shown ?? event.label,
        minLength: NEW_SECONDS,
      });
      region.number = number;
      if (!region.element) return;
      region.element.style.height = `calc(100% - ${CHART}px)`;
      region.element.setAttribute("aria-hidden", "true"); // the list of events says the same, and can be used with keys
      const edge = `2px solid ${shown.colour(event.label)}`;
      for (const handle of region.element.children) {
        if (handle.getAttribute("part").includes("left")) handle.style.borderLeft = edge;
        if (handle.getAttribute("part").includes("right")) handle.style.borderRight = edge;
      }
      if (number === shown.selected) region.element.style.boxShadow = `inset 0 0 0 2px ${shown.colour(event.label)}`;
    });
    if (shown.editable) this.stopDragging = this.regions.enableDragSelection({ color: "hsl(225 40% 60% / .4)" });
    this.showing = false;
  }

  /** Show probabilities: `{ answer, classes, threshold, found, colour }`, or null. */
  plot(chart) {
    this.chart = chart;
    this.draw();
  }

  draw() {
    if (!this.canvas) return;
    const width = this.wave.getWrapper().clientWidth;
    const dense = Math.min(devicePixelRatio || 1, MOST_PIXELS / Math.max(width, 1));
    this.canvas.width = Math.max(1, Math.round(width * dense));
    this.canvas.height = Math.round(CHART * dense);
    const pen = this.canvas.getContext("2d");
    pen.scale(this.canvas.width / width, dense);
    pen.clearRect(0, 0, width, CHART);
    this.drawRuler(pen, width);
    if (this.chart) this.drawCurves(pen, width);
  }

  drawRuler(pen, width) {
    const step = STEPS.find((one) => (one / this.seconds) * width >= 55) ?? 3600;
    pen.fillStyle = pen.strokeStyle = style("--muted");
    pen.font = "11px system-ui, sans-serif";
    for (let mark = 0; mark * step < this.seconds; mark += 1) {
      const x = ((mark * step) / this.seconds) * width;
      pen.fillRect(x, CHART - RULER + 3, 1, 6);
      pen.fillText(clock(mark * step, step < 1 ? 1 : 0), x + 4, CHART - 5);
    }
  }

  drawCurves(pen, width) {
    const { answer, classes, threshold, found, colour } = this.chart;
    const x = (second) => (second / this.seconds) * width;
    const top = LANE + 6;
    const y = (chance) => CHART - RULER - chance * (CHART - RULER - top);
    pen.strokeStyle = style("--line");
    pen.lineWidth = 1;
    for (const chance of [0, 0.5, 1]) {
      pen.beginPath();
      pen.moveTo(0, y(chance));
      pen.lineTo(width, y(chance));
      pen.stroke();
    }
    for (const event of found) {
      pen.fillStyle = colour(event.label, event.doubtful ? 0.45 : 0.95);
      pen.fillRect(x(event.start_seconds), 3, Math.max(2, x(event.end_seconds) - x(event.start_seconds) - 1), LANE - 4);
    }
    for (const name of [...classes].reverse()) {
      pen.strokeStyle = colour(name);
      pen.lineWidth = 2;
      pen.beginPath();
      answer.seconds.forEach((second, index) => {
        const middle = Math.min(second.start_seconds + 0.5, this.seconds);
        const height = y(second.probabilities[name] ?? 0);
        if (index === 0) pen.moveTo(x(second.start_seconds), height);
        pen.lineTo(x(middle), height);
        if (index === answer.seconds.length - 1) pen.lineTo(x(Math.min(middle + 0.5, this.seconds)), height);
      });
      pen.stroke();
    }
    pen.strokeStyle = style("--text");
    pen.setLineDash([5, 4]);
    pen.lineWidth = 1.2;
    pen.beginPath();
    pen.moveTo(0, y(threshold));
    pen.lineTo(width, y(threshold));
    pen.stroke();
    pen.setLineDash([]);
  }

  /** Zoom to a share between the whole video and 400 pixels of a second. */
  zoom(share) {
    if (!this.wave) return;
    this.fit = this.box.clientWidth / this.seconds;
    this.box.classList.toggle("zoomed", share > 0);
    const most = Math.max(MOST_ZOOM, this.fit);
    this.wave.zoom(share <= 0 ? 1 : this.fit * (most / this.fit) ** share);
  }

  reveal(second) {
    if (this.wave) {
      const { startTime, endTime } = this.wave.renderer?.getVisibleRange?.()?.value ?? { startTime: 0, endTime: Infinity };
      if (second < startTime || second > endTime) this.wave.setScrollTime?.(Math.max(0, second - 1));
    }
  }

  restyle() {
    this.wave?.setOptions(this.colours());
    this.draw();
  }

  close() {
    this.stopDragging = null;
    this.wave?.destroy();
    this.box.replaceChildren();
    this.wave = this.canvas = this.chart = null;
    this.shown = { ...this.shown, events: [], selected: -1 }; // and not those of the video before
  }
}

/** What a pointer on the timeline is told. */
export function hint(at, events, answer, classes, sure) {
  const event = events[at.number];
  if (event && !at.onChart) {
    const known = sure(event);
    const times = `${clock(event.start_seconds)} – ${clock(event.end_seconds)}`;
    return `${event.label}\n${times}${known === null ? "" : `\nthe model’s confidence: ${percent(known)}`}`;
  }
  const second = answer?.seconds?.[Math.floor(at.second)];
  if (!at.onChart || !second) return "";
  const lines = classes.map((name) => [name, second.probabilities[name] ?? 0]).sort((a, b) => b[1] - a[1]);
  return [`Second ${Math.floor(at.second)}`, ...lines.map(([name, chance]) => `${name}: ${percent(chance)}`)].join("\n");
}

// The player: the video itself, or frames of what a browser cannot play; with the adapters' attention on top.

import { Cancelled, getJson } from "/static/api.js";
import { $, clock, say } from "/static/ui.js";

const HEAT = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

export class Stage {
  constructor(moved) {
    this.moved = moved;
    this.video = $("video");
    this.run = null;
    this.attending = false;
    this.time = 0;
    const { video } = this;
    video.addEventListener("timeupdate", () => this.at(video.currentTime));
    video.addEventListener("seeked", () => this.at(video.currentTime));
    for (const kind of ["play", "pause", "ended"]) video.addEventListener(kind, () => this.label());
    video.addEventListener("loadedmetadata", () => this.shape(video.videoWidth, video.videoHeight));
    video.addEventListener("error", () => this.unplayable());
    $("play").addEventListener("click", () => this.toggle());
    $("speed").addEventListener("change", () => (video.playbackRate = Number($("speed").value)));
    $("attention").addEventListener("click", () => this.attend(!this.attending));
  }

  open(id, about, run) {
    this.id = id;
    this.about = about;
    this.playable = true;
    this.time = 0;
    this.marks = null;
    this.run = run;
    $("still").hidden = true;
    $("stage-note").hidden = about.has_video !== false;
    $("stage-note").textContent = "This file has sound and no picture.";
    this.video.hidden = false;
    this.video.src = `/v1/videos/${encodeURIComponent(id)}/media`;
    this.video.playbackRate = Number($("speed").value);
    this.shape(16, 9);
    this.offer();
    this.label();
    this.at(0);
  }

  /** No video: the one before does not go on behind what is hidden. */
  close() {
    this.id = this.about = this.marks = null;
    this.playable = false;
    this.attend(false);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    $("still").hidden = true;
  }

  /** Offer attention if the run has it and there is a picture. */
  offer() {
    $("attention").hidden = !this.run?.attention;
    this.attend(false);
  }

  shape(width, height) {
    if (!width || !height) return;
    $("stage").style.aspectRatio = `${width} / ${height}`;
    $("stage").style.maxWidth = `calc(var(--stage) * ${width / height})`;
  }

  unplayable() {
    if (!this.video.getAttribute("src") || !this.playable) return;
    this.playable = false;
    this.video.hidden = true;
    $("stage-note").hidden = false;
    $("stage-note").textContent = "This browser cannot play the file; the timeline shows its frames.";
    if (this.about.has_video) this.still();
    this.label();
  }

  still() {
    const image = $("still");
    image.hidden = false;
    image.onload = () => this.shape(image.naturalWidth, image.naturalHeight);
    const second = Math.min(this.time, Math.max(0, this.about.seconds - 0.05));
    image.src = `/v1/videos/${encodeURIComponent(this.id)}/frame?second=${second.toFixed(2)}`;
  }

  seek(second, play = false) {
    const time = Math.max(0, Math.min(second, this.about?.seconds ?? second));
    if (this.playable) {
      this.video.currentTime = time;
      if (play) this.video.play().catch(() => {});
    } else {
      this.at(time);
      if (this.about.has_video) this.still();
    }
  }

  toggle() {
    if (!this.playable || !this.id) return;
    if (this.video.paused) this.video.play().catch((error) => say(`The video does not play (${error.message}).`, true));
    else this.video.pause();
  }

  label() {
    $("play").textContent = this.video.paused ? "Play" : "Pause";
    $("play").disabled = !this.playable;
  }

  at(time) {
    this.time = time;
    $("clock").textContent = `${clock(time)} / ${clock(this.about?.seconds ?? 0)}`;
    if (this.attending) this.look();
    else this.outline();
    this.moved(time);
  }

  /** Outline objects of each second, `[{ objects: [{ label, box }] }]`, with boxes as shares of the frame; null for none. */
  mark(seconds, colour) {
    this.marks = seconds && { seconds, colour };
    if (!this.attending) this.outline();
  }

  outline() {
    const canvas = $("overlay");
    const found = this.marks?.seconds[Math.floor(this.time)]?.objects ?? [];
    canvas.hidden = !found.length;
    if (!found.length) return;
    canvas.width = $("stage").clientWidth;
    canvas.height = $("stage").clientHeight;
    const pen = canvas.getContext("2d");
    pen.lineWidth = 3;
    pen.font = "600 14px system-ui, sans-serif";
    for (const { label, box } of found) {
      const [left, top, right, bottom] = box.map((edge, index) => edge * (index % 2 ? canvas.height : canvas.width));
      pen.strokeStyle = pen.fillStyle = this.marks.colour(label);
      pen.strokeRect(left, top, right - left, bottom - top);
      pen.fillText(label, left + 5, Math.max(14, top - 5));
    }
  }

  attend(on) {
    this.attending = on;
    $("attention").setAttribute("aria-pressed", String(on));
    $("overlay").hidden = $("listened-box").hidden = true;
    this.looked = null;
    if (on) this.look();
    else this.outline();
  }

  /** Fetch and draw the attention of the second that is shown, one request at a time. */
  async look() {
    const second = Math.min(Math.floor(this.time), Math.max(0, Math.ceil(this.about.seconds) - 1));
    if (this.looking || this.looked === second) return;
    this.looking = true;
    const { id, run } = this;
    try {
      const query = new URLSearchParams({ run: run.run, second });
      const maps = await getJson(`/v1/videos/${encodeURIComponent(id)}/attention?${query}`);
      if (!this.attending || id !== this.id) return;
      this.looked = second;
      drawMap($("overlay"), maps.sound_looked, true);
      drawMap($("listened"), turned(maps.image_listened), false);
      $("listened-box").hidden = !maps.image_listened;
    } catch (error) {
      this.attend(false);
      if (!(error instanceof Cancelled)) say(error.message, true);
    } finally {
      this.looking = false;
    }
    if (this.attending && this.looked !== Math.floor(this.time)) this.look();
  }
}

/** Rows of time and columns of frequency as a picture has them: time from left to right, low notes at the bottom. */
function turned(map) {
  return map && map[0].map((_, column) => map.map((row) => row[column])).reverse();
}

function drawMap(canvas, map, over) {
  canvas.hidden = !map;
  if (!map) return;
  const rows = map.length;
  const columns = map[0].length;
  canvas.width = columns;
  canvas.height = rows;
  const least = Math.min(...map.flat());
  const range = Math.max(...map.flat()) - least || 1;
  const pen = canvas.getContext("2d");
  const pixels = pen.createImageData(columns, rows);
  map.flat().forEach((value, index) => {
    const share = (value - least) / range;
    const place = Math.min(share * (HEAT.length - 1), HEAT.length - 1.001);
    const lower = Math.floor(place);
    for (let part = 0; part < 3; part += 1) {
      pixels.data[4 * index + part] = HEAT[lower][part] + (place - lower) * (HEAT[lower + 1][part] - HEAT[lower][part]);
    }
    pixels.data[4 * index + 3] = over ? 190 * share : 255;
  });
  pen.putImageData(pixels, 0, 0);
}

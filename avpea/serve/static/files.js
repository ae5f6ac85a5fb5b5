// Export and import of events, and the manifest to train on.

import { request, sendJson } from "/static/api.js";
import { state } from "/static/parts.js";
import { $, el, say } from "/static/ui.js";

export async function exportFile() {
  const one = $("export-of").value === "one" && state.video;
  const query = new URLSearchParams({ format: $("export-format").value, ...(one ? { video: state.video } : {}) });
  try {
    const answer = await request(`/v1/review/export?${query}`);
    const named = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") ?? "");
    const link = el("a", { href: URL.createObjectURL(await answer.blob()), download: named ? decodeURIComponent(named[1]) : "events" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    $("export").close();
    const remarks = answer.headers.get("Avpea-Remarks");
    if (remarks) say(decodeURIComponent(remarks));
  } catch (error) {
    $("export-problem").hidden = false;
    $("export-problem").textContent = error.message;
  }
}

const ENDINGS = { csv: "csv", txt: "audacity", srt: "srt", vtt: "vtt", eaf: "elan", json: "json" };

export async function importFile() {
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

export async function saveManifest() {
  try {
    const saved = await sendJson("POST", "/v1/review/save", {});
    say(`${saved.file} with ${saved.events} events of ${saved.videos} videos is in the folder of the videos. Train with: avpea train own --data.root ${saved.file} --run runs/corrected`);
    for (const remark of saved.remarks) say(remark);
  } catch (error) {
    say(error.message, true);
  }
}

export function openDialog(name) {
  $(`${name}-problem`).hidden = true;
  $(name).showModal();
}

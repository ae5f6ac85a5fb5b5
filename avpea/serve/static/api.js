// Requests to the server that the page came from. Every problem is an error with the server's sentence.

export class Problem extends Error {
  constructor(status, sentence, kind = "") {
    super(sentence);
    this.status = status;
    this.kind = kind;
  }
}

export class Cancelled extends Error {}

let onToken = null;
let asking = null; // the one question that all requests wait for which the server does not let in
let given = 0; // how often a token was given

/** What to do when the server asks for a token; resolves to whether it has got one. */
export function whenTokenIsAsked(ask) {
  onToken = ask;
}

async function problemOf(answer) {
  let body = {};
  try {
    body = await answer.json();
  } catch {
    /* no JSON: the status has to do */
  }
  return new Problem(answer.status, body.detail || `The server answered ${answer.status}.`, body.type || "");
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const AGAIN = [300, 1000, 3000, 6000]; // milliseconds before a request that changes nothing is sent again

/** The answer of the server itself; what changes nothing there is asked again when the connection breaks. */
async function reached(path, options) {
  const harmless = [undefined, "GET"].includes(options.method);
  for (const wait of harmless ? [...AGAIN, null] : [null]) {
    try {
      return await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
    } catch (error) {
      if (error.name === "AbortError" || options.signal?.aborted) throw new Cancelled();
      if (wait === null) throw new Problem(0, "The server does not answer; see whether it still runs.");
      await pause(wait);
    }
  }
}

export async function request(path, options = {}) {
  const before = given;
  const answer = await reached(path, options);
  if (answer.status === 401 && onToken && path !== "/v1/session") {
    if (given === before) await tokenGiven(); // otherwise it was sent before another one's token was given
    return request(path, options);
  }
  if (!answer.ok) throw await problemOf(answer);
  return answer;
}

async function tokenGiven() {
  asking ??= onToken()
    .then((got) => {
      if (got) given += 1;
      return got;
    })
    .finally(() => (asking = null));
  if (!(await asking)) throw new Problem(401, "The server asks for a token, and none was given.");
}

export async function getJson(path, options) {
  return (await request(path, options)).json();
}

export async function sendJson(method, path, body, options = {}) {
  const headers = { "Content-Type": "application/json" };
  const answer = await request(path, { method, headers, body: JSON.stringify(body), ...options });
  return answer.status === 204 ? null : answer.json();
}

/** Begin a job, tell its progress, and return its result; `signal` cancels it on the server too. */
export async function runJob(body, { progress = () => {}, signal } = {}) {
  let wait = 0;
  let failed = 0;
  let job;
  for (;;) {
    try {
      ({ job } = await sendJson("POST", "/v1/jobs", body, { signal }));
      break;
    } catch (error) {
      if (signal?.aborted) throw new Cancelled();
      if (error.status !== 503 && (error.status !== 0 || (failed += 1) > AGAIN.length)) throw error;
      progress({ state: "queued", progress: null });
      await pause(error.status ? 2000 : AGAIN[failed - 1]);
    }
  }
  const path = `/v1/jobs/${encodeURIComponent(job)}`;
  const cancel = () => request(path, { method: "DELETE" }).catch(() => {});
  signal?.addEventListener("abort", cancel, { once: true });
  for (;;) {
    if (signal?.aborted) {
      cancel();
      throw new Cancelled();
    }
    const state = await getJson(path);
    if (state.state === "done") return state.result;
    if (state.state === "cancelled") throw new Cancelled();
    if (state.state === "failed") throw new Problem(state.problem.status, state.problem.detail, state.problem.type);
    progress(state);
    wait = Math.min(wait + 60, 500);
    await pause(wait);
  }
}

/** Upload a file with progress, which `fetch` cannot tell. */
export function upload(file, { progress = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name);
    sending.open("POST", "/v1/videos");
    sending.responseType = "json";
    sending.upload.addEventListener("progress", (event) => progress(event.loaded, event.total || file.size));
    sending.addEventListener("load", () => {
      const body = sending.response || {};
      if (sending.status >= 200 && sending.status < 300) resolve(body);
      else reject(new Problem(sending.status, body.detail || `The server answered ${sending.status}.`, body.type));
    });
    sending.addEventListener("error", () => reject(new Problem(0, "The upload broke off; try it again.")));
    sending.addEventListener("abort", () => reject(new Cancelled()));
    signal?.addEventListener("abort", () => sending.abort(), { once: true });
    sending.send(form);
  });
}

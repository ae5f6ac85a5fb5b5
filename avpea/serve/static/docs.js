// Shows /openapi.json: each endpoint with its parameters, its body and its answer. No other host is asked.
"use strict";

function made(tag, text, className) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function resolved(schema, all) {
  const name = schema && schema.$ref && schema.$ref.split("/").pop();
  return name ? all[name] || {} : schema || {};
}

function kindOf(schema, all) {
  const found = resolved(schema, all);
  if (found.anyOf) return found.anyOf.map((one) => kindOf(one, all)).join(" or ");
  if (found.enum) return found.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (found.type === "array") return `list of ${kindOf(found.items, all)}`;
  const range = [["minimum", "from"], ["maximum", "to"]].filter(([key]) => key in found).map(([key, word]) => `${word} ${found[key]}`);
  return [found.type || found.title || "any", ...range].join(" ");
}

function table(rows) {
  const element = made("table");
  const head = element.createTHead().insertRow();
  for (const title of ["name", "kind", "default", "about"]) {
    const cell = made("th", title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = element.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((text, index) => line.insertCell().append(index ? text : made("code", text)));
  }
  return element;
}

function properties(schema, all) {
  const found = resolved(schema.type === "array" ? schema.items : schema, all);
  const required = new Set(found.required || []);
  return Object.entries(found.properties || {}).map(([name, one]) => [
    name,
    kindOf(one, all),
    "default" in one ? JSON.stringify(one.default) : required.has(name) ? "needed" : "",
    one.description || "",
  ]);
}

function operation(path, method, about, all) {
  const element = made("details");
  const summary = made("summary");
  summary.append(made("span", method.toUpperCase(), "method"), made("code", path), ` — ${(about.description || about.summary).split("\n")[0]}`);
  element.append(summary);
  if (about.parameters) {
    element.append(made("h4", "Parameters"), table(about.parameters.map((one) => [
      one.name, kindOf(one.schema, all), one.required ? "needed" : JSON.stringify(one.schema.default ?? null), one.description || one.schema.description || "",
    ])));
  }
  for (const [type, one] of Object.entries((about.requestBody || {}).content || {})) {
    element.append(made("h4", `Body: ${type}`), table(properties(one.schema, all)));
  }
  for (const [status, one] of Object.entries(about.responses)) {
    if (status === "default" || status === "422") continue;
    const schema = Object.values(one.content || {})[0];
    element.append(made("h4", `Answer: ${status}`));
    const rows = schema && schema.schema ? properties(schema.schema, all) : [];
    element.append(rows.length ? table(rows) : made("p", one.description));
  }
  const body = method === "post" && about.requestBody ? (about.requestBody.content["multipart/form-data"] ? " -F file=@video.mp4" : " -H 'Content-Type: application/json' -d '{}'") : "";
  element.append(made("pre", `curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`}${body} ${location.origin}${path}`));
  return element;
}

async function show() {
  const about = document.getElementById("about");
  const answer = await fetch("/openapi.json");
  const found = await answer.json();
  const all = (found.components || {}).schemas || {};
  about.textContent = `Version ${found.info.version}. ${found.info.description.replaceAll("`", "")}`;
  const groups = {};
  for (const [path, methods] of Object.entries(found.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      const group = (one.tags || ["other"])[0];
      (groups[group] = groups[group] || []).push(operation(path, method, one, all));
    }
  }
  const place = document.getElementById("operations");
  for (const [group, operations] of Object.entries(groups)) place.append(made("h2", group), ...operations);
}

show().catch((error) => { document.getElementById("about").textContent = `The description cannot be loaded: ${error.message}`; });

// The page: what is chosen is sent, and what comes back is shown.

import { clearAnswer, showAnswer, showProblem } from "./answer.js";
import { controlOf } from "./controls.js";
import { curlText } from "./curl.js";
import { byId, element, fill } from "./elements.js";
import { takePictures } from "./intake.js";
import { showPicture } from "./picture.js";
import { addressOf, ask, Refusal } from "./server.js";
import { modelChoices, tasksOf, versionChoices } from "./tasks.js";
import { bodyOf, clearPictures, showPictures, showWriting } from "./writing.js";

const state = { tasks: [], models: [], task: null, controls: [], file: null, key: "", keyWanted: false, running: null };

// What the server has

async function start() {
  try {
    state.tasks = tasksOf(await (await ask("/openapi.json")).json());
    state.models = (await (await ask("/v1/models", { key: state.key })).json()).models;
    byId("problem").replaceChildren();
    byId("key-form").hidden = true;
  } catch (error) {
    refused(error);
    byId("server").textContent = error.status ? "" : "not reachable";
    const again = element("button", { type: "button" }, "Try again");
    again.addEventListener("click", start);
    if (error.status !== 401) byId("problem").append(again);
    return;
  }
  showServer();
  showTasks();
}

async function showServer() {
  const ready = state.models.filter((model) => model.ready).length;
  const text = `${ready} of ${state.models.length} models ready`;
  byId("server").textContent = text;
  try {
    const { version } = await (await ask("/v2", { key: state.key })).json();
    if (version) byId("server").textContent = `${version} · ${text}`;
  } catch {
    // The line is complete without it.
  }
}

function showTasks() {
  const pills = state.tasks.map((task) => {
    const input = element("input", { type: "radio", name: "task", value: task.verb });
    input.addEventListener("change", () => chooseTask(task));
    return element("label", { className: "pill" }, input, element("span", {}, task.verb));
  });
  byId("tasks").querySelector(".pills").replaceChildren(...pills);
  byId("controls").hidden = !state.tasks.length;
  if (!state.tasks.length) {
    showProblem({ title: "Nothing to try here", detail: "This server has no task that can be tried on this page." });
    return;
  }
  const verb = state.task?.verb;
  const task = state.tasks.find((one) => one.verb === verb) ?? state.tasks.find(able) ?? state.tasks[0];
  pills[state.tasks.indexOf(task)].querySelector("input").checked = true;
  chooseTask(task);
}

// What is chosen

const able = (task) => modelChoices(state.models, task.verb).length > 0;

function chooseTask(task) {
  if (task !== state.task) {
    stop();
    clearAnswer();
    clearPictures();
  }
  state.task = task;
  byId("task-summary").textContent = task.summary;
  showStage();
  state.controls = task.parameters.map((parameter) => ({ name: parameter.name, ...controlOf(parameter) }));
  byId("parameters").replaceChildren(...state.controls.map((control) => control.node));
  const choices = modelChoices(state.models, task.verb);
  fill(byId("model"), choices.length ? choices : [["", "none"]]);
  byId("model").disabled = byId("send").disabled = !choices.length;
  chooseModel();
}

/** What the left side has room for: a picture that is sent, or those that come back for a text. */
function showStage() {
  const { text, mediaTypes } = state.task ?? {};
  showWriting(text);
  byId("empty").hidden = Boolean(text || state.file);
  byId("figure").hidden = Boolean(text || !state.file);
  byId("file").accept = (mediaTypes ?? []).join(",");
}

function chooseModel() {
  const chosen = state.models.find((model) => model.name === byId("model").value);
  fill(byId("version"), versionChoices(chosen));
  byId("version").disabled = !chosen;
  changed();
}

/** The query that the controls stand for: only what differs from what the server takes by itself. */
function query() {
  const given = new URLSearchParams(byId("version").value);
  const several = byId("model").options.length > 1;
  if (byId("model").value && (several || String(given))) given.set("model", byId("model").value);
  for (const { name, value } of state.task.text ? [] : state.controls) {
    if (value() !== null) given.set(name, value());
  }
  return String(given) && `?${given}`;
}

function changed() {
  showCurl();
  if (!byId("send").disabled && state.task.text) return state.running ? undefined : say("Write a text, then send it.");
  if (!byId("send").disabled) return send();
  stop();
  clearAnswer();
  const { verb } = state.task;
  const detail = `No model of this server does “${verb}”.`;
  showProblem({ title: "No model for this task", detail, remedy: "Choose another task, or publish a model that does it." });
}

function showCurl() {
  if (!state.task) return;
  const { path, part, text } = state.task;
  const fileName = state.file?.name || "picture.jpg";
  const url = addressOf(path) + query();
  const body = text && bodyOf(text, state.controls);
  byId("curl").textContent = curlText({ url, part, fileName, body, withKey: state.keyWanted });
}

/** `made`: the picture is no file of this device yet. */
async function choosePicture(file, made = false) {
  stop();
  state.file = file;
  if (state.task?.text) chooseTaskOfPictures();
  showStage();
  clearAnswer();
  showCurl();
  const image = byId("picture");
  const shown = await showPicture(file);
  if (state.file !== file) return;
  byId("frame").hidden = !shown;
  image.alt = shown ? `The picture ${file.name}` : "";
  const size = shown ? `${image.naturalWidth} × ${image.naturalHeight}` : "cannot be shown by this browser";
  byId("picture-name").textContent = file.name;
  byId("picture-facts").textContent = `${size} · ${Math.max(1, Math.round(file.size / 1024))} KiB`;
  Object.assign(byId("save"), { hidden: !made, href: image.src, download: file.name });
  if (state.task) changed();
}

/** A picture that comes while a task takes texts is for the first task that takes pictures. */
function chooseTaskOfPictures() {
  const tasks = state.tasks.filter((one) => !one.text);
  const task = tasks.find(able) ?? tasks[0];
  const pill = [...byId("tasks").querySelectorAll("input")].find((one) => one.value === task?.verb);
  if (!pill) return;
  pill.checked = true;
  chooseTask(task);
}

// Sending

/** Leaves the request that is under way; what it still brings is not shown. */
function stop(said = "") {
  state.running?.abort();
  state.running = null;
  waiting(false);
  say(said);
}

async function send() {
  const { path, text } = state.task;
  if (!text && !state.file) return say("Choose a picture to begin.");
  if (!byId("controls").reportValidity()) return;
  const target = path + query();
  const what = text ? bodyOf(text, state.controls) : state.file;
  if (state.running?.target === target && state.running.what === what) return; // Enter is a change and a submission
  stop();
  const running = (state.running = Object.assign(new AbortController(), { target, what }));
  waiting(true);
  const begun = performance.now();
  try {
    const response = await ask(target, { method: "POST", ...requestOf(what), key: state.key, signal: running.signal });
    const answer = await readAnswer(response);
    if (state.running !== running) return;
    const tookMs = performance.now() - begun;
    const { naturalWidth: width, naturalHeight: height } = byId("picture");
    clearAnswer();
    if (text) answer.shown = JSON.stringify(showPictures(answer.reply), null, 2);
    byId("json").textContent = answer.shown;
    say(showAnswer({ ...answer, tookMs }, { width, height }), true);
  } catch (error) {
    if (state.running !== running) return; // it was left, or a later request took its place
    clearAnswer();
    refused(error);
  }
  waiting(false);
  state.running = null;
}

/** A picture goes as a form's part, a text in JSON. */
function requestOf(what) {
  if (typeof what === "string") return { body: what, type: "application/json" };
  const body = new FormData();
  body.append(state.task.part, what, what.name);
  return { body };
}

/** The line of where things stand. `shown`: the panel shows it too, so that it is for screen readers alone. */
function say(text, shown = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("unseen", shown);
}

async function readAnswer(response) {
  const { headers } = response;
  const type = headers.get("content-type") ?? "";
  if (type.startsWith("image/")) {
    const picture = await response.blob();
    return { headers, picture, shown: `${type}, ${picture.size} bytes` };
  }
  const reply = await response.json();
  return { headers, reply, shown: JSON.stringify(reply, null, 2) };
}

function waiting(yes) {
  byId("progress").hidden = byId("cancel").hidden = !yes;
  byId("answer").setAttribute("aria-busy", String(yes));
  if (yes) say("Sending …", byId("result").hasChildNodes());
}

function refused(error) {
  say("");
  if (!(error instanceof Refusal)) {
    showProblem({ title: "The answer cannot be read", detail: error.message });
    return;
  }
  if (error.problem.code) byId("json").textContent = JSON.stringify(error.problem, null, 2);
  if (error.status === 401) {
    askForKey();
    if (!state.key) return say("Enter a key to begin."); // nothing went wrong yet
  }
  showProblem(error.problem, error.facts);
}

function askForKey() {
  state.keyWanted = true;
  byId("key-form").hidden = false;
  byId("key").focus();
  showCurl();
}

// What people do

byId("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.task.text) send();
  else changed();
});
byId("text").addEventListener("input", showCurl);
byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("controls").requestSubmit();
});
byId("cancel").addEventListener("click", () => {
  stop("Cancelled.");
  byId("send").focus();
});
byId("model").addEventListener("change", chooseModel);
byId("version").addEventListener("change", changed);
byId("parameters").addEventListener("change", changed);
byId("parameters").addEventListener("input", showCurl);
byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  state.key = byId("key").value.trim();
  await start();
});
byId("copy").addEventListener("click", async () => {
  const text = byId("curl");
  try {
    await navigator.clipboard.writeText(text.textContent);
  } catch {
    // Without https, and not on loopback, browsers keep the clipboard shut: it is selected, to be copied by hand.
    getSelection().selectAllChildren(text);
    return;
  }
  byId("copy").textContent = "Copied";
  setTimeout(() => (byId("copy").textContent = "Copy"), 1500);
});

takePictures(choosePicture);
start();

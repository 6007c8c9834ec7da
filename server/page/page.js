// What the page does: the speaking panel, the comparison, the voices. Sound is player.js's, the picture picture.js's, the
// server calls.js's.

import { Live, get, send, speak } from "/page/calls.js";
import { Picture } from "/page/picture.js";
import { Player, RATE, Recorder, concat, wav } from "/page/player.js";

const $ = (id) => document.getElementById(id);
const ms = (value) => (value === null ? "–" : `${Math.round(value)} ms`);
const seconds = (samples) => `${(samples / RATE).toFixed(2)} s`;
const key = () => $("key").value.trim();

function tell(where, words, bad = false) {
  where.textContent = words;
  where.classList.toggle("bad", bad);
}

function options(select, entries, chosen = select.value) {
  select.replaceChildren(...entries.map(([value, words]) => new Option(words, value)));
  if (entries.some(([value]) => value === chosen)) select.value = chosen;
}

/** Figures of one utterance while it comes. */
class Clock {
  constructor() { Object.assign(this, { began: performance.now(), first: null, last: null, longest: 0, samples: 0, chunks: 0 }); }
  came(samples) {
    const now = performance.now();
    if (this.first === null) this.first = now - this.began;
    else this.longest = Math.max(this.longest, now - this.last);
    this.last = now, this.samples += samples, this.chunks += 1;
  }
  rtf() { return this.samples ? ((this.last - this.began) / 1000 / (this.samples / RATE)).toFixed(3) : "–"; }
}

// The models and voices of this server.

let models = [];

const modelOptions = () => models.map(({ id, device }) => [id, `${id} · ${device}`]);

async function voicesOf(base, model) {
  const { voices, aliases = {} } = await get(base, `/v1/audio/voices?model=${encodeURIComponent(model)}`, key());
  const names = voices.map((voice) => voice.name ?? voice.id ?? voice);
  return names.length ? names : Object.keys(aliases);
}

async function connect() {
  try {
    ({ data: models } = await get("", "/v1/models", key()));
    tell($("server"), models.map(({ id, device }) => `${id} on ${device}`).join(", "));
    options($("model"), modelOptions());
    document.querySelectorAll(".side[data-side]").forEach((side) => side.fill?.());
    await choose();
  } catch (error) {
    tell($("server"), error.message, true);
  }
}

async function choose() {
  const model = models.find(({ id }) => id === $("model").value);
  if (!model) return;
  options($("language"), [["", "auto"], ...model.languages.map((name) => [name, name])]);
  $("instructions").disabled = !model.instructions;
  $("instructions").placeholder = model.instructions ? "how to speak, or who" : "this model takes none";
  options($("voice"), (await voicesOf("", model.id)).map((name) => [name, name]));
  $("clones").textContent = model.clones
    ? "Read the words aloud in a quiet room; three to ten seconds are enough."
    : `${model.id} speaks in its own voices alone; a Base model makes a voice of a recording.`;
  [...$("clone").elements].forEach((element) => (element.disabled = !model.clones || (element.id === "clone-save" && !recording)));
  await listUploaded();
}

/** The fields of a request, as the controls have them. */
function fields() {
  const all = { model: $("model").value, voice: $("voice").value };
  for (const name of ["language", "instructions"]) if ($(name).value.trim() && !$(name).disabled) all[name] = $(name).value.trim();
  for (const name of ["seed", "temperature", "top_k", "top_p", "repetition_penalty"]) if ($(name).value !== "") all[name] = Number($(name).value);
  if ($("draws").value) all.do_sample = all.subtalker_dosample = $("draws").value === "true";
  return all;
}

// Speaking.

const picture = new Picture($("picture"));
let session = null; // { live, key, fields }
let player = null;
let expected = []; // utterances that were begun and whose end has not come, in order
let writing = null; // the one of them that takes more text
let sounding = 0; // utterances that have not been heard to their end
let pushed = 0; // samples the player was given, and how many of them, and gaps, were before the picture
let before = { samples: 0, gaps: 0 };
let gaps = 0;

function finish(words, bad = false) {
  if (words) tell($("said"), words, bad);
  $("stop").disabled = true;
}

/** A session whose configuration is that of the controls. */
async function open() {
  const wanted = JSON.stringify(fields());
  if (session && session.key === key()) {
    if (session.fields !== wanted) session.live.configure(fields());
    session.fields = wanted;
    return session.live;
  }
  session?.live.close();
  session = null;
  const live = await Live.open(key(), { sound, word, done, error, closed });
  live.configure(fields());
  session = { live, key: key(), fields: wanted };
  return live;
}

/** Begins an utterance, behind those that are still spoken. */
async function begin() {
  if (!expected.length && !sounding) {
    picture.reset();
    before = { samples: pushed, gaps };
    ["first", "rtf", "gaps", "longest", "length", "chunks", "end"].forEach((id) => ($(id).textContent = "–"));
    $("save").hidden = true;
  }
  $("stop").disabled = false;
  tell($("said"), "Speaking…");
  player ??= await Player.open((now) => {
    gaps = now.gaps;
    sounding -= now.over;
    $("gaps").textContent = gaps - before.gaps;
    picture.heard(sounding ? Math.max(0, now.played - before.samples) : 0);
    if (now.over && !sounding && !expected.length) finish();
  });
  const live = await open();
  // From the first text, not from the first click: what a browser does once is not the server's.
  writing = { clock: new Clock(), pieces: [], offset: null };
  expected.push(writing);
  sounding += 1;
  return live;
}

function sound(samples) {
  const [utterance] = expected;
  if (!utterance) return;
  utterance.offset ??= picture.samples;
  utterance.clock.came(samples.length);
  utterance.pieces.push(samples);
  picture.add(samples);
  player.push(samples);
  pushed += samples.length;
  show(utterance.clock);
}

function word(words, sample) {
  if (expected.length) picture.word(words, (expected[0].offset ?? picture.samples) + sample);
}

function done({ end }) {
  const utterance = expected.shift();
  if (!utterance) return;
  player.end();
  $("end").textContent = end;
  const { pieces, clock } = utterance;
  if (writing === utterance) writing = null;
  if (pieces.length) {
    URL.revokeObjectURL($("save").href);
    $("save").href = URL.createObjectURL(wav(concat(pieces)));
    $("save").hidden = false;
  }
  if (!expected.length && end !== "failed") tell($("said"), pieces.length ? `Spoken: ${seconds(clock.samples)}.` : "There was nothing to say.");
  const words = picture.words.map((mark) => mark.word).join(" ");
  picture.canvas.setAttribute("aria-label", `Waveform and spectrogram of ${seconds(picture.samples)}: ${words}`);
}

function error({ message, utterance_index: index }) {
  if (index === null) stop(); // no utterance came of what was asked
  tell($("said"), message, true);
}

function closed(reason) {
  session = null;
  if (!expected.length) return;
  const begun = expected[0].pieces.length;
  expected.forEach(() => player.end());
  expected = [], writing = null;
  finish(begun ? `${reason}, in the middle of the speech.` : `${reason}.`, true);
}

function show(clock) {
  $("first").textContent = ms(clock.first);
  $("rtf").textContent = clock.rtf();
  $("longest").textContent = ms(clock.longest);
  $("length").textContent = seconds(clock.samples);
  $("chunks").textContent = clock.chunks;
}

function stop() {
  // A new session after each: what is on its way on the old socket is nobody's.
  session?.live.close();
  player?.stop();
  session = player = writing = null;
  expected = [], sounding = pushed = gaps = 0;
  before = { samples: 0, gaps: 0 };
  picture.heard(0);
  finish("Stopped.");
}

async function speakAll() {
  if (expected.length || sounding) stop();
  const text = $("text").value;
  if (!text.trim()) return tell($("said"), "There is no text to speak.", true);
  try {
    const live = await begin();
    writing = null;
    live.text(text);
    live.done();
  } catch (error) {
    finish(error.message, true);
  }
}

// Text that is spoken while it is typed.

let sent = ""; // the beginning of the field that was sent
let sending = Promise.resolve();

/** Sends the words that are whole; with `all`, the rest, and ends the utterance. */
function type(all) {
  sending = sending.then(async () => {
    const text = $("text").value;
    if (!text.startsWith(sent)) {
      tell($("said"), "What was spoken stays spoken; what you add is spoken next.");
      sent = text.slice(0, Math.min(text.length, sent.length));
    }
    const whole = all ? text.length : text.search(/\S*$/u);
    const piece = text.slice(sent.length, whole);
    try {
      if (piece.trim() || (piece && writing)) {
        const live = writing && session ? session.live : await begin();
        live.text(piece);
        sent = text.slice(0, whole);
      }
      if (all && writing) {
        writing = null;
        session?.live.done();
      }
    } catch (error) {
      finish(error.message, true);
    }
  });
}

$("text").addEventListener("input", () => $("live").checked && type(false));
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  if (event.ctrlKey || event.metaKey) event.preventDefault(), $("live").checked ? type(true) : speakAll();
  else if ($("live").checked && !event.shiftKey) event.preventDefault(), type(true);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && !$("stop").disabled && stop());
$("speak").addEventListener("click", () => ($("live").checked ? type(true) : speakAll()));
$("stop").addEventListener("click", stop);
$("live").addEventListener("change", () => {
  $("live-hint").hidden = !$("live").checked;
  $("speak").textContent = $("live").checked ? "End the utterance" : "Speak";
  // What stands in the field already was not typed live.
  sent = $("text").value;
  if ($("live").checked) $("text").focus();
});
$("model").addEventListener("change", () => choose().catch((error) => tell($("said"), error.message, true)));
$("key").addEventListener("change", connect);

// Side by side.

const sides = [...document.querySelectorAll(".side[data-side]")].map((box) => {
  const field = (words, element, wide) => {
    const label = document.createElement("label");
    label.append(words, element);
    if (wide) label.className = "wide";
    box.append(label);
    return element;
  };
  const make = (name, more = {}) => Object.assign(document.createElement(name), more);
  const server = field("Server", make("input", { type: "url", placeholder: "this one" }), true);
  const model = field("Model · device", make("select"));
  const otherModel = field("Model", make("input", { placeholder: "tts-1" }));
  const voice = field("Voice", make("select"));
  const otherVoice = field("Voice", make("input", { placeholder: "alloy" }));
  const seed = field("Seed", make("input", { type: "number", min: 0, placeholder: "new each time" }));
  const otherKey = field("API key", make("input", { type: "password", autocomplete: "off" }));
  const base = () => server.value.trim().replace(/\/+$/, "").replace(/\/v1$/, "");
  const show = () => {
    const other = base() !== "";
    for (const [element, shown] of [[model, !other], [voice, !other], [seed, !other], [otherModel, other], [otherVoice, other], [otherKey, other]]) element.parentElement.hidden = !shown;
  };
  const voices = async () => {
    const names = await voicesOf("", model.value);
    options(voice, names.map((name) => [name, name]));
    // Two that differ, to begin with.
    if (!voice.touched && box.dataset.side === "1" && names.length > 1) voice.value = names[1];
  };
  voice.addEventListener("change", () => (voice.touched = true));
  model.addEventListener("change", () => voices().catch((error) => tell($("compared"), error.message, true)));
  server.addEventListener("input", show);
  show();
  box.fill = () => {
    options(model, modelOptions());
    voices().catch((error) => tell($("compared"), error.message, true));
  };
  return {
    call: () => base()
      ? { base: base(), key: otherKey.value.trim(), body: { model: otherModel.value || "tts-1", voice: otherVoice.value || "alloy" } }
      : { base: "", key: key(), body: { model: model.value, voice: voice.value, ...(seed.value === "" ? {} : { seed: Number(seed.value) }) } },
    name: () => (base() ? `${otherVoice.value || "alloy"} at ${base()}` : `${voice.value} of ${model.selectedOptions[0]?.text ?? model.value}`),
  };
});
const heardBoxes = [...$("heard").querySelectorAll(".side")];
const pictures = heardBoxes.map((box) => new Picture(box.querySelector("canvas")));
let round = null; // [{ name, samples, clock }, …] as A and B
let playing = null;
const tally = {};

async function compare() {
  const text = $("text").value;
  if (!text.trim()) return tell($("compared"), "There is no text to speak.", true);
  playing?.stop();
  $("compare").disabled = true;
  $("heard").hidden = $("timing").hidden = $("prefer").hidden = true;
  const blind = $("blind").checked;
  const order = blind && Math.random() < 0.5 ? [1, 0] : [0, 1];
  const made = [];
  try {
    // One after the other, so that neither takes the machine from the other.
    for (const at of order) {
      tell($("compared"), blind ? `Speaking ${made.length ? "B" : "A"}…` : `Speaking: ${sides[at].name()}…`);
      const clock = new Clock(), pieces = [];
      await speak({ ...sides[at].call(), body: { ...sides[at].call().body, input: text }, onsound: (s) => (clock.came(s.length), pieces.push(s)) });
      made.push({ side: at, name: sides[at].name(), clock, pieces });
    }
  } catch (error) {
    tell($("compared"), `${blind ? "One of the two" : sides[order[made.length]].name()}: ${error.message}.`, true);
    $("compare").disabled = false;
    return;
  }
  round = made;
  $("heard").hidden = false;
  made.forEach(({ pieces }, i) => {
    pictures[i].reset();
    pieces.forEach((piece) => pictures[i].add(piece));
  });
  tell($("compared"), blind ? "Both are made. Play each as often as you like." : "Both are made.");
  $("prefer").hidden = !blind;
  name(!blind);
  $("compare").disabled = false;
}

/** Shows who is who, or hides it. */
function name(shown) {
  heardBoxes.forEach((box, i) => (box.querySelector("button").textContent = `Play ${"AB"[i]}${shown ? `: ${round[i].name}` : ""}`));
  $("timing").hidden = !shown; // a time would give it away
  $("timing").tBodies[0].replaceChildren(...round.map(({ name, clock }) => {
    const row = document.createElement("tr");
    [name, ms(clock.first), clock.rtf(), ms(clock.longest), seconds(clock.samples)].forEach((words) => (row.insertCell().textContent = words));
    return row;
  }));
}

heardBoxes.forEach((box, i) => box.querySelector("button").addEventListener("click", async () => {
  playing?.stop();
  const own = await Player.open(({ played, over }) => {
    pictures[i].heard(over ? 0 : played);
    if (over) own.stop();
  });
  playing = own;
  round[i].pieces.forEach((piece) => own.push(piece));
  own.end();
}));
document.querySelectorAll("[data-prefer]").forEach((button) => button.addEventListener("click", () => {
  const winner = button.dataset.prefer === "" ? null : round[Number(button.dataset.prefer)].name;
  tally[winner ?? "no difference"] = (tally[winner ?? "no difference"] ?? 0) + 1;
  tell($("compared"), `A was ${round[0].name}; B was ${round[1].name}.${winner ? ` You preferred ${winner}.` : ""}`);
  tell($("tally"), `So far: ${Object.entries(tally).map(([who, count]) => `${who} ${count}`).join(", ")}.`);
  $("prefer").hidden = true;
  name(true);
}));
$("compare").addEventListener("click", compare);

// Voices of recordings.

let recorder = null, recording = null;

async function listUploaded() {
  const { uploaded_voices = [] } = await get("", `/v1/audio/voices?model=${encodeURIComponent($("model").value)}`, key());
  $("uploaded").replaceChildren(...uploaded_voices.map(({ name, ref_text, consent }) => {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { textContent: "Delete" });
    button.setAttribute("aria-label", `Delete ${name}`);
    button.addEventListener("click", () => send("DELETE", `/v1/audio/voices/${encodeURIComponent(name)}`, key()).then(choose).catch((e) => tell($("recorded"), e.message, true)));
    item.append(`${name}${ref_text ? `: “${ref_text}”` : ""}${consent ? `, ${consent}` : ""}`, button);
    return item;
  }));
}

$("record").addEventListener("click", async () => {
  try {
    if (!recorder) {
      recorder = await Recorder.open((s, level) => tell($("recorded"), `recording ${s.toFixed(1)} s ${"▮".repeat(Math.round(level * 12))}`));
      $("record").textContent = "Stop recording";
      return;
    }
    const done = recorder;
    recorder = null;
    $("record").textContent = "Record again";
    const { samples, rate } = await done.stop();
    recording = wav(samples, rate);
    tell($("recorded"), `${(samples.length / rate).toFixed(1)} s recorded`);
    $("clone-save").disabled = false;
  } catch (error) {
    tell($("recorded"), `The microphone cannot be used: ${error.message}`, true);
  }
});
$("clone").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData();
  form.set("name", $("clone-name").value);
  form.set("model", $("model").value);
  form.set("ref_text", $("clone-text").value);
  form.set("consent", $("clone-consent").value);
  form.set("audio_sample", recording, "recording.wav");
  tell($("recorded"), "listening to it…");
  try {
    const { voice } = await send("POST", "/v1/audio/voices", key(), form);
    await choose();
    $("voice").value = voice.name;
    tell($("recorded"), `${voice.name} can speak now`);
  } catch (error) {
    tell($("recorded"), error.message, true);
  }
});

connect();

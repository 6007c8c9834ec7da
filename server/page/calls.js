// Calls to this server and to others of OpenAI's shape. Every failure comes as an Error in words that can be shown.

import { samplesOf } from "/page/player.js";

const headers = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

async function failure(answer) {
  const said = await answer.json().catch(() => null);
  return new Error(said?.error?.message ?? `the server answered ${answer.status} ${answer.statusText}`);
}

export async function get(base, path, key) {
  const answer = await fetch(base + path, { headers: headers(key) }).catch(() => { throw new Error(`${base || "the server"} cannot be reached`); });
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

export async function send(method, path, key, body) {
  const answer = await fetch(path, { method, headers: headers(key), body }).catch(() => { throw new Error("the server cannot be reached"); });
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

/** Speech over HTTP, as any server of OpenAI's shape has it. `onsound(samples)` for each piece; resolves at the end. */
export async function speak({ base, key, body, signal, onsound }) {
  const answer = await fetch(`${base}/v1/audio/speech`, {
    method: "POST",
    headers: { ...headers(key), "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, response_format: "pcm" }),
    signal,
  }).catch((e) => { throw e.name === "AbortError" ? e : new Error(`${base || "the server"} cannot be reached`); });
  if (!answer.ok) throw await failure(answer);
  const reader = answer.body.getReader();
  for (let odd = null; ;) {
    const { done, value } = await reader.read().catch((e) => { throw e.name === "AbortError" ? e : new Error("the server went away in the middle of the speech"); });
    if (done) return;
    const piece = samplesOf(value, odd);
    odd = piece.odd;
    if (piece.samples.length) onsound(piece.samples);
  }
}

/** Live text over a WebSocket: one session, one utterance after another. */
export class Live {
  static open(key, handlers) {
    const protocols = ["qwentts", ...(key ? [`openai-insecure-api-key.${key}`] : [])];
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/audio/speech/stream`, protocols);
    socket.binaryType = "arraybuffer";
    return new Promise((opened, refused) => {
      const live = new Live(socket);
      socket.onopen = () => opened(live);
      socket.onerror = () => {};
      // A browser does not say why: a key that is wrong, a page at an address that the server does not take for its own, or no
      // server.
      socket.onclose = ({ reason }) => {
        refused(new Error("the server refused the connection or cannot be reached; is a key needed, or this page's address in its cors_origins?"));
        handlers.closed(reason || "the server went away");
      };
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") return handlers.sound(samplesOf(new Uint8Array(data)).samples);
        const message = JSON.parse(data);
        if (message.type === "audio.word") handlers.word(message.word, message.sample);
        if (message.type === "session.done") handlers.done(message);
        if (message.type === "error") handlers.error(message);
      };
    });
  }

  constructor(socket) { this.socket = socket; }
  configure(fields) { this.say({ type: "session.config", ...fields }); }
  text(text) { this.say({ type: "input.text", text }); }
  done() { this.say({ type: "input.done" }); }
  cancel() { this.say({ type: "input.cancel" }); }
  close() { this.socket.onclose = null, this.socket.close(); }
  say(message) { this.socket.send(JSON.stringify(message)); }
}

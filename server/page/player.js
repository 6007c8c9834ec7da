// Sound out and in: one audio context at the engine's rate, so that the graph carries its very samples.

export const RATE = 24000;
let shared;

/** The context, made at the first gesture, as browsers want it. */
export async function audio() {
  if (!shared) {
    shared = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    await shared.audioWorklet.addModule("/page/worklet.js");
  }
  if (shared.state === "suspended") await shared.resume();
  return shared;
}

/** Plays what it is given, without a gap. `onprogress({played, gaps, over})`: samples and gaps so far, utterances that ended. */
export class Player {
  static async open(onprogress) {
    const context = await audio();
    return new Player(context, onprogress);
  }

  constructor(context, onprogress) {
    this.node = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => onprogress(data);
    this.node.connect(context.destination);
  }

  push(samples) { this.node.port.postMessage(samples); }
  end() { this.node.port.postMessage(null); }
  stop() {
    this.node.port.onmessage = null;
    this.node.port.postMessage("stop");
    this.node.disconnect();
  }
}

/** Records the microphone until `stop`, which gives the samples and their rate. */
export class Recorder {
  static async open(onlevel) {
    const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
    const context = new AudioContext();
    await context.audioWorklet.addModule("/page/worklet.js");
    const recorder = new Recorder();
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    Object.assign(recorder, { media, context, node, pieces: [] });
    node.port.onmessage = ({ data }) => {
      recorder.pieces.push(data);
      onlevel(recorder.pieces.length * 128 / context.sampleRate, data.reduce((most, s) => Math.max(most, Math.abs(s)), 0));
    };
    context.createMediaStreamSource(media).connect(node);
    return recorder;
  }

  async stop() {
    this.node.port.onmessage = null; // what is on its way comes too late
    this.media.getTracks().forEach((track) => track.stop());
    const rate = this.context.sampleRate;
    await this.context.close();
    return { samples: concat(this.pieces), rate };
  }
}

export function concat(pieces) {
  const all = new Float32Array(pieces.reduce((n, piece) => n + piece.length, 0));
  pieces.reduce((at, piece) => (all.set(piece, at), at + piece.length), 0);
  return all;
}

/** Samples of 16 bits, little-endian, as numbers from -1 to 1; `odd`: a byte that is left from the piece before. */
export function samplesOf(bytes, odd = null) {
  const all = odd === null ? bytes : new Uint8Array([odd, ...bytes]);
  const view = new DataView(all.buffer, all.byteOffset, all.byteLength);
  const samples = new Float32Array(all.byteLength >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
  return { samples, odd: all.byteLength % 2 ? all[all.byteLength - 1] : null };
}

/** A WAV file of them. */
export function wav(samples, rate = RATE) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, "RIFF"), view.setUint32(4, 36 + 2 * samples.length, true), word(8, "WAVEfmt ");
  view.setUint32(16, 16, true), view.setUint16(20, 1, true), view.setUint16(22, 1, true);
  view.setUint32(24, rate, true), view.setUint32(28, 2 * rate, true), view.setUint16(32, 2, true), view.setUint16(34, 16, true);
  word(36, "data"), view.setUint32(40, 2 * samples.length, true);
  samples.forEach((s, i) => view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(s * 32768))), true));
  return new Blob([view], { type: "audio/wav" });
}

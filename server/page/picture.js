// Waveform and spectrogram that grow as speech comes, with chunk borders, words, and where it is being heard.

import { RATE } from "/page/player.js";

const HOP = 240; // 10 ms: a column of the picture
const SIZE = 512;
const BINS = 128; // of 46.9 Hz each, to 6 kHz: where speech is
const SHORTEST_S = 4;

const window_ = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const turned = Uint16Array.from({ length: SIZE }, (_, i) => {
  let r = 0;
  for (let bit = 1; bit < SIZE; bit <<= 1) r = (r << 1) | (i & bit ? 1 : 0);
  return r;
});

/** Decibels of the first BINS frequencies of SIZE samples. */
function spectrum(samples) {
  const re = new Float32Array(SIZE), im = new Float32Array(SIZE);
  for (let i = 0; i < SIZE; i++) re[turned[i]] = (samples[i] ?? 0) * window_[i];
  for (let half = 1; half < SIZE; half <<= 1) {
    for (let k = 0; k < half; k++) {
      const c = Math.cos((Math.PI * k) / half), s = -Math.sin((Math.PI * k) / half);
      for (let i = k; i < SIZE; i += 2 * half) {
        const j = i + half, x = re[j] * c - im[j] * s, y = re[j] * s + im[j] * c;
        re[j] = re[i] - x, im[j] = im[i] - y, re[i] += x, im[i] += y;
      }
    }
  }
  return Float32Array.from({ length: BINS }, (_, i) => 10 * Math.log10(re[i] ** 2 + im[i] ** 2 + 1e-9));
}

/** From black over violet and orange to white. */
function colour(db) {
  const x = Math.max(0, Math.min(1, (db + 45) / 75));
  return [255 * Math.min(1, x * 2.2), 255 * Math.max(0, x * 1.7 - 0.6), 255 * Math.max(Math.sin(x * Math.PI) * 0.55, x * 3 - 2)];
}

export class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.store = document.createElement("canvas");
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    this.reset();
  }

  reset() {
    Object.assign(this, { samples: 0, tail: new Float32Array(0), peaks: [], columns: 0, borders: [], words: [], head: 0 });
    this.store.width = 1024, this.store.height = BINS;
    this.redraw();
  }

  /** A chunk of sound; its beginning is a border. */
  add(samples) {
    this.borders.push(this.samples);
    this.samples += samples.length;
    const all = new Float32Array(this.tail.length + samples.length);
    all.set(this.tail), all.set(samples, this.tail.length);
    let at = 0;
    for (; at + SIZE <= all.length; at += HOP) this.column(all.subarray(at, at + SIZE));
    this.tail = all.slice(at);
    this.redraw();
  }

  column(samples) {
    let most = 0;
    for (let i = 0; i < HOP; i++) most = Math.max(most, Math.abs(samples[i]));
    this.peaks.push(most);
    if (this.columns === this.store.width) {
      const wider = document.createElement("canvas");
      wider.width = 2 * this.store.width, wider.height = BINS;
      wider.getContext("2d").drawImage(this.store, 0, 0);
      this.store = wider;
    }
    const image = new ImageData(1, BINS);
    spectrum(samples).forEach((db, i) => image.data.set([...colour(db), 255], 4 * (BINS - 1 - i)));
    this.store.getContext("2d").putImageData(image, this.columns++, 0);
  }

  word(word, sample) { this.words.push({ word, sample }), this.redraw(); }
  heard(sample) { this.head = sample, this.redraw(); }

  redraw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => (this.asked = false, this.draw()));
  }

  draw() {
    const { canvas } = this, scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale), canvas.height = Math.round(height * scale);
    }
    const paint = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const tone = (name) => style.getPropertyValue(name);
    paint.setTransform(scale, 0, 0, scale, 0, 0);
    paint.fillStyle = tone("--ground"), paint.fillRect(0, 0, width, height);
    const seconds = Math.max(SHORTEST_S, this.samples / RATE), x = (sample) => (sample / RATE / seconds) * width;
    const lines = width > 500 ? 1 : 2, top = 18 * lines, middle = top + (height - top) * 0.42;
    paint.strokeStyle = tone("--wave"), paint.lineWidth = 1, paint.beginPath();
    const centre = (top + middle) / 2, reach = (middle - top) / 2 - 2;
    this.peaks.forEach((peak, i) => {
      const at = x(i * HOP), tall = Math.max(0.5, peak * reach);
      paint.moveTo(at, centre - tall), paint.lineTo(at, centre + tall);
    });
    paint.stroke();
    paint.imageSmoothingEnabled = true;
    paint.fillStyle = "black", paint.fillRect(0, middle, width, height - middle);
    if (this.columns) paint.drawImage(this.store, 0, 0, this.columns, BINS, 0, middle, x(this.columns * HOP), height - middle);
    paint.strokeStyle = tone("--border"), paint.setLineDash([3, 3]), paint.beginPath();
    this.borders.forEach((sample) => (paint.moveTo(x(sample) + 0.5, top), paint.lineTo(x(sample) + 0.5, height)));
    paint.stroke(), paint.setLineDash([]);
    paint.font = "12px system-ui, sans-serif", paint.fillStyle = tone("--ink");
    const ends = Array(lines).fill(-Infinity); // words that would lie on others are left out
    this.words.forEach(({ word, sample }) => {
      const at = x(sample) + 3, line = ends.findIndex((end) => at > end);
      if (line < 0) return;
      paint.fillText(word, at, 13 + 18 * line);
      paint.fillRect(x(sample), 18 * line + 2, 1, 14);
      ends[line] = at + paint.measureText(word).width + 4;
    });
    if (this.head) paint.fillStyle = tone("--accent"), paint.fillRect(x(this.head), 0, 2, height);
  }
}

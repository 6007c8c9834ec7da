// The two ends of the audio graph. "player" plays what its port is sent, sample for sample, and says how far it is; "recorder" sends
// what it hears to its port.

class PlayerEnd extends AudioWorkletProcessor {
  constructor() {
    super();
    this.waiting = []; // arrays of samples, the first begun at `at`; null: the end of an utterance
    this.at = 0;
    this.played = 0;
    this.gaps = 0;
    this.within = false; // an utterance has begun to be heard and not ended
    this.dry = false;
    this.told = 0;
    this.port.onmessage = ({ data }) => (data === "stop" ? (this.stopped = true) : this.waiting.push(data));
  }

  process(_, [[out]]) {
    let filled = 0, over = 0;
    while (filled < out.length && this.waiting.length) {
      const first = this.waiting[0];
      if (first === null) {
        this.waiting.shift(), (over += 1), (this.within = this.dry = false);
        continue;
      }
      // Silence between two samples of one utterance is a gap, however long.
      if (this.dry) this.gaps += 1;
      this.within = true, this.dry = false;
      const piece = first.subarray(this.at, this.at + out.length - filled);
      out.set(piece, filled);
      filled += piece.length;
      this.at += piece.length;
      if (this.at === first.length) this.waiting.shift(), (this.at = 0);
    }
    this.dry = this.within && filled < out.length && this.waiting[0] !== null;
    this.played += filled;
    this.told += out.length;
    if (over || this.told >= sampleRate / 30) {
      this.port.postMessage({ played: this.played, gaps: this.gaps, over });
      this.told = 0;
    }
    return !this.stopped;
  }
}

class RecorderEnd extends AudioWorkletProcessor {
  process([[heard]]) {
    if (heard) this.port.postMessage(heard.slice());
    return true;
  }
}

registerProcessor("player", PlayerEnd);
registerProcessor("recorder", RecorderEnd);

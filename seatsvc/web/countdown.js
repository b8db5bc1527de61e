// How long a hold still runs.

import { h } from "./dom.js";
import { formats, t } from "./texts.js";

const TICK_MS = 250;
const WARNING_S = 60;
const WARNING_PART = 1 / 3; // of a short hold

export class Countdown {
  /** `say(text)` is called with the warning, `ended` at the end. */
  constructor(say, ended) {
    this.say = say;
    this.ended = ended;
    this.clock = h("span", { class: "clock", role: "timer" });
    this.bar = h("progress", { max: 1, "aria-hidden": "true" });
    this.warning = h("p", { class: "small", hidden: true }, t("book.ends_soon"));
    this.element = h("div", { class: "countdown" }, this.clock, this.bar, this.warning);
  }

  /** Count down this hold, of which the server has said how many seconds it has. */
  start(hold) {
    this.stop();
    // A hold that is shown again later still ends when it ends.
    hold.ends ??= Date.now() + hold.expires_in * 1000;
    this.hold = hold;
    this.warnFrom = Math.min(WARNING_S, hold.expires_in * WARNING_PART);
    this.warned = false;
    this.#tick();
    this.timer = setInterval(() => this.#tick(), TICK_MS);
  }

  stop() {
    clearInterval(this.timer);
  }

  #tick() {
    const left = (this.hold.ends - Date.now()) / 1000;
    const shown = formats.duration(left);
    if (this.clock.textContent !== shown) this.clock.textContent = shown;
    this.bar.value = left / this.hold.expires_in;
    const soon = left <= this.warnFrom;
    this.element.classList.toggle("soon", soon);
    this.warning.hidden = !soon;
    if (left <= 0) {
      this.stop();
      this.ended();
    } else if (soon && !this.warned) {
      this.warned = true;
      this.say(t("book.warning", { time: shown }));
    }
  }
}

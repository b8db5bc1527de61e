// Zoom and pan of one SVG group, by mouse, touch and buttons.
//
// To paint thousands of seats anew takes longer than a frame. So while a large hall moves, its
// picture is moved and stretched as it is, and painted when it rests.

const MARGIN = 12; // pixels
const MOVED = 6; // pixels, before a press becomes a pan
const LARGEST = 56; // pixels for a unit
const FACTOR = 1.5;
const REST_MS = 120;
const FAR = 12; // pixels for a unit: below, outlines only cost time

export class Zoom {
  /** `settled` is called when the view has come to rest. */
  constructor(frame, canvas, group, bounds, large, settled) {
    this.box = frame;
    this.canvas = canvas;
    this.group = group;
    this.large = large;
    this.bounds = bounds;
    this.settled = settled;
    this.scale = 1;
    this.pointers = new Map();
    this.panned = false;
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      frame.addEventListener(name, (event) => this.#up(event));
    }
    frame.addEventListener("click", (event) => this.#click(event), { capture: true });
    frame.addEventListener("dblclick", (event) => this.by(FACTOR, this.#point(event)));
    new ResizeObserver(() => this.#resized()).observe(frame);
  }

  /** Show all of this box; without one, the whole hall. */
  fit(box = this.bounds) {
    const [width, height] = [this.width - 2 * MARGIN, this.height - 2 * MARGIN];
    const scale = Math.min(width / box.width, height / box.height, LARGEST);
    this.#set(
      scale,
      this.width / 2 - scale * (box.x + box.width / 2),
      this.height / 2 - scale * (box.y + box.height / 2),
    );
  }

  /** Larger or smaller around a point of the screen; without one, around the middle. */
  by(factor, [x, y] = [this.width / 2, this.height / 2]) {
    const least = this.#least();
    const scale = Math.min(LARGEST, Math.max(least, this.scale * factor));
    if (scale === least) return this.fit();
    const real = scale / this.scale;
    return this.#set(scale, x - real * (x - this.x), y - real * (y - this.y));
  }

  in() {
    this.by(FACTOR);
  }

  out() {
    this.by(1 / FACTOR);
  }

  /** Move so that this point of the hall is well inside the view. */
  show(x, y) {
    const edge = Math.min(48, this.width / 4, this.height / 4);
    const [px, py] = [this.x + this.scale * x, this.y + this.scale * y];
    const dx = Math.max(0, edge - px) - Math.max(0, px - this.width + edge);
    const dy = Math.max(0, edge - py) - Math.max(0, py - this.height + edge);
    if (dx || dy) this.#set(this.scale, this.x + dx, this.y + dy);
  }

  /** The part of the hall that is in view. */
  get view() {
    const [x, y] = [-this.x / this.scale, -this.y / this.scale];
    return { x, y, width: this.width / this.scale, height: this.height / this.scale };
  }

  #least() {
    const { width, height } = this.bounds;
    return Math.min((this.width - 2 * MARGIN) / width, (this.height - 2 * MARGIN) / height, LARGEST);
  }

  #set(scale, x, y) {
    const { width, height } = this.bounds;
    const half = [this.width / 2, this.height / 2];
    this.scale = scale;
    // Some of the hall always stays in the middle.
    this.x = Math.min(half[0], Math.max(half[0] - scale * width, x));
    this.y = Math.min(half[1], Math.max(half[1] - scale * height, y));
    this.box.classList.toggle("zoomed", scale > this.#least() * 1.01);
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.frame = null;
    if (this.large && this.painted) this.#stretch();
    else this.#paint();
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.#settle(), REST_MS);
  }

  #settle() {
    if (this.large) this.#paint();
    this.settled();
  }

  #paint() {
    this.group.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${this.scale})`);
    this.canvas.style.transform = "";
    this.canvas.classList.toggle("far", this.large && this.scale < FAR);
    this.painted = { scale: this.scale, x: this.x, y: this.y };
  }

  #stretch() {
    const { scale, x, y } = this.painted;
    const factor = this.scale / scale;
    const [dx, dy] = [this.x - factor * x, this.y - factor * y];
    this.canvas.style.transform = `translate(${dx}px, ${dy}px) scale(${factor})`;
  }

  #resized() {
    const { clientWidth, clientHeight } = this.box;
    if (!clientWidth || !clientHeight) return;
    const fitted = !this.width || !this.box.classList.contains("zoomed");
    [this.width, this.height] = [clientWidth, clientHeight];
    if (fitted) this.fit();
    else this.by(1);
  }

  #point(event) {
    const { left, top } = this.box.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #wheel(event) {
    const zoomed = this.box.classList.contains("zoomed");
    // Whoever scrolls down over a map that shows everything wants to go on down the page.
    if (event.deltaY > 0 && !zoomed && !event.ctrlKey) return;
    event.preventDefault();
    this.by(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), this.#point(event));
  }

  #down(event) {
    if (event.button) return;
    if (this.pointers.size === 0) this.panned = false;
    this.pointers.set(event.pointerId, this.#point(event));
    this.start = this.#point(event);
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#point(event);
    if (!this.panned && Math.hypot(now[0] - this.start[0], now[1] - this.start[1]) < MOVED) return;
    if (!this.panned) this.box.setPointerCapture(event.pointerId);
    this.panned = true;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (other) this.#pinch(before, now, other);
    else this.#set(this.scale, this.x + now[0] - before[0], this.y + now[1] - before[1]);
  }

  #pinch(before, now, other) {
    const far = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
    this.by(far(now) / far(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
  }

  // What ended a pan is no click.
  #click(event) {
    if (!this.panned) return;
    event.stopPropagation();
    this.panned = false;
  }
}

// Pictures that fill their frames and can be enlarged and moved together: by wheel, drag, pinch, double click and keys.
const MOST = 40; // times the size that fits
const WHEEL = 0.0015;

export class Zoom {
  constructor(onChange) {
    this.onChange = onChange;
    this.frames = [];
    this.pointers = new Map();
    new ResizeObserver(() => this.draw()).observe(document.getElementById("pictures"));
    this.reset();
  }

  // All frames show the same part: `factor` times the size that fits, around (x, y) of each picture, in [0, 1].
  reset() {
    this.factor = 1;
    this.x = this.y = 0.5;
    this.actual = false;
    this.draw();
  }

  show(frames) {
    this.frames = frames;
    this.pointers.clear();
    for (const frame of frames) this.listen(frame);
    this.reset();
  }

  toggle() {
    const actual = !this.actual;
    this.reset();
    this.actual = actual;
    this.draw();
  }

  by(times, frame = this.frames[0], at = null) {
    const image = frame?.querySelector("img");
    if (!image?.naturalWidth) return;
    const before = this.scale(frame, image);
    const factor = this.actual ? before / this.fitting(frame, image) : this.factor;
    const box = frame.getBoundingClientRect();
    const [dx, dy] = at ? [at.x - box.left - box.width / 2, at.y - box.top - box.height / 2] : [0, 0];
    const size = [image.naturalWidth, image.naturalHeight];
    const point = [this.x + dx / (size[0] * before), this.y + dy / (size[1] * before)];
    this.actual = false;
    this.factor = Math.min(MOST, Math.max(1, factor * times));
    const after = this.scale(frame, image);
    this.x = point[0] - dx / (size[0] * after);
    this.y = point[1] - dy / (size[1] * after);
    this.draw();
  }

  move(dx, dy, frame = this.frames[0]) {
    const image = frame?.querySelector("img");
    if (!image?.naturalWidth) return;
    const scale = this.scale(frame, image);
    this.x -= dx / (image.naturalWidth * scale);
    this.y -= dy / (image.naturalHeight * scale);
    this.draw();
  }

  fitting(frame, image) {
    return Math.min(frame.clientWidth / image.naturalWidth, frame.clientHeight / image.naturalHeight);
  }

  scale(frame, image) {
    return this.actual ? 1 : this.fitting(frame, image) * this.factor;
  }

  draw() {
    for (const frame of this.frames) {
      const image = frame.querySelector("img");
      if (!image?.naturalWidth || !frame.clientWidth) continue;
      const scale = this.scale(frame, image);
      const place = (size, room, at) => {
        const free = room - size * scale;
        if (free >= 0) return [free / 2, 0.5];
        const start = Math.min(0, Math.max(free, room / 2 - at * size * scale));
        return [start, (room / 2 - start) / (size * scale)];
      };
      const [left, x] = place(image.naturalWidth, frame.clientWidth, this.x);
      const [top, y] = place(image.naturalHeight, frame.clientHeight, this.y);
      if (frame === this.frames[0]) [this.x, this.y] = [x, y];
      image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
      image.style.imageRendering = scale >= 4 ? "pixelated" : "auto";
      frame.classList.toggle("moved", this.actual || this.factor > 1);
    }
    this.onChange(this);
  }

  listen(frame) {
    frame.addEventListener("wheel", event => {
      event.preventDefault();
      this.by(Math.exp(-event.deltaY * WHEEL * (event.deltaMode ? 30 : 1)), frame, { x: event.clientX, y: event.clientY });
    }, { passive: false });
    frame.addEventListener("dblclick", () => this.toggle());
    frame.addEventListener("pointerdown", event => {
      if (event.button) return;
      frame.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      frame.classList.add("held");
    });
    frame.addEventListener("pointermove", event => {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = { x: event.clientX, y: event.clientY };
      if (this.pointers.size === 2) {
        const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
        const length = point => Math.hypot(point.x - other.x, point.y - other.y) || 1;
        this.by(length(now) / length(before), frame, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      } else {
        this.move(now.x - before.x, now.y - before.y, frame);
      }
      this.pointers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      frame.addEventListener(end, event => {
        this.pointers.delete(event.pointerId);
        frame.classList.remove("held");
      });
    }
  }
}

// Paints a hole on a photo. props.value is what Python last set: {view, paint, serial}, the first two as data URLs.
// element.painter.state() is what Python is sent: {mask: a PNG whose opaque places were painted, inverted}.
const find = (name) => element.querySelector(`.${name}`);
const image = find("view"), shown = find("paint"), ring = find("ring"), stage = find("stage"), size = find("size");
const mask = document.createElement("canvas"); // opaque where painted; the screen shows it coloured, maybe inverted
const context = mask.getContext("2d", { willReadFrequently: true });
const HISTORY = 24;
let inverted = false, erasing = false, last = null, serial = null, past = [], future = [];

const copy = () => {
  const kept = document.createElement("canvas");
  kept.width = mask.width;
  kept.height = mask.height;
  kept.getContext("2d").drawImage(mask, 0, 0);
  return { kept, inverted };
};
const restore = (one) => {
  context.clearRect(0, 0, mask.width, mask.height);
  context.drawImage(one.kept, 0, 0);
  inverted = one.inverted;
  draw();
};
const remember = () => {
  past.push(copy());
  past.splice(0, Math.max(0, past.length - HISTORY));
  future = [];
};
const step = (from, to) => {
  if (from.length) {
    to.push(copy());
    restore(from.pop());
  }
};
const draw = () => {
  const screen = shown.getContext("2d");
  screen.globalCompositeOperation = "source-over";
  screen.clearRect(0, 0, shown.width, shown.height);
  if (!inverted) screen.drawImage(mask, 0, 0);
  screen.globalCompositeOperation = inverted ? "source-over" : "source-in";
  screen.fillStyle = props.color;
  screen.fillRect(0, 0, shown.width, shown.height);
  if (inverted) {
    screen.globalCompositeOperation = "destination-out";
    screen.drawImage(mask, 0, 0);
  }
  find("undo").disabled = !past.length;
  find("redo").disabled = !future.length;
  find("invert").setAttribute("aria-pressed", inverted);
  find("brush").setAttribute("aria-pressed", !erasing);
  find("eraser").setAttribute("aria-pressed", erasing);
};

// The brush's size is in pixels of the screen, whatever the size of the photo.
const scale = () => mask.width / shown.getBoundingClientRect().width;
const place = (event) => {
  const box = shown.getBoundingClientRect();
  return [(event.clientX - box.left) * scale(), (event.clientY - box.top) * scale()];
};
const stroke = (from, to) => {
  context.globalCompositeOperation = erasing !== inverted ? "destination-out" : "source-over";
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = size.value * scale();
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
  context.globalCompositeOperation = "source-over";
  draw();
};
const follow = (event) => {
  const box = shown.getBoundingClientRect();
  ring.style.width = ring.style.height = `${size.value}px`;
  ring.style.left = `${event.clientX - box.left + shown.offsetLeft}px`;
  ring.style.top = `${event.clientY - box.top + shown.offsetTop}px`;
};
shown.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  shown.focus({ preventScroll: true });
  shown.setPointerCapture(event.pointerId);
  remember();
  last = place(event);
  stroke(last, last);
});
shown.addEventListener("pointermove", (event) => {
  follow(event);
  if (last === null) return;
  for (const part of event.getCoalescedEvents?.() ?? [event]) {
    const here = place(part);
    stroke(last, here);
    last = here;
  }
});
for (const kind of ["pointerup", "pointercancel"]) shown.addEventListener(kind, () => { last = null; });
shown.addEventListener("keydown", (event) => {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key.toLowerCase() === "z") find(event.shiftKey ? "redo" : "undo").click();
  else if (event.key === "[") size.value = Number(size.value) - 4;
  else if (event.key === "]") size.value = Number(size.value) + 4;
  else return;
  event.preventDefault();
});
const on = (name, action) => find(name).addEventListener("click", () => { action(); draw(); });
on("brush", () => { erasing = false; });
on("eraser", () => { erasing = true; });
on("undo", () => step(past, future));
on("redo", () => step(future, past));
on("invert", () => { remember(); inverted = !inverted; });
on("clear", () => {
  remember();
  context.clearRect(0, 0, mask.width, mask.height);
  inverted = false;
});

const loaded = (url) => new Promise((resolve) => {
  const picture = new Image();
  picture.onload = picture.onerror = () => resolve(picture);
  picture.src = url;
});
const show = async () => {
  const value = props.value;
  if (!value || value.serial === serial) return;
  serial = value.serial;
  if (value.view !== image.getAttribute("src")) {
    const view = await loaded(value.view);
    image.src = value.view;
    for (const canvas of [mask, shown]) {
      canvas.width = view.naturalWidth;
      canvas.height = view.naturalHeight;
    }
    stage.style.aspectRatio = `${mask.width} / ${mask.height}`;
    stage.style.setProperty("--ratio", mask.width / mask.height);
    [past, future, inverted, erasing] = [[], [], false, false];
    if (!element.dataset.sized) size.value = element.dataset.sized = 32;
  }
  if (value.paint) {
    const paint = await loaded(value.paint);
    remember();
    context.clearRect(0, 0, mask.width, mask.height);
    context.drawImage(paint, 0, 0);
    inverted = false;
  }
  element.dataset.serial = serial;
  draw();
};
watch("value", show);
element.painter = { state: () => ({ mask: mask.width ? mask.toDataURL("image/png") : "", inverted, serial }) };
show();

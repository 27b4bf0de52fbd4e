// The page: what a reader does changes `state`; `show` draws it anew.

import * as brush from "./brush.js";
import { canvasOf, colorOf, drawPicture, figure } from "./draw.js";
import { account, whereMost } from "./evidence.js";
import { forward, softmax } from "./network.js";
import { SIDE, decode, inside, middleSquare, shrink } from "./picture.js";

const $ = (id) => document.getElementById(id);
const BYTES = SIDE * SIDE * 3;
const percent = (share) => `${(100 * share).toFixed(share > 0.0995 ? 0 : 1)}%`;
const signed = (value) => (value <= -0.005 ? "−" : "+") + Math.abs(value).toFixed(2);

const state = {
  picture: 0, // number of the example, or "own"
  original: null, // its pixels, before painting
  strokes: [],
  shown: null, // class; null: the most probable
  instead: null,
  view: "evidence",
  source: null, // of the copying brush, [x, y]
};
let network, examples, about, photograph, square, answer;

async function start() {
  try {
    const [numbers, pictures, text] = await Promise.all([
      get("network.bin").then((response) => response.arrayBuffer()),
      get("pictures.bin").then((response) => response.arrayBuffer()),
      get("about.json").then((response) => response.json()),
    ]);
    network = new Float32Array(numbers);
    examples = new Uint8Array(pictures);
    about = text;
    fillPage();
    readLink();
    show();
    trouble("");
    document.querySelector("main").hidden = false;
  } catch (error) {
    trouble(`The network could not be loaded (${error.message}). Reload the page, or read the notebooks: `);
    $("trouble").append(Object.assign(document.createElement("a"), { href: "../Assignment4B.html", textContent: "Assignment 4B" }));
  }
}

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response;
}

function trouble(text) {
  $("trouble").textContent = text;
}

// --- What is shown ---------------------------------------------------------------------------

function fillPage() {
  about.pictures.forEach((name, i) => {
    const button = document.createElement("button");
    button.setAttribute("aria-label", `Picture ${i + 1}: ${name}`);
    button.title = name;
    const canvas = canvasOf(example(i));
    canvas.style.width = "48px";
    button.append(canvas);
    button.onclick = () => choose(i, example(i));
    $("examples").append(button);
  });
  about.classes.forEach((name, c) => {
    const row = document.createElement("label");
    row.innerHTML = '<input type="radio" name="class"><span></span><progress max="1"></progress><span class="number"></span><span class="number logit"></span>';
    row.children[1].textContent = name;
    row.firstChild.onchange = () => change({ shown: c, instead: state.instead === c ? null : state.instead });
    $("classes").append(row);
    $("instead").append(new Option(name, c));
  });
  $("about").textContent =
    `The network is ${about.recipe}'s, recorded after ${about.epochs} epochs; it has ${(100 * about.test_acc).toFixed(2)}% of ` +
    "CIFAR-10's 10,000 test pictures right. It knows ten classes and nothing else: whatever you show it, it names one of them.";
}

const example = (i) => new Uint8ClampedArray(examples.slice(i * BYTES, (i + 1) * BYTES));

function choose(picture, original, strokes = []) {
  $("crop-box").hidden = picture !== "own";
  change({ picture, original, strokes, shown: null, instead: null, source: null });
}

let waiting = false;
function change(changes) {
  Object.assign(state, changes);
  if (waiting) return; // several changes between two frames are drawn once
  waiting = true;
  requestAnimationFrame(() => { waiting = false; show(); });
}

function show() {
  const pixels = brush.painted(state.original, state.strokes);
  answer = forward(network, pixels);
  const shares = softmax(answer.logits);
  const best = shares.indexOf(Math.max(...shares));
  const shown = state.shown ?? best;
  const { places, bias, score } = account(answer, shown, state.instead);
  const name = about.classes[shown] + (state.instead === null ? "" : ` rather than ${about.classes[state.instead]}`);

  const maps = { evidence: places, gradcam: places.map((value) => Math.max(0, value)), picture: null };
  drawPicture($("picture"), pixels, maps[state.view]);
  const most = whereMost(places);
  const where = most ? `Most evidence for ${name}: ${most}.` : `No place speaks for ${name}.`;
  $("where").textContent = where + (state.view === "evidence" ? " Orange is for it, blue against." : "");
  $("picture").setAttribute("aria-label", where);
  const changed = state.strokes.length ? ", after painting" : "";
  const sentence = `It says ${about.classes[best]}, ${percent(shares[best])}${changed}.`;
  if ($("answer").textContent !== sentence) $("answer").textContent = sentence;

  document.querySelectorAll("#classes label").forEach((row, c) => {
    const [chosen, , bar, share, logit] = row.children;
    chosen.checked = c === shown;
    bar.value = shares[c];
    share.textContent = percent(shares[c]);
    logit.textContent = signed(answer.logits[c]);
    $("instead").options[c + 1].disabled = c === shown;
  });
  $("instead").value = state.instead ?? "";
  $("view").value = state.view;
  [...$("examples").children].forEach((button, i) => button.setAttribute("aria-pressed", i === state.picture));
  $("undo").disabled = $("reset").disabled = !state.strokes.length;
  showAccount(places, bias, score, name);
  showHelp();
  history.replaceState(null, "", `#${link()}`);
}

function showAccount(places, bias, score, name) {
  const largest = Math.max(...places.map(Math.abs));
  const table = $("account");
  if (!table.rows.length) for (let r = 0; r < 8; r++) for (let c = 0, row = table.insertRow(); c < 8; c++) row.insertCell();
  places.forEach((value, i) => {
    const cell = table.rows[Math.floor(i / 8)].cells[i % 8];
    const [r, g, b, alpha] = colorOf(value, largest);
    cell.textContent = signed(value);
    cell.style.backgroundColor = `rgb(${r} ${g} ${b} / ${alpha / 510})`;
  });
  const total = (sign) => places.reduce((sum, value) => sum + Math.max(0, sign * value), 0);
  $("sum").textContent =
    `${total(1).toFixed(2)} for − ${total(-1).toFixed(2)} against ${bias < 0 ? "−" : "+"} ` +
    `${Math.abs(bias).toFixed(2)} constant = ${signed(score)}, the ${state.instead === null ? "score" : "lead"} of ${name}.`;
}

function showHelp() {
  const tool = $("tool").value;
  $("picture").classList.toggle("paints", Boolean(tool));
  const copying = state.source ? "Paint: pixels come from the place you chose." : "Tap the place to copy from.";
  $("paint-help").textContent = {
    "": "Choose a brush, then draw on the picture.",
    mean: "The mean color is what the network sees as nothing.",
    blur: "Each dab blurs what is under the brush.",
    copy: copying,
  }[tool] + (tool ? " On a keyboard: focus the picture, move with the arrows, dab with the space bar." : "");
}

// --- Painting --------------------------------------------------------------------------------

const cursor = [16, 16]; // pixel
let drawing = false;

function dab(x, y, begins) {
  const tool = $("tool").value;
  if (!tool) return;
  if (tool === "copy" && !state.source) {
    change({ source: [x, y, null] });
    return;
  }
  if (tool === "copy" && !state.source[2]) state.source[2] = [state.source[0] - x, state.source[1] - y];
  const [dx, dy] = tool === "copy" ? state.source[2] : [0, 0];
  const one = { tool, size: Number($("size").value), x, y, dx, dy };
  const before = begins ? state.strokes : state.strokes.slice(0, -1);
  const stroke = begins ? [] : state.strokes.at(-1);
  change({ strokes: [...before, [...stroke, one]] });
}

function listenToBrush() {
  const canvas = $("picture");
  const pixel = (event) => {
    const { left, top, width } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top].map((v) =>
      Math.min(Math.max(Math.floor((v / width) * SIDE), 0), SIDE - 1));
  };
  canvas.onpointerdown = (event) => {
    if (!$("tool").value) return;
    drawing = $("tool").value !== "copy" || Boolean(state.source);
    canvas.setPointerCapture(event.pointerId);
    cursor.splice(0, 2, ...pixel(event));
    dab(...cursor, true);
  };
  canvas.onpointermove = (event) => {
    const [x, y] = pixel(event);
    if (!drawing || (x === cursor[0] && y === cursor[1])) return;
    cursor.splice(0, 2, x, y);
    dab(x, y, false);
  };
  canvas.onpointerup = canvas.onpointercancel = () => { drawing = false; };
  canvas.onkeydown = (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!$("tool").value || (!move && event.key !== " ")) return;
    event.preventDefault();
    if (!move) return dab(...cursor, true);
    cursor.forEach((value, i) => { cursor[i] = Math.min(Math.max(value + move[i], 0), SIDE - 1); });
    $("paint-help").textContent = `Brush at column ${cursor[0]}, row ${cursor[1]}.`;
  };
  $("tool").onchange = () => change({ source: null });
  $("undo").onclick = () => change({ strokes: state.strokes.slice(0, -1) });
  $("reset").onclick = () => change({ strokes: [] });
}

// --- The reader's own picture ----------------------------------------------------------------

async function open(file) {
  if (!file) return;
  try {
    photograph = await decode(file);
  } catch (error) {
    trouble(error.message);
    return;
  }
  trouble("");
  const fromLink = state.picture === "own" && !photograph.used ? state.strokes : [];
  photograph.used = true;
  $("crop-size").value = 100;
  cropTo(middleSquare(photograph), fromLink);
}

function cropTo(wanted, strokes = state.strokes) {
  square = inside(wanted, photograph);
  const canvas = $("crop");
  Object.assign(canvas, { width: photograph.width, height: photograph.height });
  const context = canvas.getContext("2d");
  context.drawImage(photograph, 0, 0);
  context.fillStyle = "rgb(0 0 0 / 0.55)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(photograph, square.x, square.y, square.size, square.size, square.x, square.y, square.size, square.size);
  choose("own", shrink(photograph, square), strokes);
}

function listenToFiles() {
  $("file").onchange = () => open($("file").files[0]).finally(() => { $("file").value = ""; });
  document.ondragover = (event) => event.preventDefault();
  document.ondrop = (event) => { event.preventDefault(); open(event.dataTransfer.files[0]); };
  document.onpaste = (event) => open(event.clipboardData.files[0]);
  const canvas = $("crop");
  canvas.onpointermove = (event) => {
    if (!event.buttons) return;
    const scale = photograph.width / canvas.getBoundingClientRect().width;
    cropTo({ ...square, x: square.x + event.movementX * scale, y: square.y + event.movementY * scale });
  };
  canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
  canvas.onkeydown = (event) => {
    const step = square.size / 16;
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? [];
    if (dx === undefined) return;
    event.preventDefault();
    cropTo({ ...square, x: square.x + dx, y: square.y + dy });
  };
  $("crop-size").oninput = () => {
    const size = (middleSquare(photograph).size * $("crop-size").value) / 100;
    const move = (square.size - size) / 2;
    cropTo({ x: square.x + move, y: square.y + move, size });
  };
}

// --- Links and figures -----------------------------------------------------------------------

function link() {
  const { picture, shown, instead, view, strokes } = state;
  const fields = { picture, class: shown, instead, view, paint: brush.encode(strokes) };
  return new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== null && value !== ""));
}

function readLink() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const number = (name, below) => {
    const value = fields.get(name);
    return /^\d+$/.test(value ?? "") && Number(value) < below ? Number(value) : null;
  };
  const own = fields.get("picture") === "own";
  const picture = number("picture", about.pictures.length) ?? 0;
  Object.assign(state, {
    picture: own ? "own" : picture,
    original: example(picture),
    strokes: brush.decode(fields.get("paint") ?? ""),
    shown: number("class", 10),
    instead: number("instead", 10),
    view: ["gradcam", "picture"].includes(fields.get("view")) ? fields.get("view") : "evidence",
  });
  if (state.instead === state.shown) state.instead = null;
}

function listenToTheRest() {
  $("view").onchange = () => change({ view: $("view").value });
  $("instead").onchange = () => change({
    instead: $("instead").value === "" ? null : Number($("instead").value),
    shown: state.shown ?? answer.logits.indexOf(Math.max(...answer.logits)),
  });
  $("link").onclick = async () => {
    await navigator.clipboard.writeText(location.href);
    $("kept").textContent = "Copied. An own picture is not part of the link.";
  };
  $("save").onclick = () => {
    const shares = softmax(answer.logits);
    const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
    const lines = [$("answer").textContent, $("where").textContent, $("sum").textContent, "",
      ...order.map((c) => `${about.classes[c]}  ${percent(shares[c])}  ${signed(answer.logits[c])}`)];
    const { places } = account(answer, state.shown ?? order[0], state.instead);
    figure(brush.painted(state.original, state.strokes), state.view === "picture" ? null : places, lines).toBlob((blob) => {
      const url = URL.createObjectURL(blob);
      Object.assign(document.createElement("a"), { href: url, download: "where_it_looked.png" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    });
  };
}

window.onhashchange = () => { readLink(); show(); };
listenToBrush();
listenToFiles();
listenToTheRest();
start();

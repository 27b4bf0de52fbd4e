// Painting over pixels. A dab is {tool, size, x, y, dx, dy}; a stroke is a list of dabs.

import { SIDE } from "./picture.js";

const MEAN = [125, 123, 114]; // of CIFAR-10's training pictures: the network sees it as zero

/** Paint strokes over a copy of the pixels. A copy tool takes from the untouched picture. */
export function painted(original, strokes) {
  const pixels = original.slice();
  for (const dab of strokes.flat()) {
    const before = pixels.slice();
    for (const [x, y] of places(dab)) pixels.set(color(dab, x, y, before, original), (y * SIDE + x) * 3);
  }
  return pixels;
}

function places({ size, x, y }) {
  const result = [];
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      if (Math.hypot(column - x, row - y) < size / 2) result.push([column, row]);
    }
  }
  return result;
}

function color({ tool, dx, dy }, x, y, before, original) {
  const at = (values, column, row) => {
    const [c, r] = [column, row].map((value) => Math.min(Math.max(value, 0), SIDE - 1));
    return values.subarray((r * SIDE + c) * 3, (r * SIDE + c) * 3 + 3);
  };
  if (tool === "mean") return MEAN;
  if (tool === "copy") return at(original, x + dx, y + dy);
  const total = [0, 0, 0]; // blur: the mean of 5 x 5 pixels
  for (let k = 0; k < 25; k++) {
    const pixel = at(before, x + (k % 5) - 2, y + Math.floor(k / 5) - 2);
    for (let c = 0; c < 3; c++) total[c] += pixel[c] / 25;
  }
  return total;
}

const TOOLS = ["mean", "blur", "copy"];
const digit = (value) => value.toString(36);

/** Strokes as letters and digits for a link: eight a dab, strokes apart by a dot. */
export function encode(strokes) {
  const dab = ({ tool, size, x, y, dx, dy }) => {
    const numbers = [TOOLS.indexOf(tool), size, x, y];
    // An offset of -31 to 31 as two digits, base 8.
    return numbers.map(digit).join("") + [dx, dy].map((d) => (d + 31).toString(8).padStart(2, "0")).join("");
  };
  return strokes.map((stroke) => stroke.map(dab).join("")).join(".");
}

/** The strokes of a link; an empty list where the text is none of ours. */
export function decode(text) {
  if (!/^(([0-2][1-8][0-9a-v]{2}[0-7]{4})+\.?)*$/.test(text)) return [];
  return text.split(".").filter(Boolean).map((stroke) =>
    stroke.match(/.{8}/g).map((dab) => ({
      tool: TOOLS[dab[0]],
      size: Number(dab[1]),
      x: parseInt(dab[2], 36),
      y: parseInt(dab[3], 36),
      dx: parseInt(dab.slice(4, 6), 8) - 31,
      dy: parseInt(dab.slice(6), 8) - 31,
    })),
  );
}

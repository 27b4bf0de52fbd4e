// What is drawn: pixels, the map over them, and the figure to keep.

import { SIDE as PLACES } from "./evidence.js";
import { SIDE } from "./picture.js";

const FOR = [230, 120, 0];
const AGAINST = [0, 114, 200]; // orange and blue: told apart by color-blind readers, too

/** RGB pixels as a canvas of 32 x 32. */
export function canvasOf(pixels) {
  return filled(SIDE, (i) => [...pixels.subarray(i * 3, i * 3 + 3), 255]);
}

/** Color of a place as [r, g, b, alpha], alpha growing with its share of the largest. */
export function colorOf(value, largest) {
  const strength = largest ? Math.abs(value) / largest : 0;
  return [...(value > 0 ? FOR : AGAINST), Math.round(215 * strength)];
}

/** Draw the picture, and over it the map, if there is one, onto a square canvas. */
export function drawPicture(canvas, pixels, places) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvasOf(pixels), 0, 0, canvas.width, canvas.height);
  if (!places) return;
  context.fillStyle = "rgb(128 128 128 / 0.35)"; // a veil, so that the map's two colors stand out
  context.fillRect(0, 0, canvas.width, canvas.height);
  const largest = Math.max(...places.map(Math.abs));
  context.imageSmoothingEnabled = true;
  const map = filled(PLACES, (i) => colorOf(places[i], largest));
  context.drawImage(map, 0, 0, canvas.width, canvas.height);
}

/** A figure with its numbers: the picture with its map, the classes, the sum. */
export function figure(pixels, places, lines) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 900, height: 480 });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const square = Object.assign(document.createElement("canvas"), { width: 416, height: 416 });
  drawPicture(square, pixels, places);
  context.drawImage(square, 32, 32);
  context.fillStyle = "black";
  lines.forEach((line, i) => {
    context.font = i ? "17px system-ui, sans-serif" : "bold 20px system-ui, sans-serif";
    context.fillText(line, 480, 56 + i * 28, 400);
  });
  return canvas;
}

function filled(side, colors) {
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let i = 0; i < side * side; i++) image.data.set(colors(i), i * 4);
  context.putImageData(image, 0, 0);
  return canvas;
}

// From any picture to the 32 x 32 pixels that the network sees. Nothing leaves the page.

export const SIDE = 32;
const MOST_BYTES = 40_000_000;
const SHOWN = 640; // longer side of what is kept of a photograph, screen pixels

/** Decode a file: turned as its EXIF says, the first frame of an animation, reduced to 640 pixels.
 * @returns {Promise<HTMLCanvasElement>}
 * @throws {Error} with a sentence for the reader
 */
export async function decode(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB. Choose one of up to 40 MB.`);
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`This browser cannot read ${file.name}. Save it as JPEG or PNG and try again.`);
  }
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, SHOWN / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** The largest square in the middle: {x, y, size} in pixels of the canvas. */
export function middleSquare({ width, height }) {
  const size = Math.min(width, height);
  return { x: (width - size) / 2, y: (height - size) / 2, size };
}

/** Keep a square inside its canvas. */
export function inside({ x, y, size }, { width, height }) {
  size = Math.min(Math.max(size, 1), width, height);
  const clip = (value, most) => Math.min(Math.max(value, 0), most);
  return { x: clip(x, width - size), y: clip(y, height - size), size };
}

/** The square at 32 x 32, each pixel the mean of what it covers: RGB, Uint8ClampedArray(3072). */
export function shrink(canvas, square) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint8ClampedArray(SIDE * SIDE * 3);
  const [columns, rows] = [square.x, square.y].map((start) => shares(start, square.size / SIDE));
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      const total = [0, 0, 0];
      for (const [y, high] of rows[row]) {
        for (const [x, wide] of columns[column]) {
          const from = (y * canvas.width + x) * 4;
          for (let c = 0; c < 3; c++) total[c] += high * wide * data[from + c];
        }
      }
      pixels.set(total, (row * SIDE + column) * 3);
    }
  }
  return pixels;
}

// For each of 32 steps along one axis: the source pixels it covers, [index, share of the step].
function shares(start, step) {
  return Array.from({ length: SIDE }, (_, i) => {
    const [from, to] = [start + i * step, start + (i + 1) * step];
    const covered = [];
    for (let k = Math.floor(from); k < to - 1e-9; k++) {
      covered.push([k, (Math.min(to, k + 1) - Math.max(from, k)) / step]);
    }
    return covered;
  });
}

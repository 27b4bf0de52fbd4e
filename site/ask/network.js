// ResNet20v2 on one picture: the whole forward pass, as in the cell `network-whole` of Assignment4B.
//
// A map is {side, channels, values}: values[(row * side + column) * channels + channel].
// `numbers` holds all weights in the order in which they are used here; tools/ask.py writes them,
// with every batch normalization folded into a factor and an offset per channel.

const SIDE = 32;

/** Answer for one picture.
 * @param {Float32Array} numbers the weights
 * @param {ArrayLike<number>} pixels raw RGB, 0 to 255, row by row: 32 * 32 * 3
 * @returns {{features: Float32Array, weights: Float32Array, bias: Float32Array, logits: number[]}}
 *   features (8, 8, 256) after the last ReLU; the head's weights (256, 10) and bias (10).
 */
export function forward(numbers, pixels) {
  let used = 0;
  const take = (count) => numbers.subarray(used, (used += count));

  const convolve = (x, filters, size = 1, stride = 1) => {
    const windows = size === 3 ? windowsOf(x) : everyOther(x, stride);
    return product(windows, take(windows.channels * filters), take(filters));
  };
  const normalize = (x) => rectified(x, take(x.channels), take(x.channels));
  const block = (x, narrow, wide, { stride = 1, change = false, stem = false } = {}) => {
    let y = stem ? x : normalize(x);
    y = normalize(convolve(y, narrow, 1, stride));
    y = normalize(convolve(y, narrow, 3));
    y = convolve(y, wide);
    return sum(change ? convolve(x, wide, 1, stride) : x, y);
  };

  let x = rectified({ side: SIDE, channels: 3, values: pixels }, take(3), take(3), -Infinity);
  x = normalize(convolve(x, 16, 3));
  x = block(block(x, 16, 64, { change: true, stem: true }), 16, 64);
  x = block(block(x, 64, 128, { stride: 2, change: true }), 64, 128);
  x = block(block(x, 128, 256, { stride: 2, change: true }), 128, 256);
  const { channels, values: features } = normalize(x);
  const weights = take(channels * 10);
  const bias = take(10);
  if (used !== numbers.length) throw new Error("the file of weights is of another network");

  const logits = Array.from(bias);
  const places = features.length / channels;
  for (let i = 0; i < features.length; i++) {
    const row = (i % channels) * 10;
    for (let c = 0; c < 10; c++) logits[c] += (features[i] * weights[row + c]) / places;
  }
  return { features, weights, bias, logits };
}

/** Shares of 1, from logits. */
export function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const total = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / total);
}

// max(least, value * factor + offset), factor and offset per channel.
function rectified({ side, channels, values }, factors, offsets, least = 0) {
  const result = new Float32Array(values.length);
  for (let i = 0, c = 0; i < result.length; i++, c = c + 1 === channels ? 0 : c + 1) {
    result[i] = Math.max(least, values[i] * factors[c] + offsets[c]);
  }
  return { side, channels, values: result };
}

function sum(a, b) {
  return { ...a, values: a.values.map((value, i) => value + b.values[i]) };
}

function everyOther(x, stride) {
  if (stride === 1) return x;
  const side = x.side / stride;
  const values = new Float32Array(side * side * x.channels);
  for (let place = 0; place < side * side; place++) {
    const from = (Math.floor(place / side) * x.side + (place % side)) * stride * x.channels;
    values.set(x.values.subarray(from, from + x.channels), place * x.channels);
  }
  return { side, channels: x.channels, values };
}

// The 3 x 3 places around every place, side by side as 9 * channels; zeros beyond the border.
function windowsOf({ side, channels, values }) {
  const windows = new Float32Array(side * side * 9 * channels);
  let to = 0;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      for (let k = 0; k < 9; k++, to += channels) {
        const r = row + Math.floor(k / 3) - 1;
        const c = column + (k % 3) - 1;
        if (r < 0 || c < 0 || r >= side || c >= side) continue;
        const from = (r * side + c) * channels;
        windows.set(values.subarray(from, from + channels), to);
      }
    }
  }
  return { side, channels: 9 * channels, values: windows };
}

// Every place's row times the kernel, plus bias. The kernel comes in strips of four filters, so that
// two places by four filters are summed in eight local variables: twice as fast as one by one.
function product({ side, channels, values }, kernel, bias) {
  const filters = bias.length;
  const result = new Float32Array(side * side * filters);
  for (let f = 0; f < filters; f += 4) {
    for (let place = 0; place < side * side; place += 2) {
      let a0 = bias[f], a1 = bias[f + 1], a2 = bias[f + 2], a3 = bias[f + 3];
      let b0 = a0, b1 = a1, b2 = a2, b3 = a3;
      let first = place * channels, second = first + channels;
      const end = second;
      for (let w = f * channels; first < end; first++, second++, w += 4) {
        const a = values[first], b = values[second];
        a0 += a * kernel[w]; a1 += a * kernel[w + 1]; a2 += a * kernel[w + 2]; a3 += a * kernel[w + 3];
        b0 += b * kernel[w]; b1 += b * kernel[w + 1]; b2 += b * kernel[w + 2]; b3 += b * kernel[w + 3];
      }
      const at = place * filters + f, below = at + filters;
      result[at] = a0; result[at + 1] = a1; result[at + 2] = a2; result[at + 3] = a3;
      result[below] = b0; result[below + 1] = b1; result[below + 2] = b2; result[below + 3] = b3;
    }
  }
  return { side, channels: filters, values: result };
}

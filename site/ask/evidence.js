// The exact account: what each of the 8 x 8 places adds to a logit.
//
// The logit of class c is bias[c] + the sum over places of features . weights[:, c] / 64, so these
// 64 numbers are the score, spread out. The positive ones are the Grad-CAM map at this layer
// (Selvaraju et al. 2017), and HiResCAM's and XGrad-CAM's, too: Assignment4B derives it.

export const SIDE = 8;

/** Evidence for a class, or for it rather than another.
 * @param answer what `forward` returns
 * @param {number} shown the class
 * @param {number | null} instead the class to compare with
 * @returns {{places: number[], bias: number, score: number}} 64 numbers, row by row; their sum and
 *   the bias are the score: a logit, or a difference of two.
 */
export function account({ features, weights, bias, logits }, shown, instead) {
  const of = (values) => values[shown] - (instead === null ? 0 : values[instead]);
  const channels = weights.length / 10;
  const column = Array.from({ length: channels }, (_, k) => of(weights.subarray(k * 10, k * 10 + 10)));
  const places = Array.from({ length: SIDE * SIDE }, (_, place) => {
    let total = 0;
    for (let k = 0; k < channels; k++) total += features[place * channels + k] * column[k];
    return total / (SIDE * SIDE);
  });
  return { places, bias: of(bias), score: of(logits) };
}

/** Where most of the positive evidence lies, in words: "upper left, 31% of it"; "" if nowhere. */
export function whereMost(places) {
  const total = places.reduce((sum, value) => sum + Math.max(0, value), 0);
  if (!total) return "";
  const third = (i) => (i < 3 ? 0 : i < 5 ? 1 : 2);
  const shares = new Map();
  places.forEach((value, place) => {
    const row = ["upper", "middle", "lower"][third(Math.floor(place / SIDE))];
    const column = ["left", "center", "right"][third(place % SIDE)];
    const name = `${row} ${column}`.replace("middle center", "center");
    shares.set(name, (shares.get(name) ?? 0) + Math.max(0, value) / total);
  });
  const [name, share] = [...shares].reduce((a, b) => (b[1] > a[1] ? b : a));
  return `${name}, ${Math.round(100 * share)}% of it`;
}

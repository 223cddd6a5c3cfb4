/**
 * Reed-Solomon codes over GF(256) as Linux's lib/reed_solomon has them for ramoops (fs/pstore/ram_core.c: symbol size 8,
 * polynomial 0x11d, first root 0, primitive element 1): shortened, systematic, parity behind the data.
 */

const FIELD = 255;
const POLYNOMIAL = 0x11d;
/** Logarithm of 0. */
const NONE = -1;

const EXP = new Uint8Array(2 * FIELD);
const LOG = new Int16Array(FIELD + 1).fill(NONE);
for (let i = 0, x = 1; i < FIELD; i++) {
  EXP[i] = x;
  EXP[i + FIELD] = x;
  LOG[x] = i;
  x = x << 1 > FIELD ? (x << 1) ^ POLYNOMIAL : x << 1;
}

const multiply = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : EXP[LOG[a]! + LOG[b]!]!);
const divide = (a: number, b: number): number => (a === 0 ? 0 : EXP[LOG[a]! + FIELD - LOG[b]!]!);

/** A code of so many bytes of parity, which repairs half as many wrong bytes in a block. */
export class ReedSolomon {
  readonly parity: number;

  /** @param parity bytes of it, 1 to 254 */
  constructor(parity: number) {
    this.parity = parity;
  }

  /** Whether a block's parity is right. @param parity of `this.parity` bytes */
  isRight(data: Uint8Array, parity: Uint8Array): boolean {
    return this.#syndromes(data, parity) === undefined;
  }

  /**
   * Repairs a block in place.
   * @param data with the parity at most 255 bytes
   * @returns wrong bytes that were repaired, those of the parity among them; undefined where there are more than the code
   * can tell: nothing was changed then
   */
  repair(data: Uint8Array, parity: Uint8Array): number | undefined {
    const syndromes = this.#syndromes(data, parity);
    if (syndromes === undefined) return 0;
    const locator = locatorOf(syndromes);
    const errors = locator.length - 1;
    if (2 * errors > this.parity) return undefined;
    const length = data.length + parity.length;
    const places = rootsOf(locator, length);
    if (places.length !== errors) return undefined;
    const sizes = magnitudes(syndromes, locator, places);
    if (sizes.includes(0)) return undefined;
    const flip = (sign: readonly number[]) => {
      for (const [i, place] of places.entries()) {
        const at = length - 1 - place;
        if (at < data.length) data[at]! ^= sign[i]!;
        else parity[at - data.length]! ^= sign[i]!;
      }
    };
    flip(sizes);
    if (this.isRight(data, parity)) return errors;
    flip(sizes);
    return undefined;
  }

  /** The word's values at the roots; undefined when all are 0, which means that nothing is wrong. */
  #syndromes(data: Uint8Array, parity: Uint8Array): Uint8Array | undefined {
    const syndromes = new Uint8Array(this.parity);
    let wrong = 0;
    for (let root = 0; root < syndromes.length; root++) {
      let value = 0;
      for (const byte of data) value = (value === 0 ? 0 : EXP[LOG[value]! + root]!) ^ byte;
      for (const byte of parity) value = (value === 0 ? 0 : EXP[LOG[value]! + root]!) ^ byte;
      syndromes[root] = value;
      wrong |= value;
    }
    return wrong === 0 ? undefined : syndromes;
  }
}

/** The shortest register that makes the syndromes (Berlekamp and Massey), lowest power first. */
function locatorOf(syndromes: Uint8Array): number[] {
  let [locator, before] = [[1], [1]];
  let [length, gap, last] = [0, 1, 1];
  for (let n = 0; n < syndromes.length; n++) {
    let discrepancy = syndromes[n]!;
    for (let i = 1; i <= length; i++) discrepancy ^= multiply(locator[i] ?? 0, syndromes[n - i]!);
    if (discrepancy === 0) {
      gap++;
      continue;
    }
    const next = locator.slice();
    const scale = divide(discrepancy, last);
    for (const [i, value] of before.entries()) next[i + gap] = (next[i + gap] ?? 0) ^ multiply(scale, value);
    for (let i = 0; i < next.length; i++) next[i] ??= 0;
    if (2 * length <= n) [before, last, length, gap] = [locator, discrepancy, n + 1 - length, 1];
    else gap++;
    locator = next;
  }
  while (locator.at(-1) === 0) locator.pop();
  return locator.length - 1 === length ? locator : new Array(syndromes.length + 2).fill(1);
}

/** Where the locator says that bytes are wrong: powers of x, 0 for the last byte. */
function rootsOf(locator: readonly number[], length: number): number[] {
  const places: number[] = [];
  for (let place = 0; place < length; place++) {
    if (valueAt(locator, EXP[(FIELD - place) % FIELD]!) === 0) places.push(place);
  }
  return places;
}

function valueAt(polynomial: readonly number[], x: number): number {
  let value = 0;
  for (let i = polynomial.length - 1; i >= 0; i--) value = multiply(value, x) ^ polynomial[i]!;
  return value;
}

/** What is to be added at each place (Forney, first root 0). */
function magnitudes(syndromes: Uint8Array, locator: readonly number[], places: readonly number[]): number[] {
  const evaluator = Array.from(syndromes, (_, i) => {
    let value = 0;
    for (let j = 0; j <= i && j < locator.length; j++) value ^= multiply(locator[j]!, syndromes[i - j]!);
    return value;
  });
  const derivative = locator.slice(1).map((value, i) => (i % 2 === 0 ? value : 0));
  return places.map((place) => {
    const inverse = EXP[(FIELD - place) % FIELD]!;
    const slope = valueAt(derivative, inverse);
    return slope === 0 ? 0 : multiply(EXP[place]!, divide(valueAt(evaluator, inverse), slope));
  });
}

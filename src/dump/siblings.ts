/** The next numbers in one direction: at each, the ways a name may spell it. */
export interface Direction extends Iterable<readonly string[]> {
  /** Whether it is the last with this number of the name. */
  readonly last: boolean;
}

/** A name's number beyond this is a date or an address. */
const MAX_NUMBER = 1e6;

/**
 * Plain names under which further files of a set may lie beside one of them: the last number in the name counted up and
 * down, then the number before it, with as many digits as it has or with as many as it needs.
 * @param path of the file; only its last part counts
 */
export function siblingNames(path: string): Direction[] {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return [...name.matchAll(/\d+/g)].reverse().flatMap(({ 0: digits, index }) => {
    const number = Number(digits);
    if (number > MAX_NUMBER) return [];
    const [before, after] = [name.slice(0, index), name.slice(index + digits.length)];
    const spell = (value: number): string[] => {
      const texts = new Set([String(value).padStart(digits.length, "0"), String(value)]);
      return [...texts].map((text) => before + text + after);
    };
    return [direction(number, 1, spell), { ...direction(number, -1, spell), last: true }];
  });
}

const direction = (number: number, step: 1 | -1, spell: (value: number) => string[]): Direction => ({
  last: false,
  *[Symbol.iterator]() {
    for (let value = number + step; value >= 0 && value <= MAX_NUMBER; value += step) yield spell(value);
  },
});

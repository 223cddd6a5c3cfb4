/**
 * Steps that a search may take in all. Each list of a core is bounded by itself; a budget that every use of it draws
 * on bounds what comes of several lists multiplied.
 */
export class Budget {
  #left: number;

  constructor(steps: number) {
    this.#left = steps;
  }

  /** Takes steps; false from the first time on that there are too few. */
  take(steps = 1): boolean {
    this.#left = steps > this.#left ? -1 : this.#left - steps;
    return this.#left >= 0;
  }
}

/** What following one structure of QEMU costs: about as much as looking at eight words. */
export const STRUCTURE = 8;

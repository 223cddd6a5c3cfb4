/** Work between two looks at signals, in runs: some 100 ms. */
const WORK = 4096;
/** Bytes of a run that cost as much as another one: the entries that it was put together from. */
const BYTES_OF_RUN = 2 ** 20;

/** Tells a walk over runs of pages when to look at signals: by how many they were, and how long. */
export class Pace {
  #work = 0;

  /**
   * @param bytes of a run that was met
   * @returns whether it is time
   */
  isDue(bytes: number): boolean {
    this.#work += 1 + Math.floor(bytes / BYTES_OF_RUN);
    if (this.#work < WORK) return false;
    this.#work = 0;
    return true;
  }
}

/**
 * Why a walk did not meet everything. `unreadable`: memory does not hold a node, or a pointer leads nowhere. `cycle`:
 * a node was met twice. `limit`: there is more than the walk's bound. `senseless`: a node cannot be what it should be.
 * `unknown-layout`: the kernel's types do not describe the structure.
 */
export type WalkProblem = "unreadable" | "cycle" | "limit" | "senseless" | "unknown-layout";

/** How a walk over a kernel structure ended; of an incomplete one, what went wrong first and at which address. */
export type WalkOutcome =
  | { readonly complete: true }
  | { readonly complete: false; readonly reason: WalkProblem; readonly address: bigint };

export const COMPLETE: WalkOutcome = { complete: true };

export const incomplete = (reason: WalkProblem, address: bigint): WalkOutcome => ({
  complete: false,
  reason,
  address,
});

/** The nodes a walk has met, and what went wrong first. Every node is met once: that bounds damaged structures. */
export class WalkLog {
  readonly #seen = new Set<bigint>();
  readonly #limit: number;
  #outcome = COMPLETE;

  /** @param limit nodes at most */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Whether a node is new and within the limit; otherwise the walk leaves it out. */
  enter(address: bigint): boolean {
    if (this.#seen.has(address)) return this.fail("cycle", address);
    if (this.#seen.size >= this.#limit) return this.fail("limit", address);
    this.#seen.add(address);
    return true;
  }

  has(address: bigint): boolean {
    return this.#seen.has(address);
  }

  /** Keeps what went wrong, unless something has before. */
  fail(reason: WalkProblem, address: bigint): false {
    if (this.#outcome.complete) this.#outcome = incomplete(reason, address);
    return false;
  }

  get outcome(): WalkOutcome {
    return this.#outcome;
  }
}

/** Everything a walk yields, and how it ended. */
export function collect<T>(walk: Generator<T, WalkOutcome>): { items: T[]; outcome: WalkOutcome } {
  const items: T[] = [];
  for (;;) {
    const step = walk.next();
    if (step.done) return { items, outcome: step.value };
    items.push(step.value);
  }
}

import type { Verdict } from "./types.ts";

/** VMs that died of one failure. */
export interface SameFailure {
  readonly signature: string;
  /** Of the first VM that had it. */
  readonly title: string;
  readonly count: number;
  /** Their names, the first ones. */
  readonly vms: readonly string[];
}

/** What many unlike failures come to: a watchdog that bit, a reset, a processor that is shut down. */
const COMMON =
  /^(?:qmp:(?!stop:|qemu-abort:|internal-error:|tdx:)|(?:silent-reset|triple-fault|dead-halt|endless-loop|panic without-log)$)/;
const MAX_SIGNATURES = 10_000;
const MAX_VMS = 100;
const MAX_SHOWN = 100;

/** Finds out which VMs failed alike, as they come: by the signature of what decided. */
export class SameFailures {
  readonly #known = new Map<string, { title: string; count: number; vms: string[] }>();

  add(vm: string, { signature, title }: Pick<Verdict, "signature" | "title">): void {
    if (signature === undefined || COMMON.test(signature)) return;
    const known = this.#known.get(signature);
    if (known === undefined) {
      if (this.#known.size < MAX_SIGNATURES) this.#known.set(signature, { title, count: 1, vms: [vm] });
      return;
    }
    known.count++;
    if (known.vms.length < MAX_VMS) known.vms.push(vm);
  }

  /** Failures that several VMs had, the commonest first. */
  end(): SameFailure[] {
    return [...this.#known]
      .flatMap(([signature, { title, count, vms }]) => (count > 1 ? [{ signature, title, count, vms }] : []))
      .sort((a, b) => b.count - a.count || (a.signature < b.signature ? -1 : 1))
      .slice(0, MAX_SHOWN);
  }
}

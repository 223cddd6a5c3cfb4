import type { PageDescriptor } from "./kdump-page.ts";

/** Descriptors kept: damaged ones may lead in front of the page that others share. */
const KEPT = 16;

/** Finds what several descriptors lead to, of that the first in the file, among the first few places. */
export class LowestShared {
  /** Ascending by offset. */
  readonly #kept: { readonly descriptor: PageDescriptor; count: number }[] = [];

  add(descriptor: PageDescriptor): void {
    const kept = this.#kept;
    if (kept.length === KEPT && descriptor.offset > kept.at(-1)!.descriptor.offset) return;
    const same = kept.find((one) => isSame(one.descriptor, descriptor));
    if (same !== undefined) {
      same.count++;
      return;
    }
    const place = kept.findIndex((one) => one.descriptor.offset > descriptor.offset);
    kept.splice(place < 0 ? kept.length : place, 0, { descriptor, count: 1 });
    if (kept.length > KEPT) kept.pop();
  }

  get found(): PageDescriptor | undefined {
    return this.#kept.find(({ count }) => count > 1)?.descriptor;
  }
}

export const isSame = (a: PageDescriptor, b: PageDescriptor): boolean =>
  a.offset === b.offset && a.size === b.size && a.flags === b.flags;

import type { VmcsLayout } from "../layout.ts";
import { offsetOf } from "../layout.ts";
import { VMCS_LAYOUTS } from "../layouts.ts";

/** How far fields are where a known layout has them. */
export interface Agreement {
  readonly layout: VmcsLayout;
  /** Fields at the same offset. */
  readonly equal: number;
  /** Fields that both have. */
  readonly shared: number;
}

/** Agreement with every known layout that shares a field, best first. */
export function agreements(fields: ReadonlyMap<number, number>): Agreement[] {
  return VMCS_LAYOUTS.map((layout) => {
    const shared = [...fields].filter(([encoding]) => offsetOf(layout, encoding) !== undefined);
    const equal = shared.filter(([encoding, offset]) => offsetOf(layout, encoding) === offset);
    return { layout, equal: equal.length, shared: shared.length };
  })
    .filter(({ shared }) => shared > 0)
    .sort((a, b) => b.equal - a.equal || a.shared - b.shared);
}

/** With fewer fields in common an agreement may be chance. */
const MIN_SHARED = 8;

/** Whether nine in ten fields are where the known layout has them: then it is that layout. */
export const isSameLayout = ({ equal, shared }: Agreement): boolean =>
  shared >= MIN_SHARED && 10 * equal >= 9 * shared;

import { PAGE_SIZE } from "../core/address.ts";
import { latin1 } from "../core/bytes.ts";
import type { AddressSpace, PhysicalMemory } from "../core/memory.ts";
import { readVirtual } from "../kernel/virtual.ts";
import type { DumpedVcpu } from "../triage/dump/facts.ts";
import { pageTablesOf } from "../x86/paging.ts";
import type { X86State } from "../x86/state.ts";

/** From the byte in front of RIP on: jmp to itself; hlt and a jump back to it, or to the cli in front, RIP on either. */
const LOOPS: readonly (readonly [at: number, bytes: string, what: NonNullable<DumpedVcpu["loop"]>])[] = [
  [1, "\xeb\xfe", "jump to itself"],
  [1, "\xf4\xeb\xfd", "halt for ever"],
  [1, "\xf4\xeb\xfc", "halt for ever"],
  [0, "\xf4\xeb\xfd", "halt for ever"],
  [0, "\xf4\xeb\xfc", "halt for ever"],
];
const LONGEST_LOOP = 4;

/** Addresses of a processor without paging. */
const PHYSICAL: AddressSpace = {
  translate: (virtual) => ({
    mapped: true,
    physical: Number(virtual),
    size: PAGE_SIZE,
    writable: true,
    user: false,
    executable: true,
  }),
};

/** What a processor does for ever, by the bytes around RIP. */
export function loopAt(memory: PhysicalMemory, state: X86State): DumpedVcpu["loop"] {
  const tables = pageTablesOf(memory, state);
  const linear = BigInt.asUintN(64, state.rip + state.segments.cs.base);
  // Without paging there is nothing above 4 GiB.
  if (linear === 0n || (tables === undefined && linear >= 1n << 32n)) return undefined;
  const bytes = Buffer.alloc(LONGEST_LOOP);
  const got = readVirtual(memory, tables ?? PHYSICAL, linear - 1n, bytes);
  const text = latin1(bytes.subarray(0, got));
  return LOOPS.find(([at, code]) => text.startsWith(code, at))?.[2];
}

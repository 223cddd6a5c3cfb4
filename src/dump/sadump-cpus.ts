import { viewOf } from "../core/bytes.ts";
import type { PhysicalMemory } from "../core/memory.ts";
import { readPhysical } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type PageTables, pageTablesOf } from "../x86/paging.ts";
import {
  SEGMENT_REGISTERS,
  type Segment,
  type SegmentRegister,
  type TableRegister,
  type X86State,
} from "../x86/state.ts";
import type { DumpedCpu } from "./format.ts";
import type { SmramState } from "./sadump-smram.ts";

export interface SadumpCpus {
  readonly cpus: readonly DumpedCpu[];
  /** Where their order is not Linux's. */
  readonly warnings: readonly Warning[];
}

/**
 * Completes the states of processors by what their descriptor tables say, and puts them in the order in which Linux
 * numbers them, which is not that of APIC IDs: notes are told apart by their order alone. A processor that was in a
 * guest has the guest's tables, which are not in this memory: it gets one of the numbers left. Those that do not run
 * Linux are last.
 */
export function cpusOf(memory: PhysicalMemory, states: readonly SmramState[]): SadumpCpus {
  const found = states.map((state) => completed(memory, state));
  const numbers = found.map(({ number }) => number).filter((number) => number !== undefined);
  const taken = new Set(numbers);
  const unique = taken.size === numbers.length;
  const free = numbersWithout(taken);
  const placeOf = ({ cpu, number }: Completed): number =>
    number ?? (cpu.inGuest === undefined ? Number.MAX_SAFE_INTEGER : free.next().value);
  const placed = found.map((one, place) => ({ cpu: one.cpu, place: unique ? placeOf(one) : place }));
  const cpus = placed.sort((a, b) => a.place - b.place).map(({ cpu }, index) => ({ ...cpu, index }));
  const others = found.filter(({ cpu, number }) => number === undefined && cpu.inGuest === undefined).length;
  if (!unique) return { cpus, warnings: [orderWarning(SAME_NUMBER)] };
  const unknown = `the descriptor tables of ${plural(others, "processor")} do not tell a number in Linux: they are put last`;
  return { cpus, warnings: others === 0 ? [] : [orderWarning(unknown)] };
}

const SAME_NUMBER =
  "processors have the same number by their descriptor tables: all are put in the order of APIC IDs";

const orderWarning = (message: string): Warning => ({
  code: "DMP012",
  message,
  hint: "a register set may be shown for another processor than the one it is of",
});

function* numbersWithout(taken: ReadonlySet<number>): Generator<number, never> {
  for (let number = 0; ; number++) if (!taken.has(number)) yield number;
}

interface Completed {
  readonly cpu: Omit<DumpedCpu, "index">;
  readonly number: number | undefined;
}

function completed(memory: PhysicalMemory, smram: SmramState): Completed {
  const { general, selectors, eptp, halted, source, rip, rflags, cr0, cr3, cr4, efer, gdt, idt } = smram;
  const bare: X86State = {
    ...general,
    ...{ rip, rflags, cr0, cr2: undefined, cr3, cr4, efer, gdt, idt },
    kernelGsBase: undefined,
    segments: segmentsOf((name) => withoutDescriptor(selectors[name])),
  };
  if (eptp !== undefined)
    return { cpu: { state: bare, source, halted, inGuest: { eptp } }, number: undefined };
  const tables = pageTablesOf(memory, bare);
  const read = (table: TableRegister, at: number): bigint[] => descriptorAt(memory, tables, table, at);
  const ldt = withDescriptor(selectors.ldt, read(gdt, selectors.ldt & INDEX), true);
  const segments = segmentsOf((name) => {
    const selector = selectors[name];
    if (name === "ldt") return { ...ldt, base: smram.ldt.base, limit: smram.ldt.limit };
    const table = (selector & LOCAL) === 0 ? gdt : smram.ldt;
    return withDescriptor(selector, read(table, selector & INDEX), name === "tr");
  });
  const state = { ...bare, segments };
  return { cpu: { state, source, halted }, number: linuxNumber(read(gdt, CPU_NUMBER_AT)[0]) };
}

const segmentsOf = (of: (name: SegmentRegister) => Segment): X86State["segments"] =>
  Object.fromEntries(SEGMENT_REGISTERS.map((name) => [name, of(name)])) as Record<SegmentRegister, Segment>;

/** Of a selector: the index times 8, and whether it is of the LDT. */
const INDEX = 0xfff8;
const LOCAL = 4;

const withoutDescriptor = (selector: number): Segment => ({ selector, base: 0n, limit: 0, flags: 0 });

/** The two words at `at` in a descriptor table; none where the table ends or memory lacks them. */
function descriptorAt(
  memory: PhysicalMemory,
  tables: PageTables | undefined,
  { base, limit }: TableRegister,
  at: number,
): bigint[] {
  const words: bigint[] = [];
  for (let word = at; word < at + 16 && word + 7 <= limit; word += 8) {
    const physical = physicalOf(tables, base + BigInt(word));
    const bytes = Buffer.alloc(8);
    if (physical === undefined || readPhysical(memory, physical, bytes) < bytes.length) break;
    words.push(viewOf(bytes).getBigUint64(0, true));
  }
  return words;
}

function physicalOf(tables: PageTables | undefined, virtual: bigint): number | undefined {
  if (tables === undefined) return Number(BigInt.asUintN(52, virtual));
  const mapping = tables.translate(virtual);
  return mapping.mapped ? mapping.physical : undefined;
}

/** Type, S, DPL, P, AVL, L, D/B and G in a descriptor's upper half. */
const FLAGS = 0x00f0_ff00;
const GRANULAR = 1 << 23;

/**
 * The segment as its descriptor says (Intel SDM Vol. 3A §3.4.5). In 64-bit mode FS and GS have their bases in MSRs, which
 * SMRAM has not: they are 0.
 * @param wide of a descriptor of the system, which takes 16 bytes in long mode
 */
function withDescriptor(selector: number, [low, high]: readonly bigint[], wide: boolean): Segment {
  if ((selector & ~3) === 0 || low === undefined) return withoutDescriptor(selector);
  const upper = Number(low >> 32n);
  const flags = upper & FLAGS;
  const field = Number(low & 0xffffn) + (upper & 0xf_0000);
  const limit = (flags & GRANULAR) === 0 ? field : field * 4096 + 4095;
  const base = ((low >> 16n) & 0xff_ffffn) | ((low >> 56n) << 24n);
  const above = wide && high !== undefined ? (high & 0xffff_ffffn) << 32n : 0n;
  return { selector, base: base | above, limit, flags };
}

/** GDT_ENTRY_CPUNODE (Linux arch/x86/include/asm/segment.h), by whose limit processes learn where they run. */
const CPU_NUMBER_AT = 15 * 8;
/** Expand-down data for the user, present; the accessed bit may be set. */
const CPU_NUMBER_ACCESS = 0xf4n;
const CPU_BITS = 0xfffn;

/** The number that Linux gave the processor; undefined where its GDT is not Linux's. */
function linuxNumber(descriptor: bigint | undefined): number | undefined {
  if (descriptor === undefined || ((descriptor >> 40n) & 0xfen) !== CPU_NUMBER_ACCESS) return undefined;
  return Number(descriptor & CPU_BITS);
}

import type { PhysicalMemory } from "../core/memory.ts";
import { rangeAt } from "../core/ranges.ts";
import { hex } from "../core/text.ts";
import { VmcbScanner } from "../svm/scan.ts";
import { decodeVmcb } from "../svm/vmcb.ts";
import type { VmcsLayout } from "../vmx/layout.ts";
import type { RegionNote } from "../vmx/region-note.ts";
import { VmcsScanner } from "../vmx/scan.ts";
import { pageTablesOf } from "../x86/paging.ts";
import { CR3_FRAME } from "../x86/registers.ts";
import { GENERAL_REGISTERS, SEGMENT_REGISTERS, type X86State } from "../x86/state.ts";
import { vcpuOfVmcb, vcpuOfVmcs, type Whose } from "./from-host.ts";
import type { Guest, Vcpu } from "./guest.ts";
import { withKvmState } from "./kvm-state.ts";

/**
 * The registers of a vCPU as the note of its control block has them; `sources` names every register that is in it.
 * @param layouts of a VMCS: the one the core describes, or those that may be tried
 * @returns a sentence's end that says why the note cannot be used, where it cannot
 */
export function vcpuOfNote(note: RegionNote, layouts: readonly VmcsLayout[]): Vcpu | string {
  const { owner, vcpu: index, complete, address, kept } = note;
  const source = address === undefined ? `${owner} note` : `${owner} note, ${hex(address)} of the host`;
  const whose: Whose = { index, source, trust: complete ? "current" : "may-be-stale" };
  const found = owner === "VMCS" ? vcpuOfVmcsNote(note, layouts, whose) : vcpuOfVmcbNote(note, whose);
  if (typeof found === "string") return found;
  const sources = Object.entries(found.sources ?? {}).map(([register, text]) => [
    register,
    text.replace(/^VMC[SB]\b/, "$& note"),
  ]);
  const noted = { ...found, sources: Object.fromEntries(sources) as Record<string, string> };
  return kept === undefined ? noted : withKvmState(noted, kept);
}

function vcpuOfVmcsNote({ bytes }: RegionNote, layouts: readonly VmcsLayout[], whose: Whose): Vcpu | string {
  const scanner = new VmcsScanner(layouts);
  scanner.scan(bytes, 0);
  const region = scanner.result.candidates[0]?.region;
  if (region === undefined) return "it does not look like a VMCS of the layout";
  return vcpuOfVmcs(region, undefined, whose) ?? "the layout lacks fields that every state has";
}

function vcpuOfVmcbNote({ bytes }: RegionNote, whose: Whose): Vcpu | string {
  const scanner = new VmcbScanner();
  scanner.scan(bytes, 0);
  if (scanner.candidates.length === 0) return "it does not look like a VMCB";
  return vcpuOfVmcb(decodeVmcb(bytes), whose) ?? "the guest's state is encrypted";
}

/** What became of a note: over QEMU's copy, without one, or left because QEMU's copy is current. */
export type NoteUse = "over-stale" | "alone" | "not-needed";

/** What `sources` says of a register that QEMU's copy had to fill in. */
const STALE = "QEMU CPUX86State, stale";
const STALE_CAVEAT =
  "registers that are stale are what QEMU last fetched, of an earlier moment than the others";

/**
 * QEMU's vCPUs with the registers of their notes where QEMU's own are not current, and vCPUs that only have a note.
 * @param unnamed whether QEMU's vCPUs were found by their shape alone: which is which is not known then, and notes
 *   stand in for all of them
 * @returns vCPUs ascending by index; vCPU → what became of its note
 */
export function withNotes(
  vcpus: readonly Vcpu[],
  noted: readonly Vcpu[],
  unnamed: boolean,
): { readonly vcpus: readonly Vcpu[]; readonly uses: ReadonlyMap<number, NoteUse> } {
  const own = unnamed && noted.length > 0 ? [] : vcpus;
  const found = new Map(own.map((vcpu) => [vcpu.index, vcpu]));
  const uses = new Map<number, NoteUse>();
  for (const note of noted) {
    const copy = found.get(note.index);
    if (copy?.trust === "current") {
      uses.set(note.index, "not-needed");
      found.set(note.index, { ...copy, ...fpuOf(note) });
    } else {
      uses.set(note.index, copy === undefined ? "alone" : "over-stale");
      found.set(note.index, copy === undefined ? note : over(copy, note));
    }
  }
  return { vcpus: [...found.values()].sort((a, b) => a.index - b.index), uses };
}

/** QEMU's copy of the FPU is not read. */
const fpuOf = ({ fpu }: Vcpu): Pick<Vcpu, "fpu"> => (fpu === undefined ? {} : { fpu });

const SYSTEM = ["rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer", "kernelGsBase"] as const;
const TABLES = ["gdt", "idt"] as const;
const REGISTERS = [...GENERAL_REGISTERS, ...SYSTEM, ...TABLES, ...SEGMENT_REGISTERS];

/** Registers the note holds from the note, all others from QEMU. */
function over(own: Vcpu, note: Vcpu): Vcpu {
  const sources = note.sources ?? {};
  const pick = <K extends string>(names: readonly K[], from: Readonly<Record<K, unknown>>) =>
    Object.fromEntries(
      names.filter((name) => Object.hasOwn(sources, name)).map((name) => [name, from[name]]),
    );
  const state: X86State = {
    ...own.state,
    ...pick([...GENERAL_REGISTERS, ...SYSTEM, ...TABLES], note.state),
    segments: { ...own.state.segments, ...pick(SEGMENT_REGISTERS, note.state.segments) },
  };
  const isWhole = REGISTERS.every((name) => Object.hasOwn(sources, name));
  return {
    index: own.index,
    state,
    source: isWhole ? note.source : `${note.source}; ${own.source}, stale`,
    trust: isWhole ? note.trust : note.trust === "current" ? "partly-stale" : "may-be-stale",
    halted: note.halted,
    sources: Object.fromEntries(REGISTERS.map((name) => [name, sources[name] ?? STALE])),
    caveats: [...(note.caveats ?? []), ...(isWhole ? [] : [STALE_CAVEAT])],
    ...fpuOf(note),
  };
}

/** Registers of a vCPU by where they are from: its note, or QEMU's stale copy; as people write them. */
export function registersBySource({ sources = {} }: Vcpu): {
  readonly noted: string;
  readonly stale: string;
} {
  const isStale = (name: string) => sources[name] === STALE;
  const named = REGISTERS.filter((name) => Object.hasOwn(sources, name));
  return {
    noted: registerList(named.filter((name) => !isStale(name))),
    stale: registerList(named.filter(isStale)),
  };
}

/** `rax, rbx, r8-r15, cr2, kernel_gs_base, segments`. */
function registerList(names: readonly string[]): string {
  const short = (all: readonly string[], text: string, list: readonly string[]): readonly string[] =>
    all.every((name) => list.includes(name))
      ? list.flatMap((name) => (name === all[0] ? [text] : all.includes(name) ? [] : [name]))
      : list;
  const numbered = GENERAL_REGISTERS.filter((name) => /^r\d/.test(name));
  return short(SEGMENT_REGISTERS, "segments", short(numbered, "r8-r15", names))
    .map((name) => (name === "kernelGsBase" ? "kernel_gs_base" : name))
    .join(", ");
}

/**
 * Whether a state can be of this guest: its page tables are in the guest's memory and map the interrupt descriptor
 * table, which every kernel's do, in user mode too.
 * @returns undefined when there is no telling
 */
export function fitsGuest(
  { memory, ranges }: Pick<Guest, "memory" | "ranges">,
  { state, sources }: Vcpu,
): boolean | undefined {
  if (sources !== undefined && !Object.hasOwn(sources, "cr3")) return undefined;
  let isOutside = rangeAt(ranges, Number(state.cr3 & CR3_FRAME)) === undefined;
  const watched: PhysicalMemory = {
    ranges,
    extentAt: (address, limit, holes) => memory.extentAt(address, limit, holes),
    readPage: (address, target) => {
      isOutside ||= rangeAt(ranges, address) === undefined;
      return memory.readPage(address, target);
    },
  };
  const tables = pageTablesOf(watched, state);
  if (tables === undefined || state.idt.base === 0n) return undefined;
  const mapping = tables.translate(state.idt.base);
  if (mapping.mapped) return true;
  // A table that the core lacks could be right; one where the guest has no memory is none.
  return mapping.reason === "table-missing" && !isOutside ? undefined : false;
}

/**
 * A vCPU whose note has the task register of another, going by what QEMU last saw of both: every processor of a kernel
 * has a task state segment of its own, which stays where it is.
 */
export function foreignTask(vcpus: readonly Vcpu[], noted: readonly Vcpu[]): number | undefined {
  const owners = new Map<bigint, number>();
  for (const { index, state } of vcpus) owners.set(state.segments.tr.base, index);
  owners.delete(0n);
  const bases = new Map(vcpus.map(({ index, state }) => [index, state.segments.tr.base]));
  return noted.find(({ index, state }) => {
    const { base } = state.segments.tr;
    const owner = owners.get(base);
    return owner !== undefined && owner !== index && bases.get(index) !== base;
  })?.index;
}

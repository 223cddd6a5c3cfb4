import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import {
  GENERAL_REGISTERS,
  type GeneralRegister,
  SEGMENT_REGISTERS,
  type Segment,
  type SegmentRegister,
  type TableRegister,
} from "../x86/state.ts";
import type { DumpedCpu, DumpFiles } from "./format.ts";
import { numberOf, TagWalk, type VmwareTag } from "./vmware-tags.ts";

/** The block "gpregs": not the order of the instruction encoding, in which RSP comes before RBP (crash vmware_vmss.h). */
const GPREGS: readonly GeneralRegister[] = [
  ...(["rax", "rcx", "rdx", "rbx", "rbp", "rsp", "rsi", "rdi"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const),
];

/** vSphere 8 gives a machine 768. */
const MAX_CPUS = 4096;
/** The largest block that is read. */
const MAX_BLOCK = 128;

/** Values of one vCPU by name: the tag's, with the number of a control register or the part of a descriptor table's. */
type Values = Map<string, bigint>;

/**
 * Reads the registers of every vCPU from the group "cpu". Descriptions of the format do not tell how segment registers,
 * EFER and the other model-specific registers are stored: those stay unknown.
 */
export async function readVmwareCpus(
  source: ByteSource,
  position: number | undefined,
  checkpoint?: DumpFiles["checkpoint"],
): Promise<{ readonly cpus: readonly DumpedCpu[]; readonly warnings: readonly Warning[] }> {
  if (position === undefined) return { cpus: [], warnings: [unread("has none")] };
  const { count, values, whole } = await collect(source, position, checkpoint);
  const cpus: DumpedCpu[] = [];
  const lacking = new Set<string>();
  for (let index = 0; index < count; index++) {
    const cpu = cpuOf(index, values.get(index) ?? new Map());
    if (typeof cpu === "string") lacking.add(cpu);
    else cpus.push(cpu);
  }
  const lost = count - cpus.length;
  const warnings = cpus.length === 0 ? [] : [SEGMENTS_UNKNOWN];
  if (!whole) warnings.push(CUT);
  if (lost > 0) warnings.push(unread(`lacks ${[...lacking].join(", ")} of ${plural(lost, "vCPU")}`));
  if (count === 0) warnings.push(unread("does not count the vCPUs"));
  return { cpus, warnings };
}

const unread = (what: string): Warning => ({
  code: "DMP022",
  message: `registers cannot be read: the state file ${what}`,
});

const CUT: Warning = {
  code: "DMP025",
  message: "the state file ends, or is damaged, inside the registers: those behind are not known",
  hint: "copy the file again",
};

const SEGMENTS_UNKNOWN: Warning = {
  code: "DMP023",
  message: "segment registers and EFER are not read from VMware state files: notes have zeros in their place",
};

async function collect(
  source: ByteSource,
  position: number,
  checkpoint: DumpFiles["checkpoint"],
): Promise<{ count: number; values: Map<number, Values>; whole: boolean }> {
  const walk = new TagWalk(source, position, checkpoint);
  const values = new Map<number, Values>();
  let count = 0;
  for await (const tag of walk) {
    const [cpu] = tag.indexes;
    if (tag.name === "cpu:numVCPUs") count = Math.min(MAX_CPUS, Number(numberOf(walk.bytesOf(tag, 8)) ?? 0n));
    if (!READ.has(tag.name) || cpu === undefined || cpu >= MAX_CPUS || tag.kind === "compressed block")
      continue;
    const known = values.get(cpu) ?? new Map<string, bigint>();
    values.set(cpu, known);
    take(known, tag, walk.bytesOf(tag, MAX_BLOCK));
  }
  return { count, values, whole: walk.whole };
}

const READ: ReadonlySet<string> = new Set([
  ...GENERAL_REGISTERS,
  ...["rip", "eflags", "EFLAGS", "halted", "gpregs", "CR64", "GDTR", "IDTR"],
]);

const TABLES: ReadonlySet<string> = new Set(["GDTR", "IDTR"]);

/** A register has a value of its own, or several are one block. */
function take(known: Values, { name, indexes, kind }: VmwareTag, bytes: Buffer): void {
  if (kind === "value") {
    const value = numberOf(bytes);
    const key = keyOf(name.toLowerCase(), indexes[1]);
    if (value !== undefined && KEPT.has(key)) known.set(key, value);
    return;
  }
  if (name === "gpregs" && bytes.length === 8 * GPREGS.length) {
    for (const [i, register] of GPREGS.entries()) known.set(register, bytes.readBigUInt64LE(8 * i));
  } else if (name === "CR64") {
    for (let i = 0; 8 * i + 8 <= bytes.length && i < CONTROL_REGISTERS; i++)
      known.set(keyOf("cr64", i), bytes.readBigUInt64LE(8 * i));
  } else if (TABLES.has(name) && bytes.length === 10) {
    const table = name.toLowerCase();
    known.set(keyOf(table, 0), BigInt(bytes.readUInt16LE(0)));
    known.set(keyOf(table, 1), BigInt(bytes.readUInt32LE(2)));
    known.set(keyOf(table, 2), BigInt(bytes.readUInt32LE(6)));
  }
}

const keyOf = (name: string, index: number | undefined): string =>
  index === undefined ? name : `${name}[${index}]`;

/** CR0 to CR8. */
const CONTROL_REGISTERS = 9;

/** What is kept of a vCPU, as `keyOf` spells it: a value may have any number, and what nobody asks for would only pile up. */
const KEPT: ReadonlySet<string> = new Set([
  ...GENERAL_REGISTERS,
  ...["rip", "eflags", "halted"],
  ...Array.from({ length: CONTROL_REGISTERS }, (_, i) => keyOf("cr64", i)),
  ...[...TABLES].flatMap((table) => [0, 1, 2].map((part) => keyOf(table.toLowerCase(), part))),
]);

/** Without these a vCPU's state is no use; by what VMware calls them. */
const NEEDED = ["rip", "rsp", "eflags", "cr64[0]", "cr64[3]", "cr64[4]"] as const;

const UNKNOWN_SEGMENT: Segment = { selector: 0, base: 0n, limit: 0, flags: 0 };

/** @returns the name of a register that is missing when one is */
function cpuOf(index: number, known: Values): DumpedCpu | string {
  const missing = NEEDED.find((name) => !known.has(name));
  if (missing !== undefined) return missing;
  const general = Object.fromEntries(GENERAL_REGISTERS.map((name) => [name, known.get(name)])) as Record<
    GeneralRegister,
    bigint | undefined
  >;
  const segments = Object.fromEntries(SEGMENT_REGISTERS.map((name) => [name, UNKNOWN_SEGMENT])) as Record<
    SegmentRegister,
    Segment
  >;
  const halted = known.get("halted");
  return {
    index,
    source: `VMware state file, vCPU ${index}`,
    halted: halted === undefined ? undefined : halted !== 0n,
    state: {
      ...general,
      rip: known.get("rip")!,
      rflags: known.get("eflags")!,
      segments,
      gdt: tableOf(known, "gdtr"),
      idt: tableOf(known, "idtr"),
      cr0: known.get("cr64[0]")!,
      cr2: known.get("cr64[2]"),
      cr3: known.get("cr64[3]")!,
      cr4: known.get("cr64[4]")!,
      efer: undefined,
      kernelGsBase: undefined,
    },
  };
}

/** Limit, and the base in two halves. */
function tableOf(known: Values, name: "gdtr" | "idtr"): TableRegister {
  const [limit, low, high] = [0, 1, 2].map((part) => known.get(keyOf(name, part)) ?? 0n) as [
    bigint,
    bigint,
    bigint,
  ];
  return { limit: Number(limit), base: (high << 32n) | low };
}

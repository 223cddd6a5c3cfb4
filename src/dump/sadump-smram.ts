import { Parser } from "binary-parser";
import type { ByteSource } from "../core/memory.ts";
import { hex } from "../core/text.ts";
import type { GeneralRegister, SegmentRegister, TableRegister } from "../x86/state.ts";
import type { SadumpHeader } from "./sadump-header.ts";

/**
 * A processor's registers as they were when the SMI came: the upper half of its state save area in SMRAM, at
 * SMBASE + 0xfc00 (Intel SDM Vol. 3C Table 32-3; struct sadump_smram_cpu_state). It has the selectors of segments, and
 * nothing of their hidden parts.
 */
export interface SmramState {
  readonly general: Readonly<Record<GeneralRegister, bigint>>;
  readonly rip: bigint;
  readonly rflags: bigint;
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly gdt: TableRegister;
  readonly idt: TableRegister;
  readonly ldt: TableRegister;
  readonly selectors: Readonly<Record<SegmentRegister, number>>;
  readonly halted: boolean;
  /** The EPT pointer where the SMI came in VMX non-root operation: the registers are the guest's. */
  readonly eptp: bigint | undefined;
  readonly source: string;
}

const ORDER = [
  ...(["r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8"] as const),
  ...(["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const),
];

const general = ORDER.reduce((parser, name) => parser.uint64(name), new Parser().endianness("little"));

const parser = new Parser()
  .endianness("little")
  .seek(464)
  .uint32("gdtUpper")
  .uint32("ldtUpper")
  .uint32("idtUpper")
  .seek(100)
  .uint32("cr4")
  .seek(72)
  .uint32("gdtLower")
  .uint32("gdtLimit")
  .uint32("idtLower")
  .uint32("idtLimit")
  .uint32("ldtLower")
  .uint32("ldtLimit")
  .seek(52)
  .uint64("eptp")
  .uint32("eptpSetting")
  .seek(30)
  .uint16("autoHaltRestart")
  .seek(24)
  .nest("general", { type: general })
  .seek(12)
  .uint32("es")
  .uint32("cs")
  .uint32("ss")
  .uint32("ds")
  .uint32("fs")
  .uint32("gs")
  .uint32("ldt")
  .uint32("tr")
  .seek(16)
  .uint64("rip")
  .uint64("efer")
  .uint64("rflags")
  .uint64("cr3")
  .uint64("cr0");

type TableField = `${"gdt" | "ldt" | "idt"}${"Upper" | "Lower" | "Limit"}`;
type Wide = "eptp" | "rip" | "efer" | "rflags" | "cr3" | "cr0";

interface Parsed
  extends Readonly<Record<SegmentRegister | TableField | "cr4" | "eptpSetting" | "autoHaltRestart", number>>,
    Readonly<Record<Wide, bigint>> {
  readonly general: SmramState["general"];
}

const STATE_SIZE = 1024;
/** struct sadump_apic_state: the registers APIC ID and LDR, u64 each. */
const APIC_STATE = 16;
/** APIC IDs; more processors than Linux supports are nobody's. */
const MAX_STATES = 65_536;
const MAX_CPUS = 8192;

/**
 * The states of all processors, by APIC ID. Behind the size of all states the sub header has each processor's APIC
 * registers, then each one's state; that of an APIC ID which no processor has is zeros but for what is reserved.
 */
export function smramStates(source: ByteSource, header: SadumpHeader): SmramState[] {
  const { subHeader, subHeaderSize, cpus } = header;
  const total = smramSize(source, header);
  const size = cpus === 0 ? 0 : Math.floor(total / cpus);
  const first = 4 + APIC_STATE * cpus;
  if (size < STATE_SIZE || cpus > MAX_STATES || first + total > subHeaderSize) return [];
  const bytes = Buffer.alloc(STATE_SIZE);
  const states: SmramState[] = [];
  for (let i = 0; i < cpus && states.length < MAX_CPUS; i++) {
    const offset = subHeader + first + i * size;
    if (source.read(offset, bytes) < STATE_SIZE) break;
    const state = decode(bytes, `SMRAM state of APIC ID ${i} at offset ${hex(offset)}`);
    if (state !== undefined) states.push(state);
  }
  return states;
}

/** Bytes of all states together, which the sub header begins with; 0 where there is none. */
function smramSize(source: ByteSource, { subHeader, subHeaderSize }: SadumpHeader): number {
  const bytes = Buffer.alloc(4);
  return subHeaderSize > 0 && source.read(subHeader, bytes) === 4 ? bytes.readUInt32LE() : 0;
}

/** The auto HALT restart field has bit 0 set when the SMI came in HLT (Intel SDM Vol. 3C §32.10). */
const IN_HLT = 1;

function decode(bytes: Buffer, source: string): SmramState | undefined {
  const parsed = parser.parse(bytes) as Parsed;
  const { general: registers, rip, rflags, cr0, cr3, efer, eptp, eptpSetting } = parsed;
  // Bit 1 of RFLAGS and CR0.ET are always set.
  if (rflags === 0n && cr0 === 0n) return undefined;
  const table = (name: "gdt" | "ldt" | "idt") => ({
    base: (BigInt(parsed[`${name}Upper`]) << 32n) | BigInt(parsed[`${name}Lower`]),
    limit: parsed[`${name}Limit`],
  });
  const selector = (name: SegmentRegister) => parsed[name] & 0xffff;
  return {
    general: registers,
    ...{ rip, rflags, cr0, cr3, efer },
    cr4: BigInt(parsed.cr4),
    ...{ gdt: table("gdt"), idt: table("idt"), ldt: table("ldt") },
    selectors: {
      ...{ es: selector("es"), cs: selector("cs"), ss: selector("ss"), ds: selector("ds") },
      ...{ fs: selector("fs"), gs: selector("gs"), ldt: selector("ldt"), tr: selector("tr") },
    },
    halted: (parsed.autoHaltRestart & IN_HLT) !== 0,
    eptp: eptpSetting === 0 ? undefined : eptp,
    source,
  };
}

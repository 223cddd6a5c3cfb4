import { u64big, viewOf } from "../core/bytes.ts";
import { GENERAL_REGISTERS, type Segment, type SegmentRegister, type X86State } from "./state.ts";

/**
 * struct QEMUCPUState, the descriptor of the "QEMU" note that QEMU's dump-guest-memory writes for each processor (QEMU
 * `target/i386/arch_dump.c`): version, size, general registers, RIP, RFLAGS, ten segments of 24 bytes, CR0 to CR4 and,
 * where the size says so, kernel_gs_base.
 */
export const QEMU_CPU_STATE_SIZE = 440;
const VERSION = 1;
const SIZE_WITHOUT_GS_BASE = 432;

const GENERAL = [...GENERAL_REGISTERS, "rip", "rflags"] as const;
const SEGMENTS = [
  "cs",
  "ds",
  "es",
  "fs",
  "gs",
  "ss",
  "ldt",
  "tr",
] as const satisfies readonly SegmentRegister[];
/** Each: u32 selector, u32 limit, u32 flags, u32 padding, u64 base. */
const SEGMENT_SIZE = 24;
const SEGMENTS_AT = 8 + 8 * GENERAL.length;
const GDT_AT = SEGMENTS_AT + SEGMENT_SIZE * SEGMENTS.length;
const IDT_AT = GDT_AT + SEGMENT_SIZE;
const CR_AT = IDT_AT + SEGMENT_SIZE;
const GS_BASE_AT = CR_AT + 5 * 8;

/** What the note cannot say is not known is 0 in it. */
const UNKNOWN = 0n;

/** Encodes the descriptor, with kernel_gs_base. */
export function encodeQemuCpuState(state: X86State): Buffer {
  const desc = Buffer.alloc(QEMU_CPU_STATE_SIZE);
  const view = viewOf(desc);
  const put64 = (at: number, value: bigint | undefined) => view.setBigUint64(at, value ?? UNKNOWN, true);
  const putSegment = (at: number, { selector, limit, flags, base }: Segment) => {
    view.setUint32(at, selector, true);
    view.setUint32(at + 4, limit, true);
    view.setUint32(at + 8, flags, true);
    put64(at + 16, base);
  };
  view.setUint32(0, VERSION, true);
  view.setUint32(4, QEMU_CPU_STATE_SIZE, true);
  for (const [i, name] of GENERAL.entries()) put64(8 + 8 * i, state[name]);
  for (const [i, name] of SEGMENTS.entries())
    putSegment(SEGMENTS_AT + SEGMENT_SIZE * i, state.segments[name]);
  putSegment(GDT_AT, { selector: 0, flags: 0, ...state.gdt });
  putSegment(IDT_AT, { selector: 0, flags: 0, ...state.idt });
  for (const [i, value] of [state.cr0, 0n, state.cr2, state.cr3, state.cr4].entries()) {
    put64(CR_AT + 8 * i, value);
  }
  put64(GS_BASE_AT, state.kernelGsBase);
  return desc;
}

/** Decodes the descriptor; undefined when it is of another version or too short. EFER is not in it. */
export function decodeQemuCpuState(desc: Uint8Array): X86State | undefined {
  if (desc.length < SIZE_WITHOUT_GS_BASE) return undefined;
  const view = viewOf(desc);
  if (view.getUint32(0, true) !== VERSION) return undefined;
  const segmentAt = (at: number): Segment => ({
    selector: view.getUint32(at, true),
    limit: view.getUint32(at + 4, true),
    flags: view.getUint32(at + 8, true),
    base: u64big(view, at + 16),
  });
  const tableAt = (at: number) => ({ base: u64big(view, at + 16), limit: view.getUint32(at + 4, true) });
  const general = GENERAL.map((name, i) => [name, u64big(view, 8 + 8 * i)]);
  const segments = SEGMENTS.map((name, i) => [name, segmentAt(SEGMENTS_AT + SEGMENT_SIZE * i)]);
  const cr = (n: number) => u64big(view, CR_AT + 8 * n);
  return {
    ...(Object.fromEntries(general) as Record<(typeof GENERAL)[number], bigint>),
    segments: Object.fromEntries(segments) as Record<SegmentRegister, Segment>,
    gdt: tableAt(GDT_AT),
    idt: tableAt(IDT_AT),
    cr0: cr(0),
    cr2: cr(2),
    cr3: cr(3),
    cr4: cr(4),
    efer: undefined,
    kernelGsBase: desc.length < QEMU_CPU_STATE_SIZE ? undefined : u64big(view, GS_BASE_AT),
  };
}

import { u64big, viewOf } from "../core/bytes.ts";
import type { ByteSource } from "../core/memory.ts";
import { plural } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import type { GeneralRegister, Segment, SegmentRegister } from "../x86/state.ts";
import type { DumpedCpu } from "./format.ts";

/**
 * struct vcpu_guest_context of x86-64 (Xen public/arch-x86/xen.h): 512 bytes of floating point state, flags, struct
 * cpu_user_regs, then what a paravirtualised vCPU has, with control registers and bases among it.
 */
const CONTEXT_SIZE = 5168;
const USER_REGS = 520;
const CTRLREG = 4984;
const FS_BASE = 5144;
const GS_BASE_KERNEL = 5152;
const GS_BASE_USER = 5160;

/** struct cpu_user_regs: these in eight bytes each, an error code and vector, then the rest by offset. */
const PUSHED: readonly GeneralRegister[] = [
  ...(["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"] as const),
  ...(["rax", "rcx", "rdx", "rsi", "rdi"] as const),
];
const RIP = USER_REGS + 128;
const RFLAGS = USER_REGS + 144;
const RSP = USER_REGS + 152;
const SELECTORS: Readonly<Partial<Record<SegmentRegister, number>>> = {
  cs: USER_REGS + 136,
  ss: USER_REGS + 160,
  es: USER_REGS + 168,
  ds: USER_REGS + 176,
  fs: USER_REGS + 184,
  gs: USER_REGS + 192,
};

const MAX_CPUS = 8192;

/**
 * Reads the vCPUs of a fully virtualised domain. For these Xen fills in user_regs, CR0, CR2, CR3, CR4, selectors and the
 * bases of FS and GS (`arch_get_info_guest` in xen/arch/x86/domctl.c); the rest of the context is a paravirtualised
 * vCPU's alone.
 * @param count what the header says
 */
export function readXenCpus(
  source: ByteSource,
  { offset, size, count }: { readonly offset: number; readonly size: number; readonly count: number },
): { readonly cpus: readonly DumpedCpu[]; readonly warnings: readonly Warning[] } {
  const claimed = Math.min(count, MAX_CPUS);
  if (claimed > 0 && claimed * CONTEXT_SIZE > size) {
    const message = `registers cannot be read: ${size} bytes are not the contexts of ${plural(count, "vCPU")} of x86-64`;
    return { cpus: [], warnings: [{ code: "DMP022", message, where: { offset } }] };
  }
  const cpus: DumpedCpu[] = [];
  const bytes = Buffer.alloc(CONTEXT_SIZE);
  for (let index = 0; index < claimed; index++) {
    const at = offset + index * CONTEXT_SIZE;
    if (source.read(at, bytes) < CONTEXT_SIZE) {
      const message = `registers of ${plural(claimed - index, "vCPU")} are not in the file`;
      return { cpus, warnings: [{ code: "DMP025", message, where: { offset: at } }, ...PARTLY_KNOWN] };
    }
    cpus.push(cpuOf(viewOf(bytes), index, at));
  }
  return { cpus, warnings: cpus.length > 0 ? PARTLY_KNOWN : [] };
}

const PARTLY_KNOWN: readonly Warning[] = [
  {
    code: "DMP023",
    message:
      "a Xen core has no GDTR, IDTR, LDTR, TR, EFER and segment limits: notes have zeros in their place",
  },
];

function cpuOf(view: DataView, index: number, at: number): DumpedCpu {
  const word = (offset: number): bigint => u64big(view, offset);
  const cpl = view.getUint16(SELECTORS.cs!, true) & 3;
  const [gs, otherGs] = cpl === 0 ? [GS_BASE_KERNEL, GS_BASE_USER] : [GS_BASE_USER, GS_BASE_KERNEL];
  const segment = (name: SegmentRegister, base = 0n): Segment => {
    const selector = SELECTORS[name];
    return {
      selector: selector === undefined ? 0 : view.getUint16(selector, true),
      base,
      limit: 0,
      flags: 0,
    };
  };
  const pushed = Object.fromEntries(PUSHED.map((name, i) => [name, word(USER_REGS + 8 * i)])) as Record<
    Exclude<GeneralRegister, "rsp">,
    bigint
  >;
  return {
    index,
    source: `vcpu_guest_context at offset 0x${at.toString(16)}`,
    halted: undefined,
    state: {
      ...pushed,
      rsp: word(RSP),
      rip: word(RIP),
      rflags: word(RFLAGS),
      segments: {
        ...{ es: segment("es"), cs: segment("cs"), ss: segment("ss"), ds: segment("ds") },
        ...{ fs: segment("fs", word(FS_BASE)), gs: segment("gs", word(gs)) },
        ...{ ldt: segment("ldt"), tr: segment("tr") },
      },
      gdt: { base: 0n, limit: 0 },
      idt: { base: 0n, limit: 0 },
      cr0: word(CTRLREG),
      cr2: word(CTRLREG + 16),
      cr3: word(CTRLREG + 24),
      cr4: word(CTRLREG + 32),
      efer: undefined,
      kernelGsBase: word(otherGs),
    },
  };
}

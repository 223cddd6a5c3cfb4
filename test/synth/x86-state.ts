import type { Segment, X86State } from "../../src/x86/state.ts";

const FLAT: Segment = { selector: 0, base: 0n, limit: 0, flags: 0 };

/** A processor with every register 0 but those given. */
export const stateOf = (given: Partial<X86State>): X86State => ({
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: 2n,
  segments: { es: FLAT, cs: FLAT, ss: FLAT, ds: FLAT, fs: FLAT, gs: FLAT, ldt: FLAT, tr: FLAT },
  gdt: { base: 0n, limit: 0 },
  idt: { base: 0n, limit: 0 },
  cr0: 0n,
  cr2: 0n,
  cr3: 0n,
  cr4: 0n,
  efer: 0n,
  kernelGsBase: undefined,
  ...given,
});

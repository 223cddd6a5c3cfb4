import type { ObjectWriter } from "./qemu-objects.ts";
import type { GeneralName, SegmentName, SynthRegisters } from "./qemu-presets.ts";

/** vCPUs: CPUState (`include/hw/core/cpu.h`) and CPUX86State (`target/i386/cpu.h`). */

export interface CpuPlan {
  readonly index: number;
  readonly typeName: string;
  readonly parent: number;
  readonly registers: SynthRegisters;
  readonly halted: boolean;
  /** CPUState.vcpu_dirty: QEMU's copy is the current one. */
  readonly dirty: boolean;
  /** TCG inside a translation block: the arithmetic flags and DF are not in eflags but in cc_* and df. */
  readonly lazyFlags: boolean;
  readonly tcg: boolean;
  readonly systemRegion: number;
}

const REGS: readonly GeneralName[] = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
];
const SEGMENTS: readonly SegmentName[] = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"];

/** An X86CPU with its CPUX86State; `setCpuSpaces` and `linkCpus` complete it. */
export function writeCpu(
  writer: ObjectWriter,
  plan: CpuPlan,
): { readonly cpu: number; readonly env: number } {
  const { cpu: at } = writer.layout;
  const cpu = writer.heap.alloc(at.instanceSize);
  writer.object(cpu, plan.typeName, at.instanceSize, plan.parent, at.classSize);
  const env = cpu + at.env;
  const state = writer.process
    .struct(cpu, `CPUState[${plan.index}]`)
    .raw(48, 8, writer.heap.string(`/machine/unattached/device[${plan.index}]`))
    .raw(56, 1, 1) // realized
    .raw(at.spaces + 24, 8, plan.systemRegion)
    .count(at.index, "cpu_index", plan.index)
    .raw(at.index + 4, 4, -1) // cluster_index
    .flag(at.halted, "halted", plan.halted)
    .raw(at.exceptionIndex, 4, -1)
    .flag(at.dirty, "vcpu_dirty", plan.dirty);
  if (at.envPointer !== undefined) state.pointer(at.envPointer, "env_ptr", env);
  if (plan.tcg) fillTranslationState(writer, cpu);
  const write = plan.typeName.endsWith("-i386-cpu") ? writeRegisters32 : writeRegisters;
  write(writer, env, plan, `CPUX86State[${plan.index}]`);
  return { cpu, env };
}

/** Noise that TCG leaves between CPUState and its registers. */
function fillTranslationState(writer: ObjectWriter, cpu: number): void {
  const { tlb, jumpCache } = writer.layout.cpu;
  for (let at = tlb[0]; at + 8 <= tlb[1]; at += 8) {
    // Every 504 bytes an entry that is in use, as a victim TLB looks.
    writer.process.put(cpu + at, 8, at % 504 === 0 ? 0x0000_7e00_0001_0000 + at : -1);
  }
  for (let i = 0; jumpCache !== undefined && i < 4096; i += 37) {
    writer.process.put(cpu + jumpCache + i * 8, 8, 0x7e10_0000_0000 + i * 0x140);
  }
}

/** CPUX86State up to kernelgsbase, as far as it says something. */
export function writeRegisters(writer: ObjectWriter, env: number, plan: CpuPlan, label: string): void {
  const { registers } = plan;
  const shape = writer.layout.env;
  const shift = (shape.registerCount - 16) * 8;
  const head = env + shift;
  const state = writer.process.struct(env, label);
  for (const [i, name] of REGS.entries()) state.register(i * 8, 8, name, registers[name]);
  const CC_FLAGS = 0x8d5n; // OF SF ZF AF PF CF
  const DF = 0x400n;
  const eflags = plan.lazyFlags ? registers.rflags & ~(CC_FLAGS | DF) : registers.rflags;
  const tail = writer.process.struct(head, label);
  tail.register(128, 8, "eip", registers.rip);
  tail.register(136, 8, "eflags", eflags);
  tail.raw(144, 8, 0x5a5a); // cc_dst
  tail.register(152, 8, "cc_src", registers.rflags & CC_FLAGS);
  tail.raw(168, 4, shape.ccOpEflags);
  tail.raw(172, 4, (registers.rflags & DF) === 0n ? 1 : -1);
  tail.raw(176, 4, hiddenFlags(registers));
  tail.raw(180, 4, 1); // HF2_GIF
  for (const [i, name] of SEGMENTS.entries()) {
    const at = 184 + i * 24;
    const segment = registers.segments[name];
    tail.register(at, 4, `${name}.selector`, segment.selector);
    tail.register(at + 8, 8, `${name}.base`, segment.base);
    tail.register(at + 16, 4, `${name}.limit`, segment.limit);
    tail.register(at + 20, 4, `${name}.flags`, segment.flags);
  }
  for (const [i, name] of (["gdt", "idt"] as const).entries()) {
    tail.register(376 + i * 24 + 8, 8, `${name}.base`, registers[name].base);
    tail.register(376 + i * 24 + 16, 4, `${name}.limit`, registers[name].limit);
  }
  const cr = [registers.cr0, 0n, registers.cr2, registers.cr3, registers.cr4];
  for (const [i, value] of cr.entries()) tail.register(424 + i * 8, 8, `cr${i}`, value);
  tail.raw(shape.a20Mask, 4, -1);
  tail.register(shape.efer, 8, "efer", registers.efer);
  // star, vm_hsave, lstar, cstar, fmask, kernelgsbase
  const { star, lstar, cstar, fmask, kernelGsBase } = registers;
  for (const [i, value] of [star, 0n, lstar, cstar, fmask, kernelGsBase].entries()) {
    tail.register(shape.star + i * 8, 8, `star+${i * 8}`, value);
  }
}

/** The same of a TARGET_I386 build: every target_ulong is 4 bytes, regs[] has eight entries. */
function writeRegisters32(writer: ObjectWriter, env: number, { registers }: CpuPlan, label: string): void {
  const state = writer.process.struct(env, label);
  for (const [i, name] of REGS.slice(0, 8).entries()) state.register(i * 4, 4, name, registers[name]);
  state.register(32, 4, "eip", registers.rip);
  state.register(36, 4, "eflags", registers.rflags);
  for (const [i, name] of SEGMENTS.entries()) {
    const { selector, base, limit, flags } = registers.segments[name];
    for (const [j, value] of [selector, base, limit, flags].entries()) {
      state.register(68 + i * 16 + j * 4, 4, `${name}+${j * 4}`, value);
    }
  }
  for (const [i, name] of (["gdt", "idt"] as const).entries()) {
    state.register(196 + i * 16 + 4, 4, `${name}.base`, registers[name].base);
    state.register(196 + i * 16 + 8, 4, `${name}.limit`, registers[name].limit);
  }
  const cr = [registers.cr0, 0n, registers.cr2, registers.cr3, registers.cr4];
  for (const [i, value] of cr.entries()) state.register(228 + i * 4, 4, `cr${i}`, value);
}

/** CPUState.cpu_ases: the array of {cpu, as, …}; entry 1 is for SMM and exists under TCG only. */
export function setCpuSpaces(
  writer: ObjectWriter,
  cpu: number,
  index: number,
  spaces: readonly number[],
): number {
  const stride = writer.layout.cpuSpaceStride;
  const array = writer.heap.alloc(stride * spaces.length);
  for (const [i, space] of spaces.entries()) {
    writer.process
      .struct(array + i * stride, `CPUAddressSpace[${index}][${i}]`)
      .pointer(0, "cpu", cpu)
      .pointer(8, "as", space)
      .raw(32, 8, writer.text + 0x380)
      .raw(stride - 56, 8, space);
  }
  const at = writer.layout.cpu.spaces;
  writer.process
    .struct(cpu, `CPUState[${index}]`)
    .pointer(at, "cpu_ases", array)
    .count(at + 8, "num_ases", spaces.length)
    .pointer(at + 16, "as", spaces[0] ?? 0);
  return array;
}

/** env->hflags as cpu_sync_… would have it: CPL, CS32, SS32, ADDSEG, PE, MP, EM, TS, LMA, CS64. */
function hiddenFlags(registers: SynthRegisters): number {
  const { cs, ss } = registers.segments;
  const lma = (registers.efer & 0x400n) !== 0n;
  const cs64 = lma && (cs.flags & 0x20_0000) !== 0;
  const bits = [
    (ss.flags >>> 13) & 3,
    cs64 || (cs.flags & 0x40_0000) !== 0 ? 1 << 4 : 0,
    (ss.flags & 0x40_0000) !== 0 ? 1 << 5 : 0,
    (registers.cr0 & 1n) !== 0n ? 1 << 7 : 0,
    Number((registers.cr0 >> 1n) & 7n) << 9,
    lma ? 1 << 14 : 0,
    cs64 ? 1 << 15 : 0,
  ];
  return bits.reduce((all, bit) => all | bit, 0);
}

/** Registers of one vCPU by name, lower case as gdb spells them, with `xx_base`, `xx_limit`, `xx_flags` of segments. */
export type Registers = ReadonlyMap<string, bigint>;

const wide = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split(" ");
const segments = ["es", "cs", "ss", "ds", "fs", "gs"];

/** What gdb must show of a vCPU; orig_rax has no counterpart in a CPU. */
export const userRegisters: readonly string[] = [...wide, "eflags", ...segments, "fs_base", "gs_base"];

/** Reads QEMU's `info registers -a`: one map per vCPU, in order. Vector registers are left out. */
export function parseInfoRegisters(text: string): Registers[] {
  return text
    .split(/^CPU#\d+$/m)
    .slice(1)
    .map((cpu) => {
      const registers = new Map<string, bigint>();
      // Outside 64-bit mode the monitor shows EAX to EIP and EFL, and neither r8 nor its followers.
      for (const [, name, value] of cpu.matchAll(/\b([RE][A-Z0-9]{1,2}|CR[0-4]|EFER) ?= ?([0-9a-f]+)/g)) {
        const key = /FL$/.test(name!) ? "eflags" : name!.toLowerCase().replace(/^e(?=..$)/, "r");
        registers.set(key, BigInt(`0x${value}`));
      }
      const segment = /^([CDEFGS]S|LDT|TR) ?= ?([0-9a-f]{4}) ([0-9a-f]+) ([0-9a-f]{8}) ([0-9a-f]{8})/gm;
      for (const [, name, ...fields] of cpu.matchAll(segment)) {
        const [selector, base, limit, flags] = fields.map((field) => BigInt(`0x${field}`));
        const key = name!.toLowerCase();
        registers
          .set(key, selector!)
          .set(`${key}_base`, base!)
          .set(`${key}_limit`, limit!)
          .set(`${key}_flags`, flags!);
      }
      for (const [, name, base, limit] of cpu.matchAll(/^([GI]DT)= +([0-9a-f]+) ([0-9a-f]+)/gm)) {
        const key = name!.toLowerCase();
        registers.set(`${key}_base`, BigInt(`0x${base}`)).set(`${key}_limit`, BigInt(`0x${limit}`));
      }
      return registers;
    });
}

/** Reads gdb's `thread apply all -ascending info registers`: one map per thread. */
export function parseGdbRegisters(text: string): Registers[] {
  return text
    .split(/^Thread \d+ .*$/m)
    .slice(1)
    .map((thread) => {
      const lines = [...thread.matchAll(/^([a-z0-9_]+) +(0x[0-9a-f]+)/gm)];
      return new Map(lines.map(([, name, value]) => [name!, BigInt(value!)]));
    });
}

// struct elf_prstatus of x86-64: pr_reg, a user_regs_struct, follows 112 bytes of signals, pids and times.
const prStatusRegisters =
  "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs";

/** Reads the descriptor of an NT_PRSTATUS note. */
export function parsePrStatus(desc: Buffer): { readonly pid: number; readonly registers: Registers } {
  const registers = prStatusRegisters
    .split(" ")
    .map((name, index) => [name, desc.readBigUInt64LE(112 + 8 * index)] as const);
  return { pid: desc.readUInt32LE(32), registers: new Map(registers) };
}

/**
 * Reads the descriptor of a "QEMU" note, struct QEMUCPUState of QEMU's target/i386/arch_dump.c: version and size, the
 * general registers, ten segments of 24 bytes, five control registers, and in later versions kernel_gs_base.
 */
export function parseQemuNote(desc: Buffer): {
  readonly version: number;
  readonly size: number;
  readonly registers: Registers;
} {
  const registers = new Map<string, bigint>();
  const names = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags".split(" ");
  for (const [index, name] of names.entries()) registers.set(name, desc.readBigUInt64LE(8 + 8 * index));
  const tables = "cs ds es fs gs ss ldt tr gdt idt".split(" ");
  for (const [index, name] of tables.entries()) {
    const at = 152 + 24 * index;
    registers
      .set(name, BigInt(desc.readUInt32LE(at)))
      .set(`${name}_limit`, BigInt(desc.readUInt32LE(at + 4)))
      .set(`${name}_flags`, BigInt(desc.readUInt32LE(at + 8)))
      .set(`${name}_base`, desc.readBigUInt64LE(at + 16));
  }
  for (let cr = 0; cr < 5; cr++) registers.set(`cr${cr}`, desc.readBigUInt64LE(392 + 8 * cr));
  if (desc.length >= 440) registers.set("kernel_gs_base", desc.readBigUInt64LE(432));
  return { version: desc.readUInt32LE(0), size: desc.readUInt32LE(4), registers };
}

import { PAGE_SIZE } from "../core/address.ts";
import { u64big, viewOf } from "../core/bytes.ts";
import { USER_REGS, type UserRegister } from "../elf/core-notes.ts";
import type { Kernel } from "./kernel.ts";
import { offsetOf } from "./types.ts";

export type UserRegisters = Readonly<Record<UserRegister, bigint>>;

/** struct pt_regs of x86-64, 21 words in the order of user_regs_struct, which debuggers rely on. */
const PT_REGS = USER_REGS.slice(0, 21);
const PT_REGS_SIZE = 8 * PT_REGS.length;
/** TOP_OF_KERNEL_STACK_PADDING: 16 with CONFIG_X86_FRED (6.9+), else 0. */
const PADDINGS = [0n, 16n];
/** THREAD_SIZE of x86-64 where nothing tells: 16 KiB (3.15+). KASAN doubles it. */
const THREAD_SIZE = 16_384;
const MAX_THREAD_SIZE = 2 ** 18;
/** Requested privilege level of a selector; FRED keeps flags above its 16 bits. */
const RPL = 3n;
const SELECTOR = 0xffffn;
const RFLAGS_FIXED = 2n;

/**
 * The registers of a thread in user mode, as it left it for the kernel the last time: an exception, interrupt or system
 * call stores them at the top of the thread's kernel stack.
 * @param task address of its task_struct
 * @returns undefined where the stack is not in the dump, or holds no user registers: a kernel thread's
 */
export function userRegisters(kernel: Kernel, task: bigint): UserRegisters | undefined {
  const { reader, types } = kernel;
  const offset = offsetOf(types, "task_struct.stack");
  const stack = offset === undefined ? undefined : reader.u64(task + BigInt(offset));
  if (!stack) return undefined;
  const end = stack + BigInt(stackSizeOf(kernel, task));
  for (const padding of PADDINGS) {
    const bytes = reader.bytes(end - padding - BigInt(PT_REGS_SIZE), PT_REGS_SIZE);
    if (bytes === undefined) continue;
    const view = viewOf(bytes);
    const values = Object.fromEntries(PT_REGS.map((name, i) => [name, u64big(view, 8 * i)]));
    const { cs = 0n, ss = 0n, rflags = 0n } = values;
    const isUser = (cs & RPL) === RPL && (ss & RPL) === RPL && (rflags & RFLAGS_FIXED) !== 0n;
    if (!isUser) continue;
    const pushed = { ...values, cs: cs & SELECTOR, ss: ss & SELECTOR };
    return { ...pushed, ...threadRegisters(kernel, task) } as Record<UserRegister, bigint>;
  }
  return undefined;
}

/** Whether a processor runs the thread; false where the kernel does not tell. */
export function isRunning({ reader, types }: Kernel, task: bigint): boolean {
  const offset = offsetOf(types, "task_struct.on_cpu");
  return offset !== undefined && reader.u32(task + BigInt(offset)) === 1;
}

/** What the kernel switches with the thread; 0 where the types do not tell. */
function threadRegisters({ reader, types }: Kernel, task: bigint): Partial<UserRegisters> {
  const word = (...names: string[]): bigint => {
    const offset = offsetOf(types, ...names.map((name) => `task_struct.thread.${name}`));
    return offset === undefined ? 0n : (reader.u64(task + BigInt(offset)) ?? 0n);
  };
  const half = (name: string): bigint => word(name) & SELECTOR;
  return {
    // Renamed in 4.7.
    fs_base: word("fsbase", "fs"),
    gs_base: word("gsbase", "gs"),
    ds: half("ds"),
    es: half("es"),
    fs: half("fsindex"),
    gs: half("gsindex"),
  };
}

/** Bytes of a kernel stack: as it is mapped (VMAP_STACK, 4.9+), else as the linker laid out the first task's. */
function stackSizeOf({ reader, types, symbols }: Kernel, task: bigint): number {
  const area = offsetOf(types, "task_struct.stack_vm_area");
  const count = offsetOf(types, "vm_struct.nr_pages");
  const mapped = area === undefined ? undefined : reader.u64(task + BigInt(area));
  const pages = mapped && count !== undefined ? reader.u32(mapped + BigInt(count)) : undefined;
  const size = pages === undefined ? 0 : pages * PAGE_SIZE;
  if (size > 0 && size <= MAX_THREAD_SIZE) return size;
  // Renamed in 6.10.
  const start = symbols.addressOf("__start_init_stack") ?? symbols.addressOf("__start_init_task");
  const end = symbols.addressOf("__end_init_stack") ?? symbols.addressOf("__end_init_task");
  const linked = start === undefined || end === undefined ? 0n : end - start;
  return linked > 0n && linked <= BigInt(MAX_THREAD_SIZE) ? Number(linked) : THREAD_SIZE;
}

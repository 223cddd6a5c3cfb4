import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { USER_REGS } from "../src/elf/core-notes.ts";
import { FilePaths } from "../src/kernel/file-paths.ts";
import type { Kernel } from "../src/kernel/kernel.ts";
import { processFacts, savedAuxv } from "../src/kernel/process-facts.ts";
import { fpuState } from "../src/kernel/thread-fpu.ts";
import { isRunning, userRegisters } from "../src/kernel/thread-registers.ts";
import { fpuStateOf } from "../src/x86/fpu-state.ts";
import { readerOf } from "./support/kernel-heap.ts";
import { symbolsOf, typesOf } from "./support/kernel-tables.ts";
import { KernelHeap } from "./synth/kernel-heap.ts";
import { dentry, file, mount, offsetIn, PROCESS_LAYOUT, setIn } from "./synth/process-heap.ts";

const kernelOf = (heap: KernelHeap, symbols: Readonly<Record<string, bigint>> = {}): Kernel => ({
  reader: readerOf(heap.pieces),
  symbols: symbolsOf(symbols),
  types: typesOf(PROCESS_LAYOUT, { task_struct: 400 }, { PIDTYPE_PGID: 2n, PIDTYPE_SID: 3n }),
});

describe("paths of files", () => {
  const ANON = 0xffff_8880_dddd_0000n;
  const SIMPLE = 0xffff_8880_eeee_0000n;
  const build = () => {
    const heap = new KernelHeap();
    const root = dentry(heap, "/");
    const top = mount(heap, root);
    const usr = dentry(heap, "usr", root);
    const lib = dentry(heap, "lib", usr);
    const inner = dentry(heap, "/");
    const below = mount(heap, inner, { parent: top, at: lib });
    return { heap, root, top, usr, lib, inner, below, pathOf: (at: bigint) => paths(heap).pathOf(at) };
  };
  const paths = (heap: KernelHeap) =>
    new FilePaths(kernelOf(heap, { anon_inodefs_dname: ANON, simple_dname: SIMPLE }));

  test("go up through directories and mounts", () => {
    const { heap, top, usr, inner, below, root, pathOf } = build();
    expect(pathOf(file(heap, dentry(heap, "tool", usr), top))).toBe("/usr/tool");
    expect(pathOf(file(heap, dentry(heap, "libc.so.6", dentry(heap, "x86", inner)), below))).toBe(
      "/usr/lib/x86/libc.so.6",
    );
    expect(pathOf(file(heap, inner, below))).toBe("/usr/lib");
    expect(pathOf(file(heap, root, top))).toBe("/");
    expect(pathOf(file(heap, dentry(heap, "caf\xe9", usr), top))).toBe("/usr/caf\xe9");
  });

  test("say what was deleted, and what is in no directory", () => {
    const { heap, top, usr, pathOf } = build();
    const gone = dentry(heap, "gone", usr);
    setIn(heap, gone, "dentry.d_hash.pprev", 0n);
    expect(pathOf(file(heap, gone, top))).toBe("/usr/gone (deleted)");
    const special = (name: string, call: bigint) => {
      const entry = dentry(heap, name);
      const pseudo = mount(heap, dentry(heap, "anon:"));
      const table = heap.take(32);
      setIn(heap, table, "dentry_operations.d_dname", call);
      setIn(heap, entry, "dentry.d_op", table);
      return pathOf(file(heap, entry, pseudo));
    };
    expect(special("kvm-vcpu:0", ANON)).toBe("anon_inode:kvm-vcpu:0");
    expect(special("memfd:pc.ram", SIMPLE)).toBe("/memfd:pc.ram (deleted)");
    expect(special("net", 0x1234n)).toBe("net");
  });

  test("are not known where the dump lacks a part, and end where they go round", () => {
    const { heap, top, usr, pathOf } = build();
    const round = dentry(heap, "round", usr);
    const other = dentry(heap, "other", round);
    setIn(heap, round, "dentry.d_parent", other);
    expect(pathOf(file(heap, other, top))).toBeUndefined();
    for (const [member, value] of [
      ["dentry.d_name.name", 0x10n],
      ["dentry.d_name.len", 300n],
      ["dentry.d_name.len", 0n],
      ["dentry.d_parent", 0n],
    ] as const) {
      const broken = dentry(heap, "broken", usr);
      setIn(heap, broken, member, value);
      expect(pathOf(file(heap, broken, top)), member).toBeUndefined();
    }
    expect(pathOf(0x40n)).toBeUndefined();
    expect(new FilePaths({ ...kernelOf(heap), types: typesOf({}) }).pathOf(usr)).toBeUndefined();
  });
});

describe("registers of threads", () => {
  /** @param top bytes between the registers and the end of the stack */
  const threadIn = (heap: KernelHeap, { size = 16_384, top = 0, cs = 0x33n } = {}) => {
    const task = heap.take(400, 64);
    const stack = heap.take(size, 4096);
    const at = stack + BigInt(size - top - 168);
    for (let i = 0; i < 21; i++) heap.put(at + BigInt(8 * i), BigInt(1000 + i));
    heap.put(at + 8n * 17n, cs);
    heap.put(at + 8n * 18n, 0x246n);
    heap.put(at + 8n * 20n, 0x2bn);
    setIn(heap, task, "task_struct.stack", stack);
    setIn(heap, task, "task_struct.thread.fsbase", 0x7f00_0000_1234n);
    setIn(heap, task, "task_struct.thread.gsbase", 0x55n);
    setIn(heap, task, "task_struct.thread.gsindex", 0x63n);
    return task;
  };

  test.each([
    ["at the top of the stack", { top: 0 }],
    ["below FRED's frame", { top: 16, cs: 0x33n | (1n << 57n) }],
  ])("lie %s", (_, place) => {
    const heap = new KernelHeap();
    const task = threadIn(heap, place);
    const found = userRegisters(kernelOf(heap), task)!;
    expect(Object.keys(found).toSorted()).toEqual([...USER_REGS].toSorted());
    expect(found).toMatchObject({ r15: 1000n, rax: 1010n, orig_rax: 1015n, rip: 1016n, rsp: 1019n });
    expect(found).toMatchObject({ cs: 0x33n, rflags: 0x246n, ss: 0x2bn, fs_base: 0x7f00_0000_1234n });
    expect(found).toMatchObject({ gs_base: 0x55n, ds: 0n, gs: 0x63n });
  });

  test("of a larger stack, as its mapping or the linker tells", () => {
    const heap = new KernelHeap();
    const mapped = threadIn(heap, { size: 32_768 });
    const area = heap.take(32);
    setIn(heap, area, "vm_struct.nr_pages", 8n);
    setIn(heap, mapped, "task_struct.stack_vm_area", area);
    expect(userRegisters(kernelOf(heap), mapped)).toMatchObject({ rip: 1016n });
    const plain = threadIn(heap, { size: 32_768 });
    expect(userRegisters(kernelOf(heap), plain)).toBeUndefined();
    const linked = { __start_init_task: 0x1000n, __end_init_task: 0x9000n };
    expect(userRegisters(kernelOf(heap, linked), plain)).toMatchObject({ rip: 1016n });
  });

  test("are not known of the kernel's own threads, nor without a stack", () => {
    const heap = new KernelHeap();
    const own = threadIn(heap, { cs: 0x10n });
    expect(userRegisters(kernelOf(heap), own)).toBeUndefined();
    expect(userRegisters(kernelOf(heap), heap.take(400))).toBeUndefined();
    const lost = threadIn(heap);
    setIn(heap, lost, "task_struct.stack", 0x1000n);
    expect(userRegisters(kernelOf(heap), lost)).toBeUndefined();
  });

  test("of the FPU are the thread's own while KVM has a guest's in their place", () => {
    const heap = new KernelHeap();
    const task = heap.take(400, 64);
    const states = [1, 2].map((fill) => {
      const state = heap.take(64 + 832, 64);
      const regs = state + offsetIn("fpstate.regs");
      for (let at = 0; at < 832; at++) heap.put(regs + BigInt(at), BigInt(fill), 1);
      heap.put(regs + 512n, 7n);
      heap.put(regs + 520n, (1n << 63n) | 7n);
      return state;
    });
    const fpu = task + offsetIn("task_struct.thread.fpu");
    heap.put(fpu + offsetIn("fpu.fpstate"), states[0]!);
    expect(fpuState(kernelOf(heap), task)?.legacy[160]).toBe(1);
    setIn(heap, task, "task_struct.on_cpu", 1n);
    expect(isRunning(kernelOf(heap), task)).toBe(true);
    expect(fpuState(kernelOf(heap), task)).toBeUndefined();
    heap.put(fpu + offsetIn("fpu.__task_fpstate"), states[1]!);
    const found = fpuState(kernelOf(heap), task)!;
    expect([found.legacy[160], found.extended?.[576]]).toEqual([2, 2]);
  });

  test("of the FPU that are in their initial state have its values, whatever lies there", () => {
    const mask = fc.integer({ min: 0, max: 7 });
    fc.assert(
      fc.property(
        mask,
        fc.boolean(),
        fc.uint8Array({ minLength: 832, maxLength: 832 }),
        (valid, packed, raw) => {
          const area = Buffer.from(raw);
          area.writeBigUInt64LE(BigInt(valid), 512);
          area.writeBigUInt64LE(packed ? (1n << 63n) | 7n : 0n, 520);
          const found = fpuStateOf(area);
          if (valid === 0 && !packed) {
            expect(found).toBeUndefined();
            return;
          }
          const { legacy, extended } = found!;
          const has = (bit: number) => (valid & bit) !== 0;
          expect(legacy).toHaveLength(512);
          expect(legacy.readUInt16LE(0)).toBe(has(1) ? area.readUInt16LE(0) : 0x37f);
          expect(legacy.readUInt32LE(24)).toBe(has(6) ? area.readUInt32LE(24) : 0x1f80);
          const xmm = has(2) ? area.subarray(160, 416) : Buffer.alloc(256);
          expect(legacy.subarray(160, 416).equals(xmm)).toBe(true);
          expect(extended !== undefined).toBe(packed || has(4));
          if (extended === undefined) return;
          expect([extended.readUInt32LE(464), extended.readUInt32LE(512)]).toEqual([7, valid]);
          const high = has(4) ? area.subarray(576, 832) : Buffer.alloc(256);
          expect(extended.subarray(576).equals(high)).toBe(true);
        },
      ),
      { numRuns: 200, seed: 5 },
    );
  });
});

test("what a core says of a process as a whole", () => {
  const heap = new KernelHeap();
  const [task, parent, cred, signal, group, session] = Array.from({ length: 6 }, () => heap.take(400));
  setIn(heap, task!, "task_struct.real_parent", parent!);
  setIn(heap, parent!, "task_struct.tgid", 17n);
  setIn(heap, task!, "task_struct.cred", cred!);
  setIn(heap, cred!, "cred.uid", 1000n);
  setIn(heap, cred!, "cred.gid", 100n);
  setIn(heap, task!, "task_struct.static_prio", 115n);
  setIn(heap, task!, "task_struct.flags", 0x40_0040n);
  setIn(heap, task!, "task_struct.signal", signal!);
  heap.put(signal! + offsetIn("signal_struct.pids") + 16n, group!);
  heap.put(signal! + offsetIn("signal_struct.pids") + 24n, session!);
  setIn(heap, group!, "pid.numbers.nr", 20n);
  setIn(heap, session!, "pid.numbers.nr", 19n);
  expect(processFacts(kernelOf(heap), task!)).toEqual({
    ...{ ppid: 17, pgrp: 20, sid: 19, uid: 1000, gid: 100, nice: -5, flags: 0x40_0040 },
  });
  const nothing = { ppid: 0, pgrp: 0, sid: 0, uid: 0, gid: 0, nice: 0, flags: 0 };
  expect(processFacts(kernelOf(heap), 0x1000n)).toEqual(nothing);
  expect(processFacts({ ...kernelOf(heap), types: typesOf({}) }, task!)).toEqual(nothing);
});

test("the auxiliary vector ends with AT_NULL", () => {
  const heap = new KernelHeap();
  const mm = heap.take(400);
  const at = mm + offsetIn("mm_struct.saved_auxv");
  for (const [i, word] of [6n, 4096n, 9n, 0x40_1000n].entries()) heap.put(at + BigInt(8 * i), word);
  expect(savedAuxv(kernelOf(heap), mm)).toHaveLength(48);
  for (let i = 0; i < 12; i++) heap.put(at + BigInt(8 * i), 6n);
  expect(savedAuxv(kernelOf(heap), mm)).toBeUndefined();
  expect(savedAuxv(kernelOf(heap), 0x1000n)).toBeUndefined();
});

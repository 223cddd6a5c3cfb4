import { note } from "./notes.ts";

/** Cores of Xen domains, written from Xen's docs/misc/dump-core-format.txt and its public headers; nothing of src/. */

const PAGE = 4096;

export interface XenCpu {
  /** r15 to rdi in the order of struct cpu_user_regs. */
  readonly general: Readonly<Record<(typeof XEN_GENERAL)[number], bigint>>;
  readonly rsp: bigint;
  readonly rip: bigint;
  readonly rflags: bigint;
  readonly selectors: Readonly<Record<"cs" | "ss" | "es" | "ds" | "fs" | "gs", number>>;
  /** CR0 to CR7. */
  readonly cr: readonly bigint[];
  readonly fsBase: bigint;
  readonly gsBaseKernel: bigint;
  readonly gsBaseUser: bigint;
}

export const XEN_GENERAL = [
  ...(["r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"] as const),
  ...(["rax", "rcx", "rdx", "rsi", "rdi"] as const),
];

/** struct vcpu_guest_context of x86-64, field by field. */
export function context(cpu: XenCpu): Buffer {
  const fields: Buffer[] = [Buffer.alloc(512, 0xf0)];
  const words = (...values: readonly bigint[]) => {
    const bytes = Buffer.alloc(8 * values.length);
    for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(value, 8 * i);
    fields.push(bytes);
  };
  words(1n << 5n); // flags: online
  words(...XEN_GENERAL.map((name) => cpu.general[name]));
  words(0xdead_beefn << 32n); // error_code and entry_vector
  words(cpu.rip, BigInt(cpu.selectors.cs), cpu.rflags, cpu.rsp);
  words(...(["ss", "es", "ds", "fs", "gs"] as const).map((name) => BigInt(cpu.selectors[name])));
  fields.push(Buffer.alloc(256 * 16, 0x11)); // trap_ctxt
  words(...Array<bigint>(2 + 17 + 2).fill(0x22n)); // ldt, gdt_frames and gdt_ents, kernel_ss and kernel_sp
  words(...Array.from({ length: 8 }, (_, i) => cpu.cr[i] ?? 0n));
  words(...Array<bigint>(8 + 4).fill(0x33n)); // debug registers, callbacks, vm_assist
  words(cpu.fsBase, cpu.gsBaseKernel, cpu.gsBaseUser);
  return Buffer.concat(fields);
}

export interface XenSpec {
  /** Page frame of each page, in the order of the file; undefined: none, as where a live dump had fewer in the end. */
  readonly pages: readonly (readonly [pfn: number | bigint | undefined, bytes: Uint8Array])[];
  readonly contexts: readonly Uint8Array[];
  /** Default HVM's. */
  readonly magic?: bigint;
  readonly vcpus?: bigint;
  readonly pageSize?: bigint;
  readonly machine?: number;
  /** As of a paravirtualised domain: pairs of page frame and machine frame. */
  readonly p2m?: boolean;
  /** Sections left out. */
  readonly without?: readonly string[];
  /** Entries of .xen_pfn beyond the pages. */
  readonly moreFrames?: number;
}

/** SHT_NULL, SHT_STRTAB and SHT_NOTE; the others are SHT_PROGBITS. */
const TYPES: Readonly<Record<string, number>> = { "": 0, ".shstrtab": 3, ".note.Xen": 7 };

/** What `xl dump-core` writes: section headers behind the ELF header, the names of sections last. */
export function buildXenCore(spec: XenSpec): Buffer {
  const { pages, contexts, p2m = false, without = [], moreFrames = 0 } = spec;
  const frames = pages.flatMap(([pfn]) => (p2m ? [pfn, 0x777n] : [pfn]));
  const words = (values: readonly (number | bigint | undefined)[]) => {
    const bytes = Buffer.alloc(8 * values.length);
    for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value ?? 2n ** 64n - 1n), 8 * i);
    return bytes;
  };
  const header = words([
    spec.magic ?? 0xf00febeen,
    spec.vcpus ?? contexts.length,
    pages.length,
    spec.pageSize ?? PAGE,
  ]);
  const notes = Buffer.concat([
    note("Xen", 0x2000000, Buffer.alloc(0)),
    note("Xen", 0x2000001, header),
    note("Xen", 0x2000002, Buffer.alloc(1272, 0x58)),
    note("Xen", 0x2000003, words([1])),
  ]);
  const parts = (
    [
      ["", Buffer.alloc(0)],
      [".shstrtab", Buffer.alloc(0)],
      [".note.Xen", notes],
      [".xen_prstatus", Buffer.concat(contexts)],
      [".xen_shared_info", Buffer.alloc(PAGE, 0x5a)],
      [".xen_pages", Buffer.concat(pages.map(([, bytes]) => bytes))],
      [p2m ? ".xen_p2m" : ".xen_pfn", words([...frames, ...Array(moreFrames).fill(0x999)])],
    ] as const
  ).filter(([name]) => !without.includes(name));
  const names = Buffer.from(parts.map(([name]) => `${name}\0`).join(""), "latin1");
  const table = Buffer.alloc(64 * parts.length);
  const body: Buffer[] = [];
  let at = 64 + table.length;
  let nameAt = 0;
  const place = (bytes: Buffer): number => {
    body.push(bytes);
    at += bytes.length;
    return at - bytes.length;
  };
  const locate = (i: number, offset: number, size: number) => {
    table.writeBigUInt64LE(BigInt(offset), 64 * i + 24);
    table.writeBigUInt64LE(BigInt(size), 64 * i + 32);
  };
  for (const [i, [name, bytes]] of parts.entries()) {
    table.writeUInt32LE(nameAt, 64 * i);
    table.writeUInt32LE(TYPES[name] ?? 1, 64 * i + 4);
    nameAt += name.length + 1;
    if (name === "" || name === ".shstrtab") continue;
    if (name === ".xen_pages") place(Buffer.alloc((PAGE - (at % PAGE)) % PAGE));
    locate(i, place(bytes), bytes.length);
  }
  locate(1, place(names), names.length);
  const elf = Buffer.alloc(64);
  elf.write("\x7fELF\x02\x01\x01", 0, "latin1");
  elf.writeUInt16LE(4, 16);
  elf.writeUInt16LE(spec.machine ?? 62, 18);
  elf.writeUInt32LE(1, 20);
  elf.writeBigUInt64LE(64n, 40);
  elf.writeUInt16LE(64, 52);
  elf.writeUInt16LE(64, 58);
  elf.writeUInt16LE(parts.length, 60);
  elf.writeUInt16LE(1, 62);
  return Buffer.concat([elf, table, ...body]);
}

export interface OldXenSpec {
  /** By page frame from 0 on; undefined: not there. */
  readonly pages: readonly (Uint8Array | undefined)[];
  readonly contexts: readonly Uint8Array[];
  /** Bytes of an entry of the index: the word of the host. Default 8. */
  readonly width?: 4 | 8;
  readonly magic?: number;
}

/** The core of Xen before 3.1: header, contexts, index, and pages from a page boundary on. */
export function buildOldXenCore({ pages, contexts, width = 8, magic = 0xf00febee }: OldXenSpec): Buffer {
  const state = Buffer.concat(contexts);
  const index = Buffer.alloc(width * pages.length, 0xff);
  for (const [i, page] of pages.entries()) {
    if (page === undefined) continue;
    if (width === 8) index.writeBigUInt64LE(BigInt(0x5000 + i), 8 * i);
    else index.writeUInt32LE(0x5000 + i, 4 * i);
  }
  const indexAt = 24 + state.length;
  const pagesAt = Math.ceil((indexAt + index.length) / PAGE) * PAGE;
  const header = Buffer.alloc(24);
  for (const [i, value] of [magic, contexts.length, pages.length, 24, indexAt, pagesAt].entries()) {
    header.writeUInt32LE(value, 4 * i);
  }
  const padding = Buffer.alloc(pagesAt - indexAt - index.length);
  return Buffer.concat([header, state, index, padding, ...pages.map((page) => page ?? Buffer.alloc(PAGE))]);
}

import { PF_R, PF_W, putWord, type Word } from "./elf.ts";
import { auxv } from "./notes.ts";
import { PAGE } from "./pattern.ts";

/** The address space of the imaginary process, with addresses that say what they are. */
export const ADDRESSES = {
  exe: 0x5555_0000_0000,
  heap: 0x5555_1000_0000,
  /** malloc arena of a vCPU thread, where FlatViews usually are. */
  arena: 0x7e00_0000_0000,
  ram: 0x7f00_0000_0000,
  /** TCG's buffer for translated code. */
  code: 0x7fc0_0000_0000,
  kvmRun: 0x7fd0_0000_0000,
  libc: 0x7fe0_0000_0000,
  stack: 0x7fff_ffff_c000,
  vsyscall: 0xffff_ffff_ff60_0000n,
} as const;

export type InterestKind = "pointer" | "length" | "count" | "flag" | "register" | "text";

/** A word of a structure that a reader has to look at. */
export interface Interest {
  readonly address: number;
  readonly size: number;
  readonly label: string;
  readonly kind: InterestKind;
}

/** Memory of one mapping that grows as it is written. */
export class Region {
  readonly name: string;
  readonly base: number;
  readonly flags: number;
  /** End of what was written or reserved, relative to `base`. */
  used = 0;
  private store = Buffer.alloc(PAGE);

  constructor(name: string, base: number, flags: number) {
    this.name = name;
    this.base = base;
    this.flags = flags;
  }

  reserve(end: number): void {
    this.used = Math.max(this.used, end);
    if (end <= this.store.length) return;
    const grown = Buffer.alloc(Math.max(end, this.store.length * 2));
    this.store.copy(grown);
    this.store = grown;
  }

  at(offset: number, size: number): Buffer {
    this.reserve(offset + size);
    return this.store.subarray(offset, offset + size);
  }

  /** Contents in whole pages, at least `least` bytes. */
  bytes(least = 0): Buffer {
    const size = Math.ceil(Math.max(this.used, least, 1) / PAGE) * PAGE;
    this.reserve(size);
    return this.store.subarray(0, size);
  }
}

/** Writes words at addresses of the process; every address must lie in a region. */
export class SyntheticProcess {
  readonly regions: Region[] = [];
  readonly interests: Interest[] = [];

  region(name: string, base: number, flags = PF_R | PF_W): Region {
    const region = new Region(name, base, flags);
    this.regions.push(region);
    return region;
  }

  put(address: number, size: number, value: Word): void {
    putWord(this.target(address, size), 0, size, value);
  }

  putBytes(address: number, bytes: Uint8Array): void {
    this.target(address, bytes.length).set(bytes);
  }

  read(address: number, size: number): Buffer {
    return Buffer.from(this.target(address, size));
  }

  /** A writer for the structure at `address`; what it writes with a kind is remembered as interesting. */
  struct(address: number, label: string): Struct {
    return new Struct(this, address, label);
  }

  private target(address: number, size: number): Buffer {
    let best: Region | undefined;
    for (const region of this.regions) {
      if (region.base <= address && (best === undefined || region.base > best.base)) best = region;
    }
    if (best === undefined || address - best.base > 1 << 26) {
      throw new Error(`no region at 0x${address.toString(16)}`);
    }
    return best.at(address - best.base, size);
  }
}

export class Struct {
  readonly address: number;
  private readonly process: SyntheticProcess;
  private readonly label: string;

  constructor(process: SyntheticProcess, address: number, label: string) {
    this.process = process;
    this.address = address;
    this.label = label;
  }

  /** Plain bytes nobody needs to find anything. */
  raw(offset: number, size: number, value: Word): this {
    this.process.put(this.address + offset, size, value);
    return this;
  }

  pointer(offset: number, name: string, value: Word): this {
    return this.marked(offset, 8, name, "pointer", value);
  }

  length(offset: number, name: string, value: Word): this {
    return this.marked(offset, 8, name, "length", value);
  }

  count(offset: number, name: string, value: Word): this {
    return this.marked(offset, 4, name, "count", value);
  }

  flag(offset: number, name: string, value: boolean): this {
    return this.marked(offset, 1, name, "flag", value ? 1 : 0);
  }

  register(offset: number, size: number, name: string, value: Word): this {
    return this.marked(offset, size, name, "register", value);
  }

  /** Int128 as QEMU has it on hosts with __int128: low half first. */
  int128(offset: number, name: string, value: bigint): this {
    this.length(offset, `${name}.lo`, BigInt.asUintN(64, value));
    return this.length(offset + 8, `${name}.hi`, value >> 64n);
  }

  text(offset: number, name: string, value: string): this {
    this.process.putBytes(this.address + offset, Buffer.from(`${value}\0`, "latin1"));
    this.process.interests.push({
      address: this.address + offset,
      size: 1,
      label: `${this.label}.${name}`,
      kind: "text",
    });
    return this;
  }

  private marked(offset: number, size: number, name: string, kind: InterestKind, value: Word): this {
    const address = this.address + offset;
    this.process.put(address, size, value);
    this.process.interests.push({ address, size, label: `${this.label}.${name}`, kind });
    return this;
  }
}

/** glibc's malloc as far as a reader sees it: 16-byte aligned chunks, each with its size | PREV_INUSE before it. */
export class Heap {
  private readonly process: SyntheticProcess;
  private readonly region: Region;
  private next: number;
  private readonly strings = new Map<string, number>();

  constructor(process: SyntheticProcess, region: Region) {
    this.process = process;
    this.region = region;
    this.next = region.base;
  }

  alloc(size: number): number {
    const chunk = Math.max(32, Math.ceil((size + 8) / 16) * 16);
    const address = this.next + 16;
    this.next += chunk;
    this.process.put(address - 8, 8, chunk | 1);
    this.region.reserve(this.next + 16 - this.region.base);
    return address;
  }

  /** Address of a NUL-terminated copy; equal texts share one unless `fresh`. */
  string(text: string, fresh = false): number {
    const known = this.strings.get(text);
    if (known !== undefined && !fresh) return known;
    const address = this.alloc(text.length + 1);
    this.process.putBytes(address, Buffer.from(`${text}\0`, "latin1"));
    this.strings.set(text, address);
    return address;
  }

  /** Writes what is left of the top chunk, as malloc does. */
  seal(): void {
    const end = Math.ceil((this.next + 32 - this.region.base) / PAGE) * PAGE;
    this.region.reserve(end);
    this.process.put(this.next + 8, 8, (this.region.base + end - this.next) | 1);
  }
}

/** What the kernel puts on the initial stack, and the auxiliary vector once more for NT_AUXV. */
export interface InitialStack {
  readonly argcAt: number;
  readonly auxv: Buffer;
}

/** Writes argc, argv, envp, auxv and their strings to the top of the stack (System V ABI AMD64 supplement §3.4.1). */
export function writeStack(
  process: SyntheticProcess,
  top: number,
  argv: readonly string[],
  exe: { readonly path: string; readonly phdr: number; readonly phnum: number; readonly entry: number },
): InitialStack {
  let at = top - 8;
  const push = (text: string): number => {
    const bytes = Buffer.from(`${text}\0`);
    at -= bytes.length;
    process.putBytes(at, bytes);
    return at;
  };
  const execfn = push(exe.path);
  // fs/exec.c copies the last string first, so that they ascend.
  const pushAll = (texts: readonly string[]) => texts.toReversed().map(push).toReversed();
  const env = pushAll(["PATH=/usr/bin:/bin", "LANG=C.UTF-8"]);
  const args = pushAll(argv);
  const platform = push("x86_64");
  const entropy = push("0123456789abcde");
  const vector = auxv([
    [16, 0x178bfbff], // AT_HWCAP
    [6, PAGE], // AT_PAGESZ
    [17, 100], // AT_CLKTCK
    [3, exe.phdr], // AT_PHDR
    [4, 56], // AT_PHENT
    [5, exe.phnum], // AT_PHNUM
    [7, ADDRESSES.libc], // AT_BASE
    [8, 0], // AT_FLAGS
    [9, exe.entry], // AT_ENTRY
    [11, 0], // AT_UID
    [12, 0],
    [13, 0],
    [14, 0],
    [23, 0], // AT_SECURE
    [25, entropy], // AT_RANDOM
    [31, execfn], // AT_EXECFN
    [15, platform], // AT_PLATFORM
    [0, 0],
  ]);
  const wordCount = 1 + args.length + 1 + env.length + 1;
  const argcAt = Math.floor((at - vector.length - wordCount * 8) / 16) * 16;
  for (const [i, value] of [args.length, ...args, 0, ...env, 0].entries())
    process.put(argcAt + i * 8, 8, value);
  process.putBytes(argcAt + wordCount * 8, vector);
  return { argcAt, auxv: vector };
}

/**
 * A reader of ELF vmcores for judging what we write, written from the ELF specification and sharing nothing with
 * src/: whole file in memory, no tolerance.
 */
interface ReadLoad {
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly bytes: Buffer;
  readonly align: bigint;
}

interface ReadNote {
  readonly name: string;
  readonly type: number;
  readonly desc: Buffer;
}

export interface ReadVmcore {
  /** The whole file, of which the segments' bytes are parts. */
  readonly file: Buffer;
  readonly machine: number;
  readonly types: readonly number[];
  readonly loads: readonly ReadLoad[];
  readonly notes: readonly ReadNote[];
}

/** Where a class of ELF files has what: e_phoff, e_shoff, e_phnum; p_offset to p_align; sh_info of section 0. */
const CLASSES = {
  1: {
    long: 4,
    size: 52,
    phoff: 28,
    shoff: 32,
    phnum: 44,
    entry: 32,
    fields: [4, 8, 12, 16, 20, 28],
    info: 28,
  },
  2: {
    long: 8,
    size: 64,
    phoff: 32,
    shoff: 40,
    phnum: 56,
    entry: 56,
    fields: [8, 16, 24, 32, 40, 48],
    info: 44,
  },
} as const;

export function readVmcore(file: Buffer): ReadVmcore {
  if (file.readUInt32BE(0) !== 0x7f454c46) throw new Error("no ELF magic");
  const layout = CLASSES[file[4] as 1 | 2];
  const bigEndian = file[5] === 2;
  const half = (at: number) => (bigEndian ? file.readUInt16BE(at) : file.readUInt16LE(at));
  const word = (at: number) => (bigEndian ? file.readUInt32BE(at) : file.readUInt32LE(at));
  const wide = (at: number) => (bigEndian ? file.readBigUInt64BE(at) : file.readBigUInt64LE(at));
  const long = (at: number) => (layout.long === 8 ? wide(at) : BigInt(word(at)));
  const phoff = Number(long(layout.phoff));
  if (phoff !== layout.size || half(layout.phnum - 4) !== layout.size) {
    throw new Error("program headers do not follow the header");
  }
  let count = half(layout.phnum);
  if (count === 0xffff) count = word(Number(long(layout.shoff)) + layout.info);
  const types: number[] = [];
  const loads: ReadLoad[] = [];
  const notes: ReadNote[] = [];
  for (let i = 0; i < count; i++) {
    const at = phoff + layout.entry * i;
    const type = word(at);
    const [offset, vaddr, paddr, filesz, , align] = layout.fields.map((field) => long(at + field));
    const bytes = file.subarray(Number(offset), Number(offset! + filesz!));
    if (bytes.length !== Number(filesz)) throw new Error(`segment ${i} ends behind the file`);
    types.push(type);
    if (type === 1) loads.push({ vaddr: vaddr!, paddr: paddr!, bytes, align: align! });
    if (type === 4) notes.push(...readNotes(bytes, bigEndian));
  }
  return { file, machine: half(18), types, loads, notes };
}

function readNotes(bytes: Buffer, bigEndian: boolean): ReadNote[] {
  const notes: ReadNote[] = [];
  const word = (at: number) => (bigEndian ? bytes.readUInt32BE(at) : bytes.readUInt32LE(at));
  for (let at = 0; at < bytes.length; ) {
    const [namesz, descsz, type] = [word(at), word(at + 4), word(at + 8)];
    const desc = at + 12 + Math.ceil(namesz / 4) * 4;
    notes.push({
      name: bytes.toString("latin1", at + 12, at + 12 + namesz - 1),
      type,
      desc: bytes.subarray(desc, desc + descsz),
    });
    at = desc + Math.ceil(descsz / 4) * 4;
  }
  return notes;
}

/** Bytes at a physical address, from whichever segment holds them; undefined when none does. */
export function physicalAt(core: ReadVmcore, address: number, length: number): Buffer | undefined {
  for (const { paddr, bytes } of core.loads) {
    const from = address - Number(paddr);
    if (from >= 0 && from + length <= bytes.length) return bytes.subarray(from, from + length);
  }
  return undefined;
}

const REGISTERS =
  "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fs_base gs_base ds es fs gs".split(
    " ",
  );

/** The user registers of an NT_PRSTATUS. */
export const prstatusRegisters = (desc: Buffer): Record<string, bigint> =>
  Object.fromEntries(REGISTERS.map((name, i) => [name, desc.readBigUInt64LE(112 + 8 * i)]));

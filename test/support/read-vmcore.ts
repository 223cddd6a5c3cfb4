/**
 * A reader of ELF64 vmcores for judging what we write, written from the ELF specification and sharing nothing with
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

export function readVmcore(file: Buffer): ReadVmcore {
  if (file.readUInt32BE(0) !== 0x7f454c46) throw new Error("no ELF magic");
  const phoff = Number(file.readBigUInt64LE(32));
  if (phoff !== 64 || file.readUInt16LE(52) !== 64) throw new Error("program headers are not at 64");
  let count = file.readUInt16LE(56);
  if (count === 0xffff) count = file.readUInt32LE(Number(file.readBigUInt64LE(40)) + 44);
  const types: number[] = [];
  const loads: ReadLoad[] = [];
  const notes: ReadNote[] = [];
  for (let i = 0; i < count; i++) {
    const at = phoff + 56 * i;
    const type = file.readUInt32LE(at);
    const word = (n: number) => file.readBigUInt64LE(at + 8 * n);
    const bytes = file.subarray(Number(word(1)), Number(word(1) + word(4)));
    if (bytes.length !== Number(word(4))) throw new Error(`segment ${i} ends behind the file`);
    types.push(type);
    if (type === 1) loads.push({ vaddr: word(2), paddr: word(3), bytes, align: word(6) });
    if (type === 4) notes.push(...readNotes(bytes));
  }
  return { file, machine: file.readUInt16LE(18), types, loads, notes };
}

function readNotes(bytes: Buffer): ReadNote[] {
  const notes: ReadNote[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [namesz, descsz, type] = [
      bytes.readUInt32LE(at),
      bytes.readUInt32LE(at + 4),
      bytes.readUInt32LE(at + 8),
    ];
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

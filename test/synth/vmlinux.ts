import { buildElf } from "./elf.ts";
import type { SynthSymbol } from "./kallsyms.ts";
import { NT_GNU_BUILD_ID, note } from "./notes.ts";

export interface VmlinuxSpec {
  /** At the addresses that they are linked to. */
  readonly symbols: readonly SynthSymbol[];
  /** Hex. */
  readonly buildId?: string;
  readonly btf?: Uint8Array;
  /** Section header fields by index, written last: 4 is .symtab. */
  readonly sectionHeaders?: NonNullable<Parameters<typeof buildElf>[0]["sectionHeaders"]>;
}

/** Index of a symbol's section, by nm's letter: 1 .text, 2 .data, 3 .rodata, 6 .bss, and ABS. */
const SECTIONS: Readonly<Record<string, number>> = { T: 1, D: 2, R: 3, B: 6, W: 2, A: 0xfff1 };

/** An ELF vmlinux with symbols (gABI ch. 4); between them lie those of a section, of a file, and an undefined one. */
export function buildVmlinux({ symbols, buildId, btf, sectionHeaders }: VmlinuxSpec): Buffer {
  let strings = "\0";
  const entries: Buffer[] = [Buffer.alloc(24)];
  const add = (name: string, info: number, section: number, value: bigint) => {
    const entry = Buffer.alloc(24);
    entry.writeUInt32LE(name === "" ? 0 : strings.length, 0);
    entry.writeUInt8(info, 4);
    entry.writeUInt16LE(section, 6);
    entry.writeBigUInt64LE(value, 8);
    entries.push(entry);
    if (name !== "") strings += `${name}\0`;
  };
  add("", 3, 1, 0xffff_ffff_8100_0000n);
  add("main.c", 4, 0xfff1, 0n);
  add("somewhere_else", 0x10, 0, 0n);
  for (const { name, type, address } of symbols) {
    const letter = type.toUpperCase();
    const binding = letter === "W" ? 2 : type === letter ? 1 : 0;
    add(name, binding * 16 + (letter === "T" ? 2 : 1), SECTIONS[letter]!, address);
  }
  const id = note("GNU", NT_GNU_BUILD_ID, Buffer.from(buildId ?? "", "hex"));
  return buildElf({
    type: 2,
    sections: [
      { name: ".text", flags: 6 },
      { name: ".data", flags: 3 },
      { name: ".rodata", flags: 2 },
      { name: ".symtab", type: 2, link: 5, bytes: Buffer.concat(entries) },
      { name: ".strtab", type: 3, bytes: Buffer.from(strings, "latin1") },
      { name: ".bss", type: 8, flags: 3 },
      { name: ".notes", type: 7, bytes: buildId === undefined ? Buffer.alloc(0) : id },
      ...(btf === undefined ? [] : [{ name: ".BTF", bytes: btf }]),
    ],
    ...(sectionHeaders === undefined ? {} : { sectionHeaders }),
  });
}

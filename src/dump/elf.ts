import { UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { isElf, readElf } from "../elf/header.ts";
import { readNotes } from "../elf/notes.ts";
import { checkElf } from "./check-elf.ts";
import { elfKind } from "./elf-kind.ts";
import { ElfVmcore } from "./elf-vmcore.ts";
import type { DumpFormat, MachineDump } from "./format.ts";

/** ELF vmcores of every maker. */
export const ELF: DumpFormat = { name: "elf", matches: isElf, open: openElf, check: checkElf };

function openElf(source: ByteSource): MachineDump {
  const elf = readElf(source);
  const { machine, littleEndian } = elf.header;
  const { notes, warnings } = readNotes(source, elf);
  if (notes.some(({ name }) => name === "CORE") && elfKind(elf, notes) === "process-core") {
    throw new UnsupportedError("the core of a process, not the dump of a machine", {
      hint: "guestcore extract finds the guest in the core of a qemu process",
    });
  }
  const memory = new ElfVmcore(source, elf);
  const order = littleEndian ? {} : { bigEndian: true };
  return { memory, notes, cpus: [], machine, ...order, warnings: [...elf.warnings, ...warnings] };
}

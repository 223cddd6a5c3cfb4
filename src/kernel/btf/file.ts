import { CorruptError, UnavailableError, UnsupportedError } from "../../core/errors.ts";
import type { ByteSource } from "../../core/memory.ts";
import { readSections, SHT_NOBITS } from "../../elf/sections.ts";
import { Btf } from "./btf.ts";
import { MAX_VMLINUX_BTF } from "./find.ts";
import { BTF_HEADER_BYTES, isProblem, readBtfHeader } from "./format.ts";
import { BtfTypes } from "./types.ts";

const ELF_MAGIC = Buffer.from("\x7fELF", "latin1");
const HINT = "give a vmlinux or module (.ko) with a section .BTF, or a copy of /sys/kernel/btf/vmlinux";

/**
 * BTF from a file: the section `.BTF` of an ELF vmlinux or module, or BTF as /sys/kernel/btf has it; at most 64 MiB. A
 * module's continues its kernel's, but for one built outside the kernel's tree (6.11+): its own `.BTF.base` does.
 * @param base of the kernel, for a module
 * @throws UnsupportedError for another file; UnavailableError for an ELF file without BTF, or a module without its
 *   base; CorruptError when no type can be read
 */
export function btfOfFile(source: ByteSource, base?: Btf): Btf {
  const start = Buffer.alloc(BTF_HEADER_BYTES);
  const known = start.subarray(0, source.read(0, start));
  const name = moduleName(source.name);
  if (known.subarray(0, 4).equals(ELF_MAGIC)) return btfOfElf(source, name, base);
  const header = readBtfHeader(known);
  if (isProblem(header)) throw new UnsupportedError(`no file with BTF: ${header.message}`, { hint: HINT });
  return checked(new Btf(name, readRange(source, 0, source.size), { base }));
}

/** The types of a kernel and of any number of its modules, from their files; what each throws, `btfOfFile` says. */
export function btfOfFiles(vmlinux: ByteSource, modules: readonly ByteSource[]): BtfTypes {
  const base = btfOfFile(vmlinux);
  return new BtfTypes(
    base,
    modules.map((module) => btfOfFile(module, base)),
  );
}

function btfOfElf(source: ByteSource, name: string, kernel: Btf | undefined): Btf {
  const sections = readSections(source).filter(({ type }) => type !== SHT_NOBITS);
  const section = (wanted: string): Buffer | undefined => {
    const found = sections.find((candidate) => candidate.name === wanted);
    return found && readRange(source, found.offset, found.size);
  };
  const bytes = section(".BTF");
  if (bytes === undefined) throw new UnavailableError("the ELF file has no section .BTF", { hint: HINT });
  const distilled = section(".BTF.base");
  const base = distilled === undefined ? kernel : new Btf(`${name}.base`, distilled);
  return checked(new Btf(name, bytes, { base }));
}

/** What the file has of a range, whatever a header claims. */
function readRange(source: ByteSource, offset: number, size: number): Buffer {
  if (size > MAX_VMLINUX_BTF) throw new CorruptError("BTF of more than 64 MiB", { where: { offset } });
  const bytes = Buffer.alloc(offset < source.size ? Math.min(size, source.size - offset) : 0);
  return bytes.subarray(0, source.read(offset, bytes));
}

function checked(btf: Btf): Btf {
  if (btf.end > btf.start) return btf;
  const { kind, message, offset } = btf.problem ?? {
    kind: "header",
    message: "BTF without types",
    offset: 0,
  };
  if (kind === "base") {
    throw new UnavailableError(message, { hint: "give the BTF of the very kernel the module was built for" });
  }
  throw new CorruptError(message, { where: { offset } });
}

/** `kvm_intel` for `/lib/modules/…/kvm-intel.ko.xz`: as the kernel calls a module; `vmlinux` for whatever begins so. */
function moduleName(file: string): string {
  const name = file.slice(file.lastIndexOf("/") + 1).replace(/\.(?:ko|btf|debug)\b.*$/, "");
  return name.startsWith("vmlinux") ? "vmlinux" : name.replaceAll("-", "_");
}

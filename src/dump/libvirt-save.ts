import { Parser } from "binary-parser";
import { CorruptError, UnsupportedError } from "../core/errors.ts";
import type { ByteSource } from "../core/memory.ts";
import { shellWord } from "../core/text.ts";
import type { Warning } from "../core/warnings.ts";
import { type DumpFiles, type DumpFormat, hasMagic, type MachineDump } from "./format.ts";
import { openMigration } from "./migration.ts";

const COMPLETE = "LibvirtQemudSave";
const PARTIAL = "LibvirtQemudPart";

/** What `virsh save` and `virsh managedsave` write: a header, the domain's XML, and a migration stream. */
export const LIBVIRT_SAVE: DumpFormat = {
  name: "libvirt-save",
  matches: (source) => hasMagic(source, COMPLETE) || hasMagic(source, PARTIAL),
  open: openSave,
};

/** struct _virQEMUSaveHeader (libvirt `src/qemu/qemu_saveimage.h`), in the byte order of the host that saved. */
const header = (order: "little" | "big") =>
  new Parser()
    .endianness(order)
    .seek(16)
    .uint32("version")
    .uint32("dataLength")
    .uint32("wasRunning")
    .uint32("format");
const parsers = { little: header("little"), big: header("big") };
const HEADER_SIZE = 92;
const MAX_VERSION = 2;

interface SaveHeader {
  readonly version: number;
  /** Bytes of XML and cookie, padded. */
  readonly dataLength: number;
  /** virQEMUSaveFormat. */
  readonly format: number;
}

async function openSave(source: ByteSource, files: DumpFiles): Promise<MachineDump> {
  const { dataLength, format } = readHeader(source);
  const start = HEADER_SIZE + dataLength;
  if (start >= source.size) {
    throw new CorruptError("the save image ends before the guest's state", {
      where: { offset: source.size },
    });
  }
  const dump = await openState(source, start, format, files);
  return hasMagic(source, PARTIAL) ? { ...dump, warnings: [unfinished, ...dump.warnings] } : dump;
}

const unfinished: Warning = {
  code: "DMP039",
  message: "libvirt did not finish this save image: what it has so far is used",
  hint: "save the guest again if it is still there; libvirt does not restore this one",
};

/** @throws CorruptError, UnsupportedError */
function readHeader(source: ByteSource): SaveHeader {
  const bytes = Buffer.alloc(HEADER_SIZE);
  if (source.read(0, bytes) < HEADER_SIZE) {
    throw new CorruptError("the save image ends inside its header", { where: { offset: source.size } });
  }
  const little = parsers.little.parse(bytes) as SaveHeader;
  const fields = little.version > MAX_VERSION ? (parsers.big.parse(bytes) as SaveHeader) : little;
  if (fields.version > MAX_VERSION) {
    throw new UnsupportedError(`a save image of version ${little.version}: libvirt has written 2 since 2010`);
  }
  return fields;
}

/** How the state can be packed: by the bytes it begins with, whatever the header says. */
const PACKED: readonly (readonly [start: string, program: string])[] = [
  ["\x1f\x8b\x08", "gzip"],
  ["BZh", "bzip2"],
  ["\xfd7zXZ\0", "xz"],
  ["\x89LZO\0", "lzop"],
  ["\x28\xb5\x2f\xfd", "zstd"],
];

async function openState(
  source: ByteSource,
  start: number,
  format: number,
  files: DumpFiles,
): Promise<MachineDump> {
  if (hasMagic(source, "QEVM", start)) return await openMigration(source, start, files);
  const program = PACKED.find(([magic]) => hasMagic(source, magic, start))?.[1];
  if (program === undefined) {
    throw new CorruptError(
      `the guest's state in the save image (format ${format}) begins with something unknown`,
      {
        where: { offset: start },
      },
    );
  }
  const unpacked = await files.unpack?.(behind(source, start));
  if (unpacked === undefined) {
    const file = shellWord(source.name);
    throw new UnsupportedError(`the guest's state in the save image is compressed with ${program}`, {
      where: { offset: start },
      hint: `tail -c +${start + 1} ${file} | ${program} -dc > ${file}.state    # reads as a migration stream`,
    });
  }
  const dump = await openMigration(unpacked.source, 0, files);
  return { ...dump, warnings: [...unpacked.warnings, ...dump.warnings] };
}

/** The rest of a source as one of its own. */
const behind = (source: ByteSource, start: number): ByteSource => ({
  name: source.name,
  size: source.size - start,
  read: (offset, target) => source.read(start + offset, target),
});

import { decodeFrameHeader, isSkippable, ZSTD_MAGIC } from "../../codec/zstd/header.ts";
import type { ByteSource } from "../../core/memory.ts";
import { bytesText, hex, plural, printable, shellWord } from "../../core/text.ts";
import { machineName, typeName } from "../../elf/constants.ts";
import { type Description, type Format, field, type Head, known, magic } from "./format.ts";

const DATA_ORDER: Readonly<Record<number, string>> = { 1: "LSB", 2: "MSB" };

/** The raw words of an ELF header; what kind of core it is takes its notes. */
function describeElf({ bytes, file }: Head): Description {
  if (bytes.length < 20) {
    return {
      phrase: "ELF, cut inside its header",
      readable: true,
      advice: "take the dump again: only its first bytes are here",
    };
  }
  const bits = bytes[4] === 1 ? 32 : bytes[4] === 2 ? 64 : undefined;
  const order = DATA_ORDER[bytes[5]!];
  if (bits === undefined || order === undefined) {
    return { phrase: "ELF of an invalid class or byte order", readable: true, advice: `readelf -h ${file}` };
  }
  const read = (offset: number) =>
    order === "MSB" ? bytes.readUInt16BE(offset) : bytes.readUInt16LE(offset);
  const [type, machine] = [read(16), read(18)];
  return {
    phrase: `ELF ${bits}-bit ${order} ${typeName(type)}, ${machineName(machine)}`,
    facts: { bits, littleEndian: order === "LSB", type, machine },
    readable: true,
    advice: `guestcore info ${file}`,
  };
}

/** RFC 1952: FNAME follows the fixed header unless there is an extra field. */
function describeGzip({ bytes, file }: Head): Description {
  const named = bytes.length > 10 && (bytes[3]! & 0x0c) === 0x08;
  const name = named ? field(bytes, 10, 255) : undefined;
  return {
    phrase: `gzip compressed data${name === undefined || name === "" ? "" : `, was "${printable(name)}"`}`,
    facts: known({ name }),
    readable: true,
    advice: `guestcore info ${file}    # it is unpacked on the way`,
  };
}

function describeZstd({ bytes, file }: Head): Description {
  const isFrame = bytes.readUInt32LE(0) === ZSTD_MAGIC && (bytes[4]! & RESERVED_BIT) === 0;
  const header = isFrame ? decodeFrameHeader(bytes, 0) : undefined;
  return {
    phrase: "Zstandard compressed data",
    facts: known({
      windowSize: header?.windowSize,
      contentSize: header?.contentSize,
      checksum: header?.hasChecksum,
    }),
    readable: true,
    advice: `guestcore info ${file}    # it is unpacked on the way`,
  };
}

/** Of the frame header's descriptor; a frame that has it set is refused when it is unpacked. */
const RESERVED_BIT = 8;

/** A packed file that has to be unpacked first, by the program named. */
const packed = (name: string, matches: Format["matches"], phrase: string, command: string): Format => ({
  name,
  matches,
  describe: ({ file }) => ({
    phrase,
    advice: `${command} ${file}    # then give guestcore what comes out`,
  }),
});

const COMPRESSED: readonly Format[] = [
  { name: "gzip", matches: magic([0x1f, 0x8b, 8]), describe: describeGzip },
  {
    name: "zstd",
    matches: ({ bytes }) =>
      bytes.length >= 4 && (bytes.readUInt32LE(0) === ZSTD_MAGIC || isSkippable(bytes.readUInt32LE(0))),
    describe: describeZstd,
  },
  packed("xz", magic("\xfd7zXZ\0"), "XZ compressed data", "xz --decompress --keep"),
  packed("bzip2", magic("BZh"), "bzip2 compressed data", "bzip2 --decompress --keep"),
  packed("lz4", magic([0x04, 0x22, 0x4d, 0x18]), "LZ4 compressed data", "lz4 --decompress --multiple"),
  packed(
    "lz4-legacy",
    magic([0x02, 0x21, 0x4c, 0x18]),
    "LZ4 compressed data, legacy frame",
    "lz4 --decompress --multiple",
  ),
  packed("lzop", magic("\x89LZO\0\r\n\x1a\n"), "lzop compressed data", "lzop --decompress"),
  packed("zip", magic("PK\x03\x04"), "Zip archive data", "unzip"),
  packed("7z", magic([0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c]), "7-zip archive data", "7z x"),
  packed("tar", magic("ustar", 257), "POSIX tar archive", "tar --extract --sparse --verbose --file"),
];

/** qcow2: version u32 at 4, virtual size u64 at 24, number of snapshots u32 at 60, big endian (docs/interop/qcow2.txt). */
function describeQcow2({ bytes, file }: Head): Description {
  if (bytes.length < 64) return disk("QEMU QCOW Image, cut", file);
  const [version, snapshots] = [bytes.readUInt32BE(4), bytes.readUInt32BE(60)];
  const size = Number(bytes.readBigUInt64BE(24));
  const description = disk(`QEMU QCOW2 Image (v${version}), ${bytesText(size)}`, file);
  if (version < 2 || snapshots === 0) return { ...description, facts: known({ version, virtualSize: size }) };
  return {
    phrase: `${description.phrase}, ${plural(snapshots, "snapshot")}`,
    facts: { version, virtualSize: size, snapshots },
    advice: `qemu-img snapshot -l ${file}    # a disk image; snapshots with a VM SIZE hold memory: QEMU's -loadvm brings it back`,
  };
}

const disk = (phrase: string, file: string): Description => ({
  phrase,
  advice: `qemu-img info ${file}    # a disk image, not a memory dump`,
});

const diskFormat = (name: string, matches: Format["matches"], phrase: string): Format => ({
  name,
  matches,
  describe: ({ file }) => disk(phrase, file),
});

const DISKS: readonly Format[] = [
  { name: "qcow2", matches: magic("QFI\xfb"), describe: describeQcow2 },
  diskFormat("vmdk", magic("KDMV"), "VMware4 disk image"),
  diskFormat("vmdk", magic("COWD"), "VMware3 disk image"),
  diskFormat("vmdk", magic("# Disk DescriptorFile"), "VMware disk descriptor"),
  diskFormat("vhdx", magic("vhdxfile"), "Microsoft Disk Image eXtended (VHDX)"),
  diskFormat("vhd", magic("conectix"), "Microsoft Disk Image (VHD)"),
  diskFormat("vdi", magic([0x7f, 0x10, 0xda, 0xbe], 64), "VirtualBox disk image (VDI)"),
  diskFormat("qed", magic("QED\0"), "QEMU QED Image"),
];

/** Setup header of the x86 boot protocol: "HdrS" at 0x202, kernel_version u16 at 0x20e, relative to 0x200. */
function describeBzImage({ bytes }: Head): Description {
  const at = bytes.length < 0x210 ? 0 : bytes.readUInt16LE(0x20e) + 0x200;
  const release = at < 0x210 || at >= bytes.length ? undefined : field(bytes, at, 128).split(" ")[0];
  return {
    phrase: `Linux kernel x86 boot executable${release === undefined ? "" : `, version ${printable(release)}`}`,
    facts: known({ release }),
    advice: NOT_A_DUMP,
  };
}

const NOT_A_DUMP =
  "this is a kernel, not a dump of one; debuggers want its vmlinux with debug symbols beside the dump";

const KERNELS: readonly Format[] = [
  { name: "bzimage", matches: magic("HdrS", 0x202), describe: describeBzImage },
  {
    name: "kernel-arm64",
    matches: magic("ARM\x64", 56),
    describe: () => ({ phrase: "Linux kernel ARM64 boot executable Image", advice: NOT_A_DUMP }),
  },
];

const isText = ({ bytes }: Head): boolean =>
  bytes.every(
    (byte) => byte >= 0x80 || (byte >= 0x20 && byte < 0x7f) || (byte >= 7 && byte <= 13) || byte === 0x1b,
  );

/** Files of /proc and /sys have contents, but say that they are 0 bytes long. */
function describeEmpty(head: Head): Description {
  if (head.source.read(0, Buffer.alloc(1)) > 0) {
    return {
      phrase: "a file that does not tell its size, as those of /proc and /sys",
      advice: `cat ${head.file} > copy    # then give guestcore the copy`,
    };
  }
  return {
    phrase: "empty",
    advice: "take the dump again: a full disk or a limit (ulimit -c) often leaves an empty file",
  };
}

/** What a raw image may be a map of; Cloud Hypervisor's has a name of its own. */
function mapOf({ name, size, unpacking }: ByteSource): string {
  const file = unpacking?.name ?? name;
  if (/(^|\/)memory-ranges$/.test(file)) {
    const state = file.replace(/memory-ranges$/, "state.json");
    return `${shellWord(state)}    # if it is the memory of a Cloud Hypervisor snapshot`;
  }
  return `0-${hex(size)}    # if it is memory from address 0 on; --map q35, pc, microvm or firecracker if it is all RAM of such a machine`;
}

/** What no magic number says. The last line matches everything. */
const WITHOUT_MAGIC: readonly Format[] = [
  {
    name: "empty",
    matches: ({ source }) => source.size === 0,
    describe: describeEmpty,
  },
  {
    name: "text",
    matches: isText,
    describe: ({ file }) => ({
      phrase: "text",
      certain: false,
      advice: `less ${file}    # text, a log perhaps; it holds no memory`,
    }),
  },
  {
    name: "short",
    matches: ({ source }) => source.size < 64,
    describe: ({ source, bytes }) => ({
      phrase: `data, too short for any dump: ${plural(source.size, "byte")}`,
      facts: { start: bytes.toString("hex") },
      advice: "take the dump again: only its first bytes are here",
    }),
  },
  {
    name: "vmware-memory",
    matches: ({ source }) => /\.vmem$/i.test(source.unpacking?.name ?? source.name),
    describe: ({ source, file }) => ({
      phrase: `VMware memory of a suspended machine or snapshot (vmem), ${bytesText(source.size)}`,
      certain: false,
      readable: true,
      advice: `guestcore convert ${file} vmcore    # with the .vmss or .vmsn of the same name beside it`,
    }),
  },
  diskFormat("disk-gpt", magic("EFI PART", 512), "raw disk image with a GUID partition table"),
  {
    name: "raw",
    matches: ({ source }) => source.size % 4096 === 0,
    describe: ({ source, file, bytes }) => ({
      phrase: `data of whole pages without a magic number, ${bytesText(source.size)}: perhaps a raw memory image`,
      facts: { start: bytes.toString("hex", 0, 16) },
      certain: false,
      advice: `guestcore convert ${file} vmcore --map ${mapOf(source)}`,
    }),
  },
  {
    name: "data",
    matches: () => true,
    describe: ({ bytes, source }) => ({
      phrase: `data of an unknown format, ${bytesText(source.size)}, starting with ${bytes.toString("hex", 0, 8)}`,
      facts: { start: bytes.toString("hex", 0, 16) },
      certain: false,
      advice: "guestcore knows no dump that starts like this; if it was copied, compare sizes and checksums",
    }),
  },
];

export const ELF_FORMAT: Format = { name: "elf", matches: magic("\x7fELF"), describe: describeElf };
export const OTHER_FORMATS: readonly Format[] = [...COMPRESSED, ...DISKS, ...KERNELS, ...WITHOUT_MAGIC];

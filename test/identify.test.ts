import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { ByteSource } from "../src/core/memory.ts";
import { printable } from "../src/core/text.ts";
import { FORMATS, identify } from "../src/dump/identify.ts";
import { sampleZstd } from "./support/zstd-sample.ts";
import { buildXenCore } from "./synth/xen.ts";

/** Counts what is read of it, so that "a few kilobytes" is held. */
class Bytes implements ByteSource {
  readonly name: string;
  readonly size: number;
  total = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer, name = "dump") {
    this.#bytes = bytes;
    this.size = bytes.length;
    this.name = name;
  }

  read(offset: number, target: Uint8Array): number {
    const got = this.#bytes.copy(target, 0, offset);
    this.total += got;
    return got;
  }
}

test("a file of /proc has contents though its size is 0: the advice does not speak of a full disk", () => {
  const empty = identify(new Bytes(Buffer.alloc(0)));
  expect([empty.phrase, empty.advice]).toEqual(["empty", expect.stringContaining("full disk")]);
  const proc: ByteSource = {
    name: "/proc/1/status",
    size: 0,
    read: (_offset, target) => Buffer.from("Name:\tinit\n").copy(target),
  };
  const { format, phrase, advice } = identify(proc);
  expect([format, phrase]).toEqual(["empty", expect.stringContaining("/proc")]);
  expect(advice).toMatch(/^cat \/proc\/1\/status > copy /);
});

describe("the contents of a compressed file", () => {
  const unpacking = { name: "a", command: "gunzip -c a.gz > a" };
  const contents = (bytes: Buffer): ByteSource => Object.assign(new Bytes(bytes, "a.gz"), { unpacking });

  test("a command is about what comes out", () => {
    expect(identify(contents(gzipSync("text"))).advice).toMatch(
      /^gunzip -c a\.gz > a && guestcore info a {4}#/,
    );
  });

  test("a sentence stays as it is, though the name is a word of it", () => {
    expect(identify(contents(Buffer.alloc(0))).advice).toMatch(/^take the dump again: a full disk/);
  });
});

type Order = "little" | "big";

/** Puts values at offsets into a zeroed header; a number is a u32 unless a width is given. */
function header(
  size: number,
  order: Order,
  ...fields: [number, string | number | bigint | Buffer, number?][]
): Buffer {
  const bytes = Buffer.alloc(size);
  for (const [offset, value, width = 4] of fields) {
    if (typeof value === "string") bytes.write(value, offset, "latin1");
    else if (typeof value === "bigint") {
      if (order === "little") bytes.writeBigUInt64LE(value, offset);
      else bytes.writeBigUInt64BE(value, offset);
    } else if (typeof value === "number") {
      if (order === "little") bytes.writeUIntLE(value, offset, width);
      else bytes.writeUIntBE(value, offset, width);
    } else value.copy(bytes, offset);
  }
  return bytes;
}

/** struct disk_dump_header of a 64-bit machine, and a sub header in the block behind it. */
const kdump = (signature = "KDUMP   ", order: Order = "little", status = 1): Buffer =>
  header(
    3 * 4096,
    order,
    [0, signature],
    [8, 6],
    [12, "Linux"],
    [77, "web1"],
    [142, "6.1.0-56-amd64"],
    [207, "#1 SMP Debian"],
    [272, "x86_64"],
    [424, status],
    [428, 4096],
    [432, 1],
    [436, 2],
    [460, 4],
    [4096, 0x1000000n],
    [4104, 31],
    [4108, 1],
  );

/** The same of a 32-bit machine: struct timeval is 8 bytes at 404, so everything behind it lies 12 bytes lower. */
const kdump32 = (): Buffer =>
  header(
    2 * 4096,
    "little",
    [0, "KDUMP   "],
    [8, 5],
    [12, "Linux"],
    [142, "5.10.0-8-686"],
    [272, "i686"],
    [412, 4],
    [416, 4096],
    [420, 1],
    [424, 2],
    [448, 1],
    [4096, 0x100000],
    [4100, 1],
    [4104, 0],
  );

function flattened(contents: Buffer, end = true): Buffer {
  const start = header(4096, "big", [0, "makedumpfile"], [16, 1n], [24, 1n]);
  const record = header(16, "big", [0, 0n], [8, BigInt(contents.length)]);
  return Buffer.concat([start, record, contents, end ? Buffer.alloc(16, 0xff) : Buffer.alloc(0)]);
}

const sadumpPartition = (disk = 0): Buffer =>
  header(
    4096,
    "little",
    [0, "sadump"],
    [136, 2026, 2],
    [138, 11, 1],
    [139, 21, 1],
    [140, 7, 1],
    [141, 5, 1],
    [142, 9, 1],
    [152, disk],
  );
const sadumpHeader = header(
  4096,
  "little",
  [0, "sadump"],
  [8, 1],
  [32, 1],
  [40, 4096],
  [80, 8],
  [88, 0x40000n],
);

const save = (magic: string, order: Order): Buffer => {
  const xml =
    "<domain type='kvm'>\n  <name>db1</name>\n  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>";
  return header(
    2048,
    order,
    [0, magic],
    [16, 2],
    [20, xml.length],
    [24, 1],
    [28, 5],
    [32, 0],
    [92, xml],
    [92 + xml.length + 1, "QEVM"],
  );
};

const noise = Buffer.from(Array.from({ length: 8192 }, (_, i) => (i * 167 + (i >> 3) * 13) & 0xff));

interface Case {
  readonly format: string;
  readonly bytes: Buffer;
  /** Of the file; default "dump". */
  readonly name?: string;
  readonly phrase: string | RegExp;
  readonly facts?: Record<string, unknown>;
  readonly advice: string | RegExp;
  readonly readable?: true;
  readonly uncertain?: true;
}

const CASES: readonly Case[] = [
  {
    format: "elf",
    bytes: header(64, "little", [0, "\x7fELF\x02\x01\x01"], [16, 4, 2], [18, 62, 2]),
    phrase: "ELF 64-bit LSB core, x86-64",
    facts: { bits: 64, littleEndian: true, type: 4, machine: 62 },
    advice: "guestcore info dump",
    readable: true,
  },
  {
    format: "elf",
    bytes: header(52, "big", [0, "\x7fELF\x01\x02\x01"], [16, 4, 2], [18, 0x7777, 2]),
    phrase: "ELF 32-bit MSB core, machine 30583",
    facts: { bits: 32, littleEndian: false, machine: 0x7777 },
    advice: "guestcore info dump",
    readable: true,
  },
  { format: "elf", bytes: Buffer.from("\x7fELF\x02"), phrase: /cut/, advice: /again/, readable: true },
  {
    format: "elf",
    bytes: header(64, "little", [0, "\x7fELF\x09\x09"]),
    phrase: /invalid/,
    advice: /readelf/,
    readable: true,
  },
  {
    format: "kdump",
    bytes: kdump(),
    phrase: "Kdump compressed dump v6, system Linux, node web1, release 6.1.0-56-amd64, machine x86_64",
    facts: {
      headerVersion: 6,
      release: "6.1.0-56-amd64",
      machine: "x86_64",
      node: "web1",
      blockSize: 4096,
      compression: "zlib",
      complete: true,
      cpus: 4,
      dumpLevel: 31,
      split: true,
    },
    advice: /^guestcore convert dump vmcore {4}# with its other parts/,
    readable: true,
  },
  {
    format: "kdump",
    bytes: kdump("KDUMP   ", "little", 0x28),
    phrase: /INCOMPLETE/,
    facts: { compression: "zstd", complete: false },
    advice: /^guestcore convert/,
    readable: true,
  },
  {
    format: "kdump",
    bytes: kdump("KDUMP   ", "big", 0),
    phrase: /v6, system Linux/,
    facts: { compression: "none", dumpLevel: 31 },
    advice: /^guestcore convert/,
    readable: true,
  },
  {
    format: "kdump",
    bytes: kdump32(),
    phrase: "Kdump compressed dump v5, system Linux, release 5.10.0-8-686, machine i686",
    facts: { compression: "snappy", cpus: 1, dumpLevel: 1, split: false },
    advice: /^crash vmlinux-5\.10\.0-8-686 dump/,
    readable: true,
  },
  {
    format: "kdump",
    bytes: Buffer.from("KDUMP   \x06\0\0\0"),
    phrase: "Kdump compressed dump v6",
    facts: { headerVersion: 6 },
    advice: "crash vmlinux dump",
    readable: true,
  },
  {
    format: "kdump",
    bytes: header(4096, "little", [0, "KDUMP   "], [8, 6], [142, "\x1b[31m; rm -rf /"], [428, 4096]),
    phrase: "Kdump compressed dump v6, release \\x1b[31m; rm -rf /",
    facts: { release: "\x1b[31m; rm -rf /" },
    advice: /^crash vmlinux dump$/,
    readable: true,
  },
  {
    format: "diskdump",
    bytes: kdump("DISKDUMP"),
    phrase: /^Diskdump v6/,
    advice: /^crash/,
    readable: true,
  },
  {
    format: "flattened",
    bytes: flattened(kdump()),
    phrase:
      "Flattened kdump compressed dump v6, system Linux, node web1, release 6.1.0-56-amd64, machine x86_64",
    facts: { contents: "kdump", whole: true, release: "6.1.0-56-amd64", compression: "zlib" },
    advice: /^makedumpfile -R dump\.vmcore < dump /,
  },
  {
    format: "flattened",
    bytes: flattened(Buffer.concat([Buffer.from("\x7fELF"), noise]), false),
    phrase: "Flattened ELF dump, TRUNCATED: its end mark is missing",
    facts: { contents: "elf", whole: false },
    advice: /^makedumpfile -R/,
  },
  {
    format: "flattened",
    bytes: Buffer.from("makedumpfile\0\0\0\0"),
    phrase: /unknown contents, TRUNCATED/,
    facts: { whole: false },
    advice: /^makedumpfile/,
  },
  {
    format: "sadump",
    bytes: Buffer.concat([sadumpPartition(), sadumpHeader, noise]),
    phrase: "Fujitsu sadump",
    facts: { time: "2026-11-21T07:05:09", headerVersion: 1, blockSize: 4096, maxPfn: 0x40000, cpus: 8 },
    advice: /^guestcore convert dump vmcore/,
    readable: true,
  },
  {
    format: "sadump",
    bytes: Buffer.concat([sadumpPartition(1), header(4096, "little", [0, 1]), sadumpHeader, noise]),
    phrase: "Fujitsu sadump, disk 1 of a set",
    facts: { disk: 1, cpus: 8 },
    advice: /^guestcore convert DISK1 --part DISK2/,
    readable: true,
  },
  {
    format: "sadump",
    bytes: Buffer.concat([sadumpPartition(3), noise]),
    phrase: /disk 3 of a set/,
    facts: { disk: 3 },
    advice: /number 3/,
    readable: true,
  },
  {
    format: "sadump-media",
    bytes: Buffer.concat([Buffer.alloc(4096, 7), sadumpPartition(), sadumpHeader]),
    phrase: "Fujitsu sadump media backup",
    facts: { cpus: 8, time: "2026-11-21T07:05:09" },
    advice: /^guestcore convert dump vmcore/,
    readable: true,
  },
  {
    format: "lime",
    bytes: Buffer.concat([header(32, "little", [0, "EMiL"], [4, 1], [8, 0x1000n], [16, 0x9fbffn]), noise]),
    phrase: "LiME memory image v1, first range 0x1000-0x9fc00",
    facts: { version: 1, firstRange: "0x1000-0x9fc00" },
    advice: /^guestcore convert dump vmcore /,
    readable: true,
  },
  {
    format: "avml",
    bytes: Buffer.concat([header(32, "little", [0, "AVML"], [4, 2], [8, 0x1000n], [16, 0x9efffn]), noise]),
    phrase: "AVML compressed memory image v2, first range 0x1000-0x9f000",
    facts: { version: 2 },
    advice: /^guestcore convert dump vmcore /,
    readable: true,
  },
  {
    format: "lkcd",
    bytes: header(4096, "little", [0, 0xa8190173618f23edn], [8, 9]),
    phrase: "LKCD dump v9",
    facts: { version: 9 },
    advice: /^crash/,
  },
  {
    format: "windows",
    bytes: header(8192, "little", [0, "PAGEDU64"], [8, 15], [12, 19041], [48, 0x8664], [52, 4]),
    phrase: "MS Windows 64-bit crash dump, build 19041, 4 CPUs",
    facts: { build: 19041, cpus: 4 },
    advice: /^vol -f dump windows/,
  },
  {
    format: "windows-32",
    bytes: header(4096, "little", [0, "PAGEDUMP"], [8, 15], [12, 2600], [32, 0x14c], [36, 1]),
    phrase: "MS Windows 32-bit crash dump, build 2600, 1 CPU",
    facts: { build: 2600, cpus: 1 },
    advice: /^vol/,
  },
  {
    format: "xc-core",
    bytes: header(4096, "little", [0, 0xf00febed], [4, 2], [8, 0x10000]),
    phrase: "Xen PV domain core (xc_core), 2 vCPUs, 256.0 MiB of memory",
    facts: { cpus: 2, pages: 0x10000 },
    advice: /^crash vmlinux dump /,
  },
  {
    format: "xc-core-hvm",
    bytes: header(64, "little", [0, 0xf00febee], [4, 1], [8, 16]),
    phrase: /^Xen HVM/,
    facts: { cpus: 1 },
    advice: /^guestcore convert dump vmcore /,
    readable: true,
  },
  {
    format: "xc-core-elf",
    bytes: buildXenCore({ pages: [[7, noise.subarray(0, 4096)]], contexts: [] }),
    phrase: "Xen HVM or PVH domain core (xc_core ELF), 4.0 KiB of memory",
    facts: { paravirtualised: false, memory: 4096 },
    advice: /^guestcore convert dump vmcore /,
    readable: true,
  },
  {
    format: "xc-core-elf",
    bytes: buildXenCore({ pages: [[7, noise.subarray(0, 4096)]], contexts: [], p2m: true }),
    phrase: "Xen PV domain core (xc_core ELF), 4.0 KiB of memory",
    facts: { paravirtualised: true },
    advice: /^crash vmlinux dump .*HVM and PVH/,
  },
  {
    format: "minidump",
    bytes: header(64, "little", [0, "MDMP"], [4, 0xa793], [8, 13]),
    phrase: "Mini DuMP crash report, 13 streams",
    facts: { streams: 13 },
    advice: /no guest memory/,
  },
  {
    format: "qemu-migration",
    bytes: header(64, "big", [0, "QEVM"], [4, 3], [8, 7, 1], [9, 10], [13, "pc-q35-7.2"]),
    phrase: "QEMU suspend to disk image (migration stream), v3, machine pc-q35-7.2",
    facts: { version: 3, machine: "pc-q35-7.2" },
    advice: "guestcore convert dump vmcore",
    readable: true,
  },
  {
    format: "qemu-migration",
    bytes: header(64, "big", [0, "QEVM"], [4, 3], [8, 7, 1], [9, 0xffffffff]),
    phrase: /v3$/,
    facts: { version: 3 },
    advice: "guestcore convert dump vmcore",
    readable: true,
  },
  {
    format: "qemu-migration",
    bytes: header(64, "big", [0, "QEVM"], [4, 3], [8, 7, 1], [9, 8], [13, "virt-7.2"]),
    phrase: /machine virt-7\.2$/,
    facts: { version: 3, machine: "virt-7.2" },
    advice: /-machine virt-7\.2 .*-incoming "exec:cat dump"/,
  },
  {
    format: "libvirt-save",
    bytes: save("LibvirtQemudSave", "little"),
    phrase: "Libvirt QEMU suspend image, version 2, domain db1",
    facts: { version: 2, domain: "db1", machine: "pc-q35-7.2", running: true, compression: "zstd" },
    advice: "guestcore convert dump vmcore",
    readable: true,
  },
  {
    format: "libvirt-save-partial",
    bytes: save("LibvirtQemudPart", "big"),
    phrase: "Libvirt QEMU partial suspend image, version 2, domain db1",
    facts: { version: 2, domain: "db1", compression: "zstd" },
    advice: /^guestcore convert dump vmcore {4}# .*not finished/,
    readable: true,
  },
  {
    format: "vmware-state",
    bytes: header(512, "little", [0, 0xbed2bed2], [4, 8], [8, 2], [12, "Checkpoint"], [92, "memory"]),
    phrase: "VMware suspended state or snapshot (vmss, vmsn), 2 groups",
    facts: { groups: "Checkpoint memory", memoryGroup: true },
    advice: /^guestcore convert dump vmcore .*\.vmem/,
    readable: true,
  },
  {
    format: "vmware-state",
    bytes: header(64, "little", [0, 0xbed3bed3], [8, 0xffffffff]),
    phrase: /4294967295 groups/,
    facts: { memoryGroup: false },
    advice: /^guestcore/,
    readable: true,
  },
  {
    format: "vmware-state",
    bytes: header(64, "little", [0, 0xbed0bed0], [8, 3]),
    phrase: /32-bit, 3 groups/,
    advice: /not read/,
  },
  {
    format: "vmware-memory",
    name: "web1.vmem",
    bytes: Buffer.concat([Buffer.alloc(4096), noise]),
    phrase: "VMware memory of a suspended machine or snapshot (vmem), 12.0 KiB",
    advice: /^guestcore convert web1\.vmem vmcore .*\.vmss/,
    readable: true,
    uncertain: true,
  },
  {
    format: "xen-save",
    bytes: Buffer.concat([Buffer.from("LinuxGuestRecord"), noise]),
    phrase: /xc_save/,
    advice: /^xm restore/,
  },
  {
    format: "xen-save-xl",
    bytes: Buffer.concat([Buffer.from("Xen saved domain, xl format\n \0 \r"), noise]),
    phrase: /xl format/,
    advice: /^xl restore -p dump/,
  },
  {
    format: "gzip",
    bytes: Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3]), Buffer.from("core.1\0"), noise]),
    phrase: 'gzip compressed data, was "core.1"',
    facts: { name: "core.1" },
    advice: /^guestcore info dump/,
    readable: true,
  },
  {
    format: "gzip",
    bytes: gzipSync(noise),
    phrase: "gzip compressed data",
    advice: /^guestcore/,
    readable: true,
  },
  {
    format: "zstd",
    bytes: sampleZstd(),
    phrase: "Zstandard compressed data",
    facts: { checksum: true },
    advice: /^guestcore info dump/,
    readable: true,
  },
  {
    format: "zstd",
    bytes: header(64, "little", [0, 0xfd2fb528], [4, 0xc0, 1], [5, 0x88, 1], [6, 0x80000000n]),
    phrase: /Zstandard/,
    facts: { windowSize: 128 * 2 ** 20, contentSize: 2 ** 31, checksum: false },
    advice: /^guestcore/,
    readable: true,
  },
  {
    format: "zstd",
    bytes: header(64, "little", [0, 0x184d2a5a]),
    phrase: /Zstandard/,
    advice: /^guestcore/,
    readable: true,
  },
  {
    format: "xz",
    bytes: Buffer.concat([Buffer.from("fd377a585a00", "hex"), noise]),
    phrase: /XZ/,
    advice: /^xz --decompress --keep dump /,
  },
  {
    format: "bzip2",
    bytes: Buffer.concat([Buffer.from("BZh9"), noise]),
    phrase: /bzip2/,
    advice: /^bzip2 --decompress/,
  },
  {
    format: "lz4",
    bytes: Buffer.concat([Buffer.from("04224d18", "hex"), noise]),
    phrase: /LZ4/,
    advice: /^lz4 --decompress/,
  },
  {
    format: "lz4-legacy",
    bytes: Buffer.concat([Buffer.from("02214c18", "hex"), noise]),
    phrase: /legacy/,
    advice: /^lz4/,
  },
  {
    format: "lzop",
    bytes: Buffer.concat([Buffer.from("894c5a4f000d0a1a0a", "hex"), noise]),
    phrase: /lzop/,
    advice: /^lzop --decompress dump/,
  },
  {
    format: "zip",
    bytes: Buffer.concat([Buffer.from("PK\x03\x04"), noise]),
    phrase: /Zip/,
    advice: /^unzip dump/,
  },
  {
    format: "7z",
    bytes: Buffer.concat([Buffer.from("377abcaf271c", "hex"), noise]),
    phrase: /7-zip/,
    advice: /^7z x dump/,
  },
  {
    format: "tar",
    bytes: header(1024, "little", [0, "core"], [257, "ustar"]),
    phrase: /tar/,
    advice: /^tar --extract/,
  },
  {
    format: "qcow2",
    bytes: header(512, "big", [0, "QFI\xfb"], [4, 3], [24, 10n << 30n], [60, 0]),
    phrase: "QEMU QCOW2 Image (v3), 10.0 GiB",
    facts: { version: 3, virtualSize: 10 * 2 ** 30 },
    advice: /^qemu-img info dump .*not a memory dump/,
  },
  {
    format: "qcow2",
    bytes: header(512, "big", [0, "QFI\xfb"], [4, 3], [24, 1n << 30n], [60, 2]),
    phrase: /2 snapshots/,
    facts: { snapshots: 2 },
    advice: /^qemu-img snapshot -l dump/,
  },
  {
    format: "vmdk",
    bytes: Buffer.concat([Buffer.from("KDMV"), noise]),
    phrase: /VMware4/,
    advice: /^qemu-img/,
  },
  {
    format: "vmdk",
    bytes: Buffer.concat([Buffer.from("COWD"), noise]),
    phrase: /VMware3/,
    advice: /^qemu-img/,
  },
  {
    format: "vmdk",
    bytes: Buffer.from("# Disk DescriptorFile\nversion=1\n"),
    phrase: /descriptor/,
    advice: /^qemu-img/,
  },
  {
    format: "vhdx",
    bytes: Buffer.concat([Buffer.from("vhdxfile"), noise]),
    phrase: /VHDX/,
    advice: /^qemu-img/,
  },
  {
    format: "vhd",
    bytes: Buffer.concat([Buffer.from("conectix"), noise]),
    phrase: /VHD/,
    advice: /^qemu-img/,
  },
  {
    format: "vdi",
    bytes: header(512, "little", [0, "<<< Oracle VM"], [64, 0xbeda107f]),
    phrase: /VDI/,
    advice: /^qemu-img/,
  },
  { format: "qed", bytes: Buffer.concat([Buffer.from("QED\0"), noise]), phrase: /QED/, advice: /^qemu-img/ },
  {
    format: "disk-gpt",
    bytes: header(8192, "little", [510, 0xaa55, 2], [512, "EFI PART"]),
    phrase: /GUID/,
    advice: /^qemu-img/,
  },
  {
    format: "bzimage",
    bytes: header(
      8192,
      "little",
      [0, "MZ"],
      [0x202, "HdrS"],
      [0x20e, 0x300, 2],
      [0x500, "6.1.0-56-amd64 (debian-kernel) #1"],
    ),
    phrase: "Linux kernel x86 boot executable, version 6.1.0-56-amd64",
    facts: { release: "6.1.0-56-amd64" },
    advice: /not a dump/,
  },
  {
    format: "kernel-arm64",
    bytes: header(4096, "little", [0, "MZ"], [56, "ARM\x64"]),
    phrase: /ARM64/,
    advice: /not a dump/,
  },
  { format: "empty", bytes: Buffer.alloc(0), phrase: "empty", advice: /again/ },
  {
    format: "text",
    bytes: Buffer.from("[    0.000000] Linux version 6.1.0\r\n\x1b[0m größe\n"),
    phrase: "text",
    advice: /^less dump/,
    uncertain: true,
  },
  {
    format: "short",
    bytes: Buffer.from([1, 2, 3, 0]),
    phrase: "data, too short for any dump: 4 bytes",
    facts: { start: "01020300" },
    advice: /again/,
  },
  {
    format: "raw",
    bytes: Buffer.concat([Buffer.alloc(4096), noise]),
    phrase: /12\.0 KiB: perhaps a raw memory image/,
    advice: /^guestcore convert dump vmcore --map 0-0x3000 .*--map q35/,
    uncertain: true,
  },
  {
    format: "raw",
    name: "/snap 1/memory-ranges",
    bytes: Buffer.concat([Buffer.alloc(4096), noise]),
    phrase: /12\.0 KiB: perhaps a raw memory image/,
    advice:
      /^guestcore convert '\/snap 1\/memory-ranges' vmcore --map '\/snap 1\/state\.json' .*Cloud Hypervisor/,
    uncertain: true,
  },
  {
    format: "data",
    bytes: noise.subarray(1, 4000),
    phrase: /unknown format, 3\.9 KiB, starting with a74e/,
    advice: /knows no dump/,
    uncertain: true,
  },
];

test.each(CASES)(
  "$format: $phrase",
  ({ format, bytes, name, phrase, facts, advice, readable, uncertain }) => {
    const source = new Bytes(bytes, name);
    const found = identify(source);
    expect(found.format).toBe(format);
    if (typeof phrase === "string") expect(found.phrase).toBe(phrase);
    else expect(found.phrase).toMatch(phrase);
    if (facts !== undefined) expect(found.facts).toMatchObject(facts);
    if (typeof advice === "string") expect(found.advice).toBe(advice);
    else expect(found.advice).toMatch(advice);
    expect([found.readable, found.certain]).toEqual([readable ?? false, uncertain !== true]);
    expect(source.total).toBeLessThanOrEqual(128 * 1024);
  },
);

test("every format of the table has a case here", () => {
  const covered = new Set(CASES.map(({ format }) => format));
  expect(FORMATS.map(({ name }) => name).filter((name) => !covered.has(name))).toEqual([]);
});

test("the file's name is quoted for the shell", () => {
  expect(identify(new Bytes(kdump(), "my dump's")).advice).toContain("'my dump'\\''s'");
});

function expectOneLine(text: string): void {
  expect(printable(text)).toBe(text);
  expect(text).not.toMatch(/undefined|NaN/);
}

describe("hostile headers", () => {
  test("every case cut anywhere: no exception, and what is known stays one line", () => {
    for (const { bytes } of CASES) {
      for (const length of [
        0, 1, 3, 4, 5, 8, 11, 12, 16, 20, 31, 64, 91, 160, 430, 470, 4095, 4097, 4112, 4200, 8191,
      ]) {
        const { phrase, advice } = identify(new Bytes(bytes.subarray(0, length)));
        expectOneLine(phrase + advice);
      }
    }
  });

  test("every case with anything behind its first bytes", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...CASES.map(({ bytes }) => bytes)),
        fc.integer({ min: 4, max: 40 }),
        fc.uint8Array({ minLength: 0, maxLength: 600 }),
        (bytes, keep, noisy) => {
          const source = new Bytes(
            Buffer.concat([bytes.subarray(0, keep), noisy, bytes.subarray(keep + noisy.length)]),
          );
          const { phrase, advice } = identify(source);
          expectOneLine(phrase + advice);
          expect(source.total).toBeLessThanOrEqual(128 * 1024);
        },
      ),
      { numRuns: 3000, seed: 20261121 },
    );
  });

  test("a file that shrinks between stat and read", () => {
    const shrunk: ByteSource = { name: "x", size: 1 << 20, read: () => 0 };
    expect(identify(shrunk).certain).toBe(false);
  });
});

/** What file(1) calls the same bytes; it is the reference for the words. */
const WORDS: Readonly<Record<string, RegExp>> = {
  kdump: /Kdump compressed dump v6, system Linux, node web1, release 6\.1\.0-56-amd64/,
  flattened: /Flattened kdump compressed dump v6/,
  "libvirt-save": /Libvirt QEMU Suspend Image, version 2/i,
  "libvirt-save-partial": /Libvirt QEMU partial Suspend Image/i,
  "qemu-migration": /QEMU suspend to disk image/,
  gzip: /gzip compressed data, was "core\.1"/,
  zstd: /Zstandard compressed data/i,
  xz: /XZ compressed data/,
  qcow2: /QEMU QCOW2? Image \(v3\)/i,
  windows: /MS Windows 64bit crash dump/,
};
const directory = mkdtempSync(join(tmpdir(), "guestcore-identify-"));
afterAll(() => rmSync(directory, { recursive: true }));
test.skipIf(spawnSync("file", ["--version"]).status !== 0).each(Object.entries(WORDS))(
  "file(1) agrees on %s (skipped when it is not installed)",
  (format, words) => {
    const path = join(directory, format);
    writeFileSync(path, CASES.find((c) => c.format === format)!.bytes);
    expect(spawnSync("file", ["--brief", path]).stdout.toString()).toMatch(words);
  },
);

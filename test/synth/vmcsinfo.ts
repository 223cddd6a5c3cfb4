/** VMCSINFO in every form, written from docs/formats.md and the cover letters of 2012; shares nothing with src/. */

export interface Field {
  readonly encoding: number;
  readonly offset: number;
  /** KVM's name; fields without one are not in text notes. */
  readonly name?: string;
  /** Of access rights: how they are stored. */
  readonly form?: "plain" | "rotated" | "packed";
}

/** The 16-bit code of an even offset: 7 high bits, 1, 7 low bits, 0. */
export const code = (offset: number): number =>
  (Math.floor(offset / 128) << 9) | (1 << 8) | ((offset % 128) << 1);

/** Bytes of an encoding on a 64-bit processor. */
export function bytesOf(encoding: number): number {
  const width = (encoding >> 13) & 3;
  if (width === 0) return 2;
  return width === 2 || (width === 1 && encoding % 2 === 1) ? 4 : 8;
}

/** What VMREAD returns when every word of the region is `word(offset)`. */
export function vmread({ encoding, offset, form }: Field, word: (offset: number) => number = code): bigint {
  const words = Array.from({ length: 4 }, (_, i) => BigInt(word(offset + 2 * i)));
  if (form === "packed") {
    const stored = Number(words[0]);
    return BigInt((stored % 256) + (stored & 0xf000)) + ((stored & 0x800) !== 0 ? 0x1_0000n : 0n);
  }
  const dword = words[0]! + words[1]! * 0x1_0000n;
  if (form === "rotated") return dword / 256n + (dword % 256n) * 0x100_0000n;
  const size = bytesOf(encoding);
  return words.slice(0, size / 2).reduce((sum, each, i) => sum + each * (1n << BigInt(16 * i)), 0n);
}

export const v1Text = (revision: number, fields: readonly Field[]): string =>
  [
    `REVISION_ID=${revision.toString(16)}`,
    ...fields
      .filter(({ name }) => name !== undefined)
      .map(
        (field) =>
          `FIELD(${field.name})=${vmread(field)
            .toString(16)
            .padStart(2 * bytesOf(field.encoding), "0")}`,
      ),
    "",
  ].join("\n");

export function v2Binary(
  revision: number,
  fields: readonly Field[],
  word: (offset: number) => number = code,
): Buffer {
  const bytes = Buffer.alloc(4 + 12 * fields.length);
  bytes.writeUInt32LE(revision, 0);
  for (const [i, field] of fields.entries()) {
    bytes.writeUInt32LE(field.encoding, 4 + 12 * i);
    bytes.writeBigUInt64LE(vmread(field, word), 8 + 12 * i);
  }
  return bytes;
}

export function array(revision: number | undefined, fields: readonly Field[], width: 2 | 4 = 4): Buffer {
  const pairs = Buffer.alloc(2 * width * fields.length);
  for (const [i, { encoding, offset }] of fields.entries()) {
    pairs.writeUIntLE(encoding, 2 * width * i, width);
    pairs.writeUIntLE(offset, 2 * width * i + width, width);
  }
  const head = Buffer.alloc(revision === undefined ? 0 : 4);
  if (revision !== undefined) head.writeUInt32LE(revision);
  return Buffer.concat([head, pairs]);
}

export const table = (revision: number, fields: readonly Field[]): string =>
  [
    `# revision 0x${revision.toString(16)}`,
    ...fields.map((field) => {
      const { encoding, offset, form = "plain" } = field;
      const raw = vmread(field).toString(16);
      return `0x${encoding.toString(16).padStart(4, "0")} 0x${offset.toString(16)} ${bytesOf(encoding)} 0x${raw} ${form}`;
    }),
    "",
  ].join("\n");

/** Paths below /sys of the third, fourth and fifth patch set, numbers spelt by `spell`. */
export function sysfs(
  version: 3 | 4 | 5,
  revision: number,
  fields: readonly Field[],
  spell: (value: number) => string = (value) => `0x${value.toString(16)}`,
): Map<string, string> {
  const cpu = version === 3 ? "devices/cpu" : "devices/system/cpu";
  const files = new Map(
    fields.map(({ encoding, offset }) => [
      `${cpu}/vmcs/${encoding.toString(16).padStart(4, "0")}`,
      `${spell(offset)}\n`,
    ]),
  );
  if (version === 4) files.set(`${cpu}/vmcs_id`, `${spell(revision)}\n`);
  if (version === 5) files.set(`${cpu}/vmcs/id`, `${spell(revision)}\n`);
  files.set("devices/system/cpu/online", "0-3\n");
  return files;
}

/** A minimal ustar archive of regular files. */
export function tar(files: ReadonlyMap<string, string>): Buffer {
  const blocks: Buffer[] = [];
  for (const [path, text] of files) {
    const header = Buffer.alloc(512);
    const contents = Buffer.from(text, "latin1");
    header.write(path, 0, "latin1");
    header.write("0000644\0", 100);
    header.write("0000000\0", 108);
    header.write("0000000\0", 116);
    header.write(`${contents.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write("00000000000\0", 136);
    header.write("0", 156);
    header.write("ustar\x0000", 257);
    setChecksum(header);
    blocks.push(header, contents, Buffer.alloc((512 - (contents.length % 512)) % 512));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

export function setChecksum(header: Buffer): void {
  header.fill(0x20, 148, 156);
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
}

/** What rekall's module prints, with the log's prefix. */
export const rekall = (revision: number, members: readonly (readonly [string, number])[]): string =>
  [
    "[  101.000001] [i] ---COPY HERE--- What follows is your profile.",
    "[  101.000002] {",
    '[  101.000003]  "$STRUCTS" {',
    `[  101.000004]   "NEW_VMCS_0x${revision.toString(16).toUpperCase()}": [4096, {`,
    "[  101.000005]    # GUEST_ES_ATTR\t5654\tMISALIGNED",
    ...members.map(([name, offset]) => `[  101.000006]    "${name}": [${offset}, ["(null)", {}]],`),
    "[  101.000007]    }]",
    "",
  ].join("\n");

/** The Core 2 E7500 of the cover letters: a few fields of every width. */
export const E7500: readonly Field[] = [
  { encoding: 0x4000, offset: 0x40, name: "PIN_BASED_VM_EXEC_CONTROL" },
  { encoding: 0x4002, offset: 0x48, name: "CPU_BASED_VM_EXEC_CONTROL" },
  { encoding: 0x401e, offset: 0x3f0, name: "SECONDARY_VM_EXEC_CONTROL" },
  { encoding: 0x400c, offset: 0x70, name: "VM_EXIT_CONTROLS" },
  { encoding: 0x4012, offset: 0x88, name: "VM_ENTRY_CONTROLS" },
  { encoding: 0x0800, offset: 0x100, name: "GUEST_ES_SELECTOR" },
  { encoding: 0x0802, offset: 0x118, name: "GUEST_CS_SELECTOR" },
  { encoding: 0x681e, offset: 0x338, name: "GUEST_RIP" },
  { encoding: 0x681c, offset: 0x330, name: "GUEST_RSP" },
  { encoding: 0x6802, offset: 0x308, name: "GUEST_CR3" },
  { encoding: 0x2800, offset: 0x20, name: "VMCS_LINK_POINTER" },
  { encoding: 0x2801, offset: 0x24, name: "VMCS_LINK_POINTER_HIGH" },
  { encoding: 0x4814, offset: 0x114, name: "GUEST_ES_AR_BYTES", form: "rotated" },
  { encoding: 0x4816, offset: 0x12c, name: "GUEST_CS_AR_BYTES", form: "rotated" },
];

/** A Haswell-like region, with packed access rights behind the selectors. */
export const PACKED: readonly Field[] = [
  { encoding: 0x0800, offset: 0x20 },
  { encoding: 0x0802, offset: 0x130 },
  { encoding: 0x0804, offset: 0x940 },
  { encoding: 0x0806, offset: 0xe50 },
  { encoding: 0x4814, offset: 0x22, form: "packed" },
  { encoding: 0x4816, offset: 0x132, form: "packed" },
  { encoding: 0x4818, offset: 0x942, form: "packed" },
  { encoding: 0x481a, offset: 0xe52, form: "packed" },
  { encoding: 0x681e, offset: 0x1d8 },
];

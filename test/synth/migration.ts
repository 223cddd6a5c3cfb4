import { deflateSync } from "node:zlib";
import { type SavedDevice, stateBytes, stateJson } from "./migration-devices.ts";

/** Migration streams and save images, written from QEMU's and libvirt's documentation of them; nothing of src/. */

const PAGE = 4096;

export interface Block {
  readonly name: string;
  readonly size: number;
  /** Bytes behind the size: the size of large pages, the address of x-ignore-shared. */
  readonly extra?: Buffer;
  /** Of a mapped-ram stream: pages that are not zeros; null: left out. */
  readonly mapped?: ReadonlyMap<number, Buffer> | null;
}

/** What one item of a memory section brings. */
export type Item =
  | { readonly block: string; readonly page: number; readonly bytes: Buffer }
  | { readonly block: string; readonly page: number; readonly fill: number }
  | { readonly block: string; readonly page: number; readonly zlib: Buffer }
  | { readonly block: string; readonly page: number; readonly delta: Buffer }
  /** An item of these flags and nothing else. */
  | { readonly flags: number };

/** A section that is no memory, as it is, between others. */
export interface RawSection {
  readonly raw: Buffer;
}

export interface MigrationSpec {
  /** Default pc-q35-7.2; undefined: no configuration section. */
  readonly machine?: string | undefined;
  readonly capabilities?: readonly string[];
  /** Further subsections of the configuration: name and contents. */
  readonly configuration?: readonly (readonly [name: string, contents: Buffer])[];
  readonly version?: number;
  readonly blocks: readonly Block[];
  /** Items of each section of memory. */
  readonly parts: readonly (readonly Item[] | RawSection)[];
  /** Whether the last one ends it, which no part of a background snapshot does. Default true. */
  readonly ended?: boolean;
  /** Before memory starts. */
  readonly before?: readonly Buffer[];
  readonly devices?: readonly (SavedDevice | RawSection)[];
  /** Default true. */
  readonly described?: boolean;
  readonly footers?: boolean;
  readonly ramVersion?: number;
  /** Where the pages of mapped-ram are aligned; QEMU's is 1 MiB. */
  readonly alignment?: number;
}

const u8 = (value: number) => Buffer.from([value]);
const u16 = (value: number) => number(value, 2);
const u32 = (value: number) => number(value, 4);
const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const text = (value: string) => Buffer.concat([u8(value.length), Buffer.from(value, "latin1")]);

function number(value: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
}

export const RAM_SECTION = 2;

export const footer = (id: number): Buffer => Buffer.concat([u8(0x7e), u32(id)]);
/** Section header: 1 is START, 4 is FULL. */
export const sectionHead = (
  type: 1 | 4,
  id: number,
  name: string,
  instance: number,
  version: number,
): Buffer => Buffer.concat([u8(type), u32(id), text(name), u32(instance), u32(version)]);
export const command = (code: number, data = Buffer.alloc(0)): Buffer =>
  Buffer.concat([u8(8), u16(code), u16(data.length), data]);

/** A growing file, and where in it something begins. */
class File {
  readonly boundaries: number[] = [];
  #parts: Buffer[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  put(...parts: readonly Buffer[]): void {
    this.boundaries.push(this.#size);
    for (const part of parts) {
      this.#parts.push(part);
      this.#size += part.length;
    }
  }

  bytes(): Buffer {
    const all = Buffer.concat(this.#parts);
    this.#parts = [all];
    return all;
  }
}

export interface BuiltStream {
  readonly bytes: Buffer;
  /** Where items and sections begin. */
  readonly boundaries: readonly number[];
}

export function buildMigration(spec: MigrationSpec): BuiltStream {
  const { machine = "pc-q35-7.2", footers = true, described = true, devices = [] } = spec;
  const file = new File();
  file.put(Buffer.from("QEVM"), u32(spec.version ?? 3));
  if (!("machine" in spec) || spec.machine !== undefined) putConfiguration(file, machine, spec);
  for (const section of spec.before ?? []) file.put(section);
  const end = footers ? footer(RAM_SECTION) : Buffer.alloc(0);
  file.put(sectionHead(1, RAM_SECTION, "ram", 0, spec.ramVersion ?? 4));
  putBlocks(file, spec);
  file.put(u64(0x10), end);
  for (const [i, part] of spec.parts.entries()) {
    if ("raw" in part) {
      file.put(part.raw);
      continue;
    }
    const isLast = spec.ended !== false && !spec.parts.slice(i + 1).some((later) => !("raw" in later));
    file.put(u8(isLast ? 3 : 2), u32(RAM_SECTION));
    putItems(file, part);
    file.put(u64(0x10), end);
  }
  for (const [i, device] of devices.entries()) {
    if ("raw" in device) file.put(device.raw);
    else {
      const id = RAM_SECTION + 1 + i;
      file.put(sectionHead(4, id, device.name, device.instance, device.version));
      file.put(stateBytes(device), footers ? footer(id) : Buffer.alloc(0));
    }
  }
  file.put(u8(0));
  if (described) {
    const described = devices.filter((device): device is SavedDevice => !("raw" in device));
    const json = Buffer.from(JSON.stringify({ page_size: PAGE, devices: described.map(stateJson) }));
    file.put(description(json));
  }
  return { bytes: file.bytes(), boundaries: [...file.boundaries, file.size] };
}

export const description = (json: Buffer): Buffer => Buffer.concat([u8(6), u32(json.length), json]);

function putConfiguration(file: File, machine: string, spec: MigrationSpec): void {
  const subsection = (name: string, contents: Buffer) => Buffer.concat([u8(5), text(name), u32(1), contents]);
  const { capabilities } = spec;
  file.put(u8(7), u32(machine.length), Buffer.from(machine, "latin1"));
  if (capabilities !== undefined) {
    const contents = Buffer.concat([u32(capabilities.length), ...capabilities.map(text)]);
    file.put(subsection("configuration/capabilities", contents));
  }
  for (const [name, contents] of spec.configuration ?? []) file.put(subsection(name, contents));
}

function putBlocks(file: File, { blocks, alignment = PAGE }: MigrationSpec): void {
  const total = blocks.reduce((sum, { size }) => sum + size, 0);
  file.put(u64(total + 4));
  for (const { name, size, extra, mapped } of blocks) {
    file.put(text(name), u64(size), extra ?? Buffer.alloc(0));
    if (mapped === null) file.put(u32(1), u64(PAGE), u64(0), u64(0));
    else if (mapped !== undefined) putMapped(file, size / PAGE, mapped, alignment);
  }
}

function putMapped(
  file: File,
  pages: number,
  contents: ReadonlyMap<number, Buffer>,
  alignment: number,
): void {
  const bits = Buffer.alloc(Math.ceil(pages / 64) * 8);
  for (const page of contents.keys()) bits[page >> 3]! |= 1 << (page & 7);
  const bitmapAt = file.size + 28;
  const pagesAt = Math.ceil((bitmapAt + bits.length) / alignment) * alignment;
  file.put(u32(1), u64(PAGE), u64(bitmapAt), u64(pagesAt), bits);
  file.put(Buffer.alloc(pagesAt - file.size));
  for (let page = 0; page < pages; page++) file.put(contents.get(page) ?? Buffer.alloc(PAGE));
}

function putItems(file: File, items: readonly Item[]): void {
  let current = "";
  for (const item of items) {
    if ("flags" in item) {
      file.put(u64(item.flags));
      continue;
    }
    const continues = item.block === current;
    current = item.block;
    const [flag, contents] = encoded(item);
    const head = u64(BigInt(item.page) * BigInt(PAGE) + BigInt(flag | (continues ? 0x20 : 0)));
    file.put(head, continues ? Buffer.alloc(0) : text(item.block), contents);
  }
}

function encoded(item: Exclude<Item, { flags: number }>): readonly [flag: number, contents: Buffer] {
  if ("bytes" in item) return [8, item.bytes];
  if ("fill" in item) return [2, u8(item.fill)];
  if ("zlib" in item) {
    const packed = deflateSync(item.zlib, { level: 1 });
    return [0x100, Buffer.concat([u32(packed.length), packed])];
  }
  return [0x40, Buffer.concat([u8(1), u16(item.delta.length), item.delta])];
}

/** The difference of two pages: bytes that stay, bytes that change, and again. */
export function xbzrle(before: Buffer, after: Buffer): Buffer {
  const parts: Buffer[] = [];
  const length = (value: number) =>
    value < 128 ? u8(value) : Buffer.from([0x80 | (value & 0x7f), value >> 7]);
  for (let at = 0; at < PAGE; ) {
    const start = at;
    while (at < PAGE && before[at] === after[at]) at++;
    if (at === PAGE) break;
    const from = at;
    while (at < PAGE && before[at] !== after[at]) at++;
    parts.push(length(from - start), length(at - from), after.subarray(from, at));
  }
  return Buffer.concat(parts);
}

export interface SaveSpec {
  readonly state: Buffer;
  readonly magic?: string;
  readonly order?: "little" | "big";
  readonly version?: number;
  readonly format?: number;
  readonly xml?: string;
  /** Zeros behind the XML; libvirt's are 64 KiB. */
  readonly padding?: number;
}

/** What virsh save writes around the state. */
export function buildSave(spec: SaveSpec): Buffer {
  const { magic = "LibvirtQemudSave", order = "little", version = 2, format = 0, padding = 64 } = spec;
  const xml = Buffer.from(`${spec.xml ?? "<domain type='kvm'><name>db1</name></domain>"}\0`);
  const header = Buffer.alloc(92);
  header.write(magic, 0, "latin1");
  for (const [i, value] of [version, xml.length + padding, 1, format, 0].entries()) {
    if (order === "little") header.writeUInt32LE(value, 16 + 4 * i);
    else header.writeUInt32BE(value, 16 + 4 * i);
  }
  return Buffer.concat([header, xml, Buffer.alloc(padding), spec.state]);
}

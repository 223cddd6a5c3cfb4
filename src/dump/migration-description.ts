import type { JobContext } from "../core/job.ts";
import type { ByteSource } from "../core/memory.ts";
import { type FieldTable, readFields } from "./migration-fields.ts";

/** How a device's state lies in its section. */
export interface DeviceDescription {
  readonly name: string;
  readonly instance: number;
  /** Its vmsd_name, the same wherever the device is: "cpu", "mch"; "" where there is none. */
  readonly kind: string;
  /** Bytes. */
  readonly length: number;
  /** Of the devices that are looked into. */
  readonly fields: FieldTable | undefined;
}

/** QEMU_VM_VMDESCRIPTION. */
const VMDESCRIPTION = 6;
const HEADER_SIZE = 5;

/** A virtual CPU takes 7 KiB of it. */
const MAX_SIZE = 32 * 2 ** 20;
const MAX_DEVICE = 4 * 2 ** 20;
const MAX_DEVICES = 65_536;
/** Fields kept of all devices: those of 5000 virtual CPUs. */
const MAX_FIELDS = 2 ** 19;
/** QEMU's deepest is 14. */
const MAX_DEPTH = 64;
/** What a copy of a stream may have behind it: zeros that fill a block. */
const MAX_PADDING = 2 ** 20;
const CHUNK = 64 * 1024;

/**
 * Reads the description of the devices' states, JSON that QEMU writes behind the stream since 2.3 (`migration/savevm.c`,
 * `migration/vmstate.c` vmsd_desc_field_start). It is found from the end of the source; nothing in it can make this fail.
 * @param wanted names of devices (vmsd_name) whose fields matter
 * @returns by name and instance, see `deviceKey`; undefined when there is none
 */
export async function readDescription(
  source: ByteSource,
  wanted: ReadonlySet<string>,
  checkpoint: JobContext["checkpoint"] | undefined,
): Promise<ReadonlyMap<string, DeviceDescription> | undefined> {
  const text = findDescription(source);
  if (text === undefined) return undefined;
  const devices = new Map<string, DeviceDescription>();
  let fields = 0;
  for (const device of devicesIn(text)) {
    await checkpoint?.();
    const description = describe(device, wanted);
    if (description === undefined) continue;
    devices.set(deviceKey(description.name, description.instance), description);
    fields += description.fields?.size ?? 0;
    if (devices.size === MAX_DEVICES || fields > MAX_FIELDS) break;
  }
  return devices;
}

export const deviceKey = (name: string, instance: number): string => `${instance} ${name}`;

function describe(text: Buffer, wanted: ReadonlySet<string>): DeviceDescription | undefined {
  const device = parse(text);
  const { name, instance_id: instance, vmsd_name: kind = "" } = device ?? {};
  if (typeof name !== "string" || typeof instance !== "number" || typeof kind !== "string") return undefined;
  const table = readFields(device, wanted.has(kind));
  return table && { name, instance, kind, ...table };
}

/** JSON.parse of an object that is known to be no deeper than `MAX_DEPTH`. */
function parse(text: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    return JSON.parse(text.toString("utf8")) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** The text behind a section header that counts the bytes from there to the end; there is no NUL in JSON. */
function findDescription(source: ByteSource): Buffer | undefined {
  const end = endOfText(source);
  const start = startOfText(source, end);
  // The length is below 2^25: its first byte is 0, the last of its zeros may be any.
  for (const json of [start, start + 1, start + 2, start + 3]) {
    const header = Buffer.alloc(HEADER_SIZE + 1);
    const at = json - HEADER_SIZE;
    if (at < 0 || source.read(at, header) < header.length) continue;
    const length = header.readUInt32BE(1);
    if (header[0] !== VMDESCRIPTION || header[HEADER_SIZE] !== BRACE || json + length !== end) continue;
    const text = Buffer.allocUnsafe(length);
    return source.read(json, text) === length ? text : undefined;
  }
  return undefined;
}

const BRACE = 0x7b;

function endOfText(source: ByteSource): number {
  const bytes = Buffer.alloc(CHUNK);
  const limit = Math.max(0, source.size - MAX_PADDING);
  for (let end = source.size; end > limit; ) {
    const from = Math.max(0, end - CHUNK);
    const got = source.read(from, bytes.subarray(0, end - from));
    for (let i = got - 1; i >= 0; i--) if (bytes[i] !== 0) return from + i + 1;
    end = from;
  }
  return source.size;
}

/** Behind the last NUL before `end`; `end` when there is none within the bound. */
function startOfText(source: ByteSource, end: number): number {
  const bytes = Buffer.alloc(CHUNK);
  const limit = Math.max(0, end - MAX_SIZE - HEADER_SIZE);
  for (let to = end; to > limit; ) {
    const from = Math.max(limit, to - CHUNK);
    const got = source.read(from, bytes.subarray(0, to - from));
    const nul = bytes.subarray(0, got).lastIndexOf(0);
    if (nul >= 0) return from + nul + 1;
    to = from;
  }
  return end;
}

/** QEMU_VM_SECTION_FOOTER, behind which the section's number is. */
const FOOTER = 0x7e;
const FOOTER_SIZE = 5;

/**
 * Whether a source without a description ends as a whole stream: with QEMU_VM_EOF, which is 0, behind a section, or behind
 * its footer where sections have them.
 */
export function endsWithMark(source: ByteSource, footers: boolean): boolean {
  const end = endOfText(source);
  if (!footers) return end < source.size;
  const from = Math.max(0, end - FOOTER_SIZE);
  const bytes = Buffer.alloc(end - from);
  source.read(from, bytes);
  return bytes.some((byte, i) => byte === FOOTER && from + i + FOOTER_SIZE < source.size);
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const OPENING = [BRACE, 0x5b];
const CLOSING = [0x7d, 0x5d];
/** Depth at which the devices are: in the one list of the outermost object. */
const DEVICE_DEPTH = 3;

/** The text of each device; what is too deep or too long ends the list. */
function* devicesIn(text: Buffer): Generator<Buffer> {
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const byte = text[i]!;
    if (byte === QUOTE) i = endOfString(text, i);
    else if (OPENING.includes(byte)) {
      if (++depth > MAX_DEPTH) return;
      if (depth === DEVICE_DEPTH) start = i;
    } else if (CLOSING.includes(byte)) {
      if (depth-- !== DEVICE_DEPTH) continue;
      if (i - start > MAX_DEVICE) return;
      yield text.subarray(start, i + 1);
    }
  }
}

/** Index of the quote that ends the string which begins at `start`. */
function endOfString(text: Buffer, start: number): number {
  let end = text.indexOf(QUOTE, start + 1);
  while (end > 0 && isEscaped(text, end)) end = text.indexOf(QUOTE, end + 1);
  return end < 0 ? text.length : end;
}

function isEscaped(text: Buffer, at: number): boolean {
  let from = at;
  while (text[from - 1] === BACKSLASH) from--;
  return (at - from) % 2 === 1;
}

import { fieldNamed } from "../../src/vmx/fields.ts";
import { bytesOf, type Field, v2Binary } from "./vmcsinfo.ts";
import { CONSISTENT, type Fields } from "./vmx-values.ts";

/** VMCS regions of a made-up processor, and notes of them, written from docs/formats.md; shares no layout with src/. */

export const REVISION = 0x5eed;

const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"].flatMap((name) =>
  ["SELECTOR", "BASE", "LIMIT", "AR_BYTES"].map((part) => `GUEST_${name}_${part}`),
);
const NAMES = [...new Set([...Object.keys(CONSISTENT), ...SEGMENTS])];

/** One field every 8 bytes, in no order of the encodings; access rights plain. */
export const PLACES: readonly (Field & { readonly name: string })[] = NAMES.map((name, i) => {
  const { encoding } = fieldNamed(name)!;
  const offset = 0x10 + 8 * i;
  return { name, encoding, offset, ...(name.endsWith("_AR_BYTES") ? { form: "plain" as const } : {}) };
});

/** VMCSINFO of it, as a descriptor. */
export const vmcsInfo = (): Buffer => v2Binary(REVISION, PLACES);

/** A region; what is not given is as in CONSISTENT, and 0 where that has nothing. */
export function vmcsPage(fields: Fields = {}): Buffer {
  const page = Buffer.alloc(4096);
  page.writeUInt32LE(REVISION, 0);
  for (const { name, encoding, offset } of PLACES) {
    let rest = fields[name] ?? CONSISTENT[name] ?? 0n;
    for (let i = 0; i < bytesOf(encoding); i++) {
      page[offset + i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
  }
  return page;
}

export interface RegionNoteSpec {
  readonly vcpu: number;
  readonly bytes: Uint8Array;
  readonly version?: number;
  readonly flags?: number;
  readonly address?: bigint;
  readonly size?: number;
  /** Behind the fields known, in the header. */
  readonly more?: Uint8Array;
}

/** Descriptor of a VMCS or VMCB note. */
export function regionNote(spec: RegionNoteSpec): Buffer {
  const { vcpu, bytes, version = 1, flags = 1, address = 0x254_9000n, size = 4096 } = spec;
  const { more = Buffer.alloc(0) } = spec;
  const words = Buffer.alloc(32);
  for (const [i, value] of [version, 32 + more.length, vcpu, flags].entries()) {
    words.writeUInt32LE(value, 4 * i);
  }
  words.writeBigUInt64LE(address, 16);
  words.writeUInt32LE(size, 24);
  return Buffer.concat([words, more, bytes]);
}

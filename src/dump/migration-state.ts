import type { ByteSource } from "../core/memory.ts";
import type { SavedDevice } from "./migration-sections.ts";

/** Bytes of a state that are looked at; what matters of a CPU is in the first 2 KiB. */
const MAX_STATE = 64 * 1024;

/** The bytes of a device's state, by the names of its fields. */
export class DeviceState {
  readonly #bytes: Buffer;
  readonly #fields: SavedDevice["fields"];

  constructor(source: ByteSource, { offset, fields }: SavedDevice) {
    const bytes = Buffer.alloc(Math.min(MAX_STATE, Math.max(0, source.size - offset)));
    this.#bytes = bytes.subarray(0, source.read(offset, bytes));
    this.#fields = fields;
  }

  /** An unsigned number of 1 to 8 bytes; undefined where the state does not have it. */
  number(name: string, element = 0): bigint | undefined {
    const place = this.#fields.get(name);
    if (place === undefined || element >= place.count || ![1, 2, 4, 8].includes(place.size)) return undefined;
    const at = place.offset + element * place.stride;
    if (at + place.size > this.#bytes.length) return undefined;
    return BigInt(`0x${this.#bytes.toString("hex", at, at + place.size)}`);
  }

  /** The first bytes of the first field with such a name; undefined where the state does not have so many. */
  buffer(name: RegExp, length: number): Buffer | undefined {
    for (const [path, { offset, size }] of this.#fields) {
      if (!name.test(path) || size < length) continue;
      return offset + length <= this.#bytes.length
        ? this.#bytes.subarray(offset, offset + length)
        : undefined;
    }
    return undefined;
  }
}

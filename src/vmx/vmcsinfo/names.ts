import { hex } from "../../core/text.ts";
import { isHighEncoding } from "../encoding.ts";
import { fieldNamed, fieldOf } from "../fields.ts";

const HIGH = "_HIGH";

/** Name of an encoding as KVM spells it, a high half with `_HIGH`; undefined when the SDM assigns it to no field. */
export function nameOf(encoding: number): string | undefined {
  const name = fieldOf(encoding)?.name;
  return name === undefined || !isHighEncoding(encoding) ? name : `${name}${HIGH}`;
}

/** The encoding of a name that `nameOf` gives. */
export function encodingNamed(name: string): number | undefined {
  const field = fieldNamed(name);
  if (field !== undefined) return field.encoding;
  const low = name.endsWith(HIGH) ? fieldNamed(name.slice(0, -HIGH.length)) : undefined;
  return low !== undefined && isHighEncoding(low.encoding + 1) ? low.encoding + 1 : undefined;
}

export const encodingText = (encoding: number): string => hex(encoding, 4);
export const offsetText = (offset: number): string => hex(offset, 3);

/** `GUEST_RIP (0x681e)`, for sentences. */
export function fieldText(encoding: number): string {
  const name = nameOf(encoding);
  return name === undefined ? `encoding ${encodingText(encoding)}` : `${name} (${encodingText(encoding)})`;
}

/** A JSON value with integers beyond 2^53 as bigint, exactly. */
export type Json = null | boolean | number | bigint | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** Marks an integer that is carried through JSON.parse as a string: no text of a message can be taken for one by accident. */
const MARK = "\u0001\u0002int:";
const MARK_JSON = "\\u0001\\u0002int:";
/** 2^53 has 16 digits. A number longer than any 128-bit one is a number like others. */
const NUMBER = /[\w.+-]*/y;
const INTEGER = /^-?\d{16,40}$/;

/**
 * JSON.parse without loss: QEMU writes uint64 values (hyper-v arguments, PSW masks) as decimal numbers.
 * @returns undefined when the text is no JSON
 */
export function parseExact(text: string): Json | undefined {
  const source = /\d{16}/.test(text) ? carried(text) : text;
  try {
    return source === text ? JSON.parse(text) : JSON.parse(source, revive);
  } catch {
    return undefined;
  }
}

function revive(_key: string, value: unknown): unknown {
  if (typeof value !== "string" || !value.startsWith(MARK)) return value;
  const digits = value.slice(MARK.length);
  if (!INTEGER.test(digits)) return value;
  return Number.isSafeInteger(Number(digits)) ? Number(digits) : BigInt(digits);
}

/** The text with its large integers as marked strings. */
function carried(text: string): string {
  let out = "";
  let from = 0;
  for (let at = 0; at < text.length; ) {
    const c = text[at]!;
    if (c === '"') at = endOfString(text, at);
    else if (c === "-" || (c >= "0" && c <= "9")) {
      NUMBER.lastIndex = at + 1;
      NUMBER.test(text);
      const end = Math.max(NUMBER.lastIndex, at + 1);
      const token = end - at > 42 ? "" : text.slice(at, end);
      if (INTEGER.test(token)) {
        out += `${text.slice(from, at)}"${MARK_JSON}${token}"`;
        from = end;
      }
      at = end;
    } else at++;
  }
  return out + text.slice(from);
}

function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"') return at + 1;
  }
  return text.length;
}

export const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A member, and nothing of the prototype. */
export const member = (object: Json | undefined, key: string): Json | undefined =>
  isObject(object) && Object.hasOwn(object, key) ? object[key] : undefined;

/** A member that is a string. */
export function text(object: Json | undefined, key: string): string | undefined {
  const value = member(object, key);
  return typeof value === "string" ? value : undefined;
}

/** A member that is a number, as far as a double holds it. */
export function number(object: Json | undefined, key: string): number | undefined {
  const value = member(object, key);
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined;
}

/** A member that is an unsigned 64-bit integer; a negative one is what a signed print made of it. */
export function uint64(object: Json | undefined, key: string): bigint | undefined {
  const value = member(object, key);
  if (typeof value === "bigint") return BigInt.asUintN(64, value);
  return typeof value === "number" && Number.isSafeInteger(value)
    ? BigInt.asUintN(64, BigInt(value))
    : undefined;
}

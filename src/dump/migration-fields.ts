/** Where a field is in a device's state. */
export interface FieldPlace {
  /** From the start of the state. */
  readonly offset: number;
  /** Of one element, in bytes. */
  readonly size: number;
  /** Elements, and from one to the next. */
  readonly count: number;
  readonly stride: number;
}

/** By name; a structure's member by the structure's name, a dot and its own. */
export type FieldTable = ReadonlyMap<string, FieldPlace>;

/** Structures in structures that are followed. */
const MAX_NESTING = 16;
const MAX_STATE = 2 ** 40;
/** Of what is kept: QEMU's longest path has 46 characters, a virtual CPU some hundred fields. */
const MAX_PATH = 128;
const MAX_FIELDS = 4096;

interface Scope {
  /** Undefined where the length is all that is asked for. */
  readonly fields: Map<string, FieldPlace> | undefined;
  readonly prefix: string;
  readonly offset: number;
  /** Of the array that the structure is an element of. */
  readonly count: number;
  readonly stride: number;
  readonly nesting: number;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * Lays out a state as its description tells (QEMU `migration/vmstate.c`): the fields one after the other, then the
 * subsections, each behind its header. An array whose elements are alike is one entry.
 * @param keep whether the fields are wanted, or the length alone
 * @returns undefined when a size is missing or impossible
 */
export function readFields(
  description: unknown,
  keep: boolean,
): { readonly length: number; readonly fields: FieldTable | undefined } | undefined {
  const fields = keep ? new Map<string, FieldPlace>() : undefined;
  const length = layOut(description, { fields, prefix: "", offset: 0, count: 1, stride: 0, nesting: 0 });
  return length === undefined || length > MAX_STATE ? undefined : { length, fields };
}

/** @returns bytes of the fields and subsections */
function layOut(description: unknown, scope: Scope): number | undefined {
  if (!isObject(description)) return undefined;
  let length = 0;
  for (const field of listOf(description.fields)) {
    const size = addField(field, { ...scope, offset: scope.offset + length });
    if (size === undefined) return undefined;
    length += size;
  }
  for (const subsection of listOf(description.subsections)) {
    const header = headerOf(subsection);
    if (header === undefined || scope.nesting >= MAX_NESTING) return undefined;
    const offset = scope.offset + length + header;
    const size = layOut(subsection, { ...scope, offset, nesting: scope.nesting + 1 });
    if (size === undefined) return undefined;
    length += header + size;
  }
  return length;
}

/** @returns bytes of the field, all of its elements */
function addField(field: unknown, scope: Scope): number | undefined {
  if (!isObject(field)) return undefined;
  const { name, size, array_len: elements = 1, index } = field;
  if (typeof name !== "string" || !isCount(size) || !isCount(elements)) return undefined;
  if (scope.fields !== undefined) {
    const path = scope.prefix + (isCount(index) ? `${name}#${index}` : name);
    if (path.length <= MAX_PATH && scope.fields.size < MAX_FIELDS)
      keepField(field, path, size, elements, scope);
  }
  return size * elements;
}

function keepField(field: Json, path: string, size: number, elements: number, scope: Scope): void {
  const inArray = scope.count > 1;
  const [count, stride] = inArray ? [scope.count, scope.stride] : [elements, size];
  scope.fields?.set(path, { offset: scope.offset, size, count, stride });
  // A structure's members, or what vmstate_with_tmp made of one; arrays in arrays are not looked into.
  const nested = isObject(field.struct) ? field.struct : field;
  if (Array.isArray(nested.fields) && scope.nesting < MAX_NESTING && !(inArray && elements > 1)) {
    layOut(nested, { ...scope, prefix: `${path}.`, count, stride, nesting: scope.nesting + 1 });
  }
}

/** A subsection's type, the length of its name, the name, and its version. */
function headerOf(subsection: unknown): number | undefined {
  const name = isObject(subsection) ? subsection.vmsd_name : undefined;
  return typeof name === "string" ? 1 + 1 + Buffer.byteLength(name) + 4 : undefined;
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

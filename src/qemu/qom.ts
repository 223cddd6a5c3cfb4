import type { ProcessReader } from "./reader.ts";

/**
 * QEMU's object model, as much as every object of every version since 2.4 shares (`include/qom/object.h`,
 * `qom/object.c`): struct Object {ObjectClass *class; free; GHashTable *properties; uint32_t ref; Object *parent},
 * struct ObjectClass {TypeImpl *type; …}, struct TypeImpl {const char *name; size_t class_size, instance_size; …}.
 */
export const OBJECT_PARENT = 32;
const TYPE_INSTANCE_SIZE = 16;

/** The longest type name in QEMU 10 has 60 characters. */
const MAX_TYPE_NAME = 100;
/** `/machine/unattached/device[0]` is four deep; buses and bridges add a few. */
const MAX_DEPTH = 64;

export interface QomType {
  readonly name: string;
  /** Bytes of an instance. */
  readonly instanceSize: number;
}

/** Type of the object at `address`, e.g. "memory-region"; `undefined` when no object is there. */
export function qomType(reader: ProcessReader, address: number): QomType | undefined {
  const objectClass = reader.pointer(address);
  const type = objectClass === undefined ? undefined : reader.pointer(objectClass);
  if (type === undefined) return undefined;
  const nameAt = reader.u64(type);
  const name = nameAt === undefined ? undefined : reader.string(nameAt, MAX_TYPE_NAME);
  const instanceSize = reader.u64(type + TYPE_INSTANCE_SIZE);
  if (name === undefined || instanceSize === undefined || !/^[\w.,:+-]+$/.test(name)) return undefined;
  return { name, instanceSize };
}

/** Types of the object and of those that contain it in the composition tree, innermost first. */
export function qomAncestry(reader: ProcessReader, address: number): string[] {
  const names: string[] = [];
  let at: number | undefined = address;
  while (at !== undefined && names.length < MAX_DEPTH) {
    const type = qomType(reader, at);
    if (type === undefined) break;
    names.push(type.name);
    at = reader.pointer(at + OBJECT_PARENT);
  }
  return names;
}

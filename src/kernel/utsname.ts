import { cString } from "../core/bytes.ts";
import type { AddressSpace, PhysicalMemory } from "../core/memory.ts";
import { readVirtual } from "./virtual.ts";
import type { Vmcoreinfo } from "./vmcoreinfo.ts";

/** struct new_utsname (Linux `include/uapi/linux/utsname.h`), what uname(2) tells; empty texts are possible. */
export interface Utsname {
  readonly sysname: string;
  readonly nodename: string;
  readonly release: string;
  readonly version: string;
  readonly machine: string;
  readonly domainname: string;
}

const FIELD = 65;
const FIELDS = ["sysname", "nodename", "release", "version", "machine", "domainname"] as const;
/** Of `name` in struct uts_namespace, where VMCOREINFO does not tell: behind a kref, before 5.11 or so, or first. */
const OFFSETS = [4n, 0n];

/** The kernel's first UTS namespace; undefined where VMCOREINFO does not lead to one. */
export function readUtsname(
  memory: PhysicalMemory,
  space: AddressSpace,
  vmcoreinfo: Vmcoreinfo,
): Utsname | undefined {
  const symbol = vmcoreinfo.symbol("init_uts_ns");
  if (symbol === undefined) return undefined;
  const told = vmcoreinfo.get("OFFSET(uts_namespace.name)");
  const offsets = told !== undefined && /^\d{1,4}$/.test(told) ? [BigInt(told)] : OFFSETS;
  const bytes = Buffer.alloc(FIELDS.length * FIELD);
  for (const offset of offsets) {
    if (readVirtual(memory, space, symbol + offset, bytes) < bytes.length) continue;
    const texts = FIELDS.map((name, i) => [name, cString(bytes, i * FIELD, FIELD)] as const);
    const utsname = Object.fromEntries(texts) as unknown as Partial<Utsname>;
    if (utsname.sysname === "Linux" && texts.every(([, text]) => text !== undefined))
      return utsname as Utsname;
  }
  return undefined;
}

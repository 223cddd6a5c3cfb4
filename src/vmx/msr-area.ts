import { type PhysicalMemory, readPhysical } from "../core/memory.ts";
import type { VmcsValues } from "./controls.ts";
import { fieldNamed } from "./fields.ts";
import type { KnownEfer } from "./state.ts";

/** One MSR of a list that VM entry or exit goes through. */
export interface AreaMsr {
  readonly index: number;
  /** The SDM's name, where it is one that hypervisors switch. */
  readonly name: string | undefined;
  readonly value: bigint;
}

/** An MSR-load or MSR-store area (Intel SDM Vol. 3C §25.7.2, §25.8.2). */
export interface MsrArea {
  readonly kind: "VM-exit MSR-store" | "VM-exit MSR-load" | "VM-entry MSR-load";
  /** Host-physical. */
  readonly address: number;
  /** As the VMCS has it; `msrs` may be fewer. */
  readonly count: number;
  readonly msrs: readonly AreaMsr[];
}

/** Entry: u32 index, u32 reserved, u64 value (Table 25-15). */
const ENTRY_SIZE = 16;
/** More than that no processor takes (IA32_VMX_MISC bits 27:25, Appendix A.6). */
const MAX_ENTRIES = 512;
const ADDRESS_END = 1n << 52n;

const AREAS = [
  ["VM-exit MSR-store", "VM_EXIT_MSR_STORE_ADDR", "VM_EXIT_MSR_STORE_COUNT"],
  ["VM-exit MSR-load", "VM_EXIT_MSR_LOAD_ADDR", "VM_EXIT_MSR_LOAD_COUNT"],
  ["VM-entry MSR-load", "VM_ENTRY_MSR_LOAD_ADDR", "VM_ENTRY_MSR_LOAD_COUNT"],
] as const;

const IA32_EFER = 0xc000_0080;

/** MSRs that hypervisors put into the lists (SDM Vol. 4). */
const NAMES: ReadonlyMap<number, string> = new Map([
  [0x10, "IA32_TIME_STAMP_COUNTER"],
  [0x48, "IA32_SPEC_CTRL"],
  [0x174, "IA32_SYSENTER_CS"],
  [0x175, "IA32_SYSENTER_ESP"],
  [0x176, "IA32_SYSENTER_EIP"],
  [0x1d9, "IA32_DEBUGCTL"],
  [0x277, "IA32_PAT"],
  [0x38f, "IA32_PERF_GLOBAL_CTRL"],
  [0x3f1, "IA32_PEBS_ENABLE"],
  [0xda0, "IA32_XSS"],
  [IA32_EFER, "IA32_EFER"],
  [0xc000_0081, "IA32_STAR"],
  [0xc000_0082, "IA32_LSTAR"],
  [0xc000_0083, "IA32_CSTAR"],
  [0xc000_0084, "IA32_FMASK"],
  [0xc000_0100, "IA32_FS_BASE"],
  [0xc000_0101, "IA32_GS_BASE"],
  [0xc000_0102, "IA32_KERNEL_GS_BASE"],
  [0xc000_0103, "IA32_TSC_AUX"],
]);

/** The lists of a VMCS that are not empty, as far as the host's memory holds them. */
export function msrAreasOf(host: PhysicalMemory, { values }: VmcsValues): MsrArea[] {
  return AREAS.flatMap(([kind, addressField, countField]): MsrArea[] => {
    const address = values.get(fieldNamed(addressField)!.encoding) ?? 0n;
    const count = Number(values.get(fieldNamed(countField)!.encoding) ?? 0n);
    if (count === 0 || address === 0n || address % 16n !== 0n || address >= ADDRESS_END) return [];
    const bytes = Buffer.alloc(Math.min(count, MAX_ENTRIES) * ENTRY_SIZE);
    const known = readPhysical(host, Number(address), bytes);
    const msrs: AreaMsr[] = [];
    for (let at = 0; at + ENTRY_SIZE <= known; at += ENTRY_SIZE) {
      const index = bytes.readUInt32LE(at);
      msrs.push({ index, name: NAMES.get(index), value: bytes.readBigUInt64LE(at + 8) });
    }
    return [{ kind, address: Number(address), count, msrs }];
  });
}

/** The guest's IA32_EFER, where VM entry loads it from a list. */
export function eferOfAreas(areas: readonly MsrArea[]): KnownEfer | undefined {
  const list = areas.find(({ kind }) => kind === "VM-entry MSR-load");
  const found = list?.msrs.find(({ index }) => index === IA32_EFER);
  return found && { value: found.value, source: "VM-entry MSR-load area" };
}

import { decodeEptPointer } from "./eptp.ts";
import { fieldNamed } from "./fields.ts";
import { REGION_SIZE } from "./layout.ts";
import type { VmcsRegion } from "./region.ts";

/** One test of whether bytes are a VMCS, and how it went; undefined: the layout lacks the fields. */
export interface Check {
  readonly name: string;
  readonly weight: number;
  readonly passed: boolean | undefined;
  /** The value judged, for people. */
  readonly detail: string;
}

export interface Score {
  readonly checks: readonly Check[];
  /** Weight of the checks passed, as a share of those that could be made: 0 to 1. */
  readonly value: number;
  /** Weight of the checks that could be made. */
  readonly known: number;
}

const encodingOf = (name: string): number => {
  const field = fieldNamed(name);
  if (field === undefined) throw new RangeError(`no VMCS field is called ${name}`);
  return field.encoding;
};

/** Reads a field by KVM's name; undefined when the layout lacks it. */
export const fieldValue = (region: VmcsRegion, name: string): bigint | undefined =>
  region.values.get(encodingOf(name));

const ALL_ONES = (1n << 64n) - 1n;
const ADDRESS_END = 1n << 52n;
/** SDM Vol. 3C §28.7 numbers VMX aborts 1 to 6; 0xd is a TXT shutdown. */
const ABORTS: ReadonlySet<number> = new Set([0, 1, 2, 3, 4, 5, 6, 0xd]);

const CR0_PE_NE_PG = 0x8000_0021n;
const CR0_RESERVED = ~0xe005_003fn;
const CR4_PAE_VMXE = (1n << 5n) | (1n << 13n);
/** Bits up to FRED (32) and LAM_SUP (28) have a meaning. */
const CR4_RESERVED = ~0x1_1ff7_ffffn;
const RFLAGS_RESERVED = ~0x3f_7fd7n;
const isCanonical = (address: bigint): boolean => BigInt.asUintN(64, BigInt.asIntN(57, address)) === address;
const isKernel = (address: bigint): boolean => address >> 63n === 1n && isCanonical(address);
const isFrame = (address: bigint): boolean => address !== 0n && address < ADDRESS_END;
/** Has all of the default1 bits that no processor lets software clear (SDM Vol. 3D Appendix A.3 to A.5). */
const hasAll = (value: bigint, bits: bigint): boolean => (value & bits) === bits;

const hex = (value: bigint): string => `0x${value.toString(16)}`;

type Rule = readonly [name: string, weight: number, fields: readonly string[], test: Test];
type Test = (...values: bigint[]) => boolean;

/**
 * What holds for the VMCS of any 64-bit hypervisor. Weights are how rarely chance passes a check. The host half is
 * constant while a VMM runs; the guest half may be of a vCPU that never ran.
 */
const RULES: readonly Rule[] = [
  [
    "VMCS link pointer",
    3,
    ["VMCS_LINK_POINTER"],
    (link) => link === ALL_ONES || (isFrame(link) && link % 4096n === 0n),
  ],
  [
    "host CR0 has PE, NE, PG",
    3,
    ["HOST_CR0"],
    (cr0) => hasAll(cr0, CR0_PE_NE_PG) && (cr0 & CR0_RESERVED) === 0n,
  ],
  [
    "host CR4 has PAE, VMXE",
    3,
    ["HOST_CR4"],
    (cr4) => hasAll(cr4, CR4_PAE_VMXE) && (cr4 & CR4_RESERVED) === 0n,
  ],
  ["host CR3", 1, ["HOST_CR3"], (cr3) => isFrame(cr3 & ~0xfffn & ~(1n << 63n))],
  ["host RIP in the kernel", 3, ["HOST_RIP"], isKernel],
  // KVM writes it before each entry: 0 before the first.
  ["host RSP in the kernel", 1, ["HOST_RSP"], (rsp) => rsp === 0n || isKernel(rsp)],
  [
    "host CS and TR",
    2,
    ["HOST_CS_SELECTOR", "HOST_TR_SELECTOR"],
    (cs, tr) => cs !== 0n && tr !== 0n && cs % 8n === 0n && tr % 8n === 0n,
  ],
  [
    "host descriptor tables",
    2,
    ["HOST_GDTR_BASE", "HOST_IDTR_BASE", "HOST_TR_BASE"],
    (...bases) => bases.every(isKernel),
  ],
  ["pin-based controls", 1, ["PIN_BASED_VM_EXEC_CONTROL"], (pin) => hasAll(pin, 0x16n) && pin < 0x100n],
  [
    "processor-based controls",
    2,
    ["CPU_BASED_VM_EXEC_CONTROL"],
    (controls) => hasAll(controls, 0x0400_6172n),
  ],
  ["VM-exit controls", 2, ["VM_EXIT_CONTROLS"], (controls) => hasAll(controls, 0x3_6dfbn)],
  [
    "VM-entry controls",
    2,
    ["VM_ENTRY_CONTROLS"],
    (controls) => hasAll(controls, 0x11fbn) && controls < 1n << 24n,
  ],
  [
    "guest RFLAGS",
    2,
    ["GUEST_RFLAGS"],
    (rflags) => (rflags & 2n) !== 0n && (rflags & RFLAGS_RESERVED) === 0n,
  ],
  ["guest CR0", 1, ["GUEST_CR0"], (cr0) => (cr0 & 0x20n) !== 0n && (cr0 & CR0_RESERVED) === 0n],
  ["EPT pointer", 2, ["EPT_POINTER"], (eptp) => eptp === 0n || decodeEptPointer(eptp) !== undefined],
  ["guest activity state", 1, ["GUEST_ACTIVITY_STATE"], (state) => state <= 3n],
];

/**
 * How much a region looks like the VMCS of a hypervisor's vCPU.
 * @param bytes the region's page, 4096 bytes
 */
export function scoreRegion(region: VmcsRegion, bytes: Uint8Array): Score {
  const checks = RULES.map(([name, weight, fields, test]): Check => {
    const values = fields.map((field) => fieldValue(region, field));
    const known = values.filter((value) => value !== undefined);
    if (known.length < values.length)
      return { name, weight, passed: undefined, detail: "not in this layout" };
    return { name, weight, passed: test(...known), detail: known.map(hex).join(", ") };
  });
  checks.push({
    name: "VMX-abort indicator",
    weight: 1,
    passed: ABORTS.has(region.abort),
    detail: String(region.abort),
  });
  checks.push(tailCheck(region, bytes));
  const weigh = (wanted: (check: Check) => boolean) =>
    checks.filter(wanted).reduce((sum, { weight }) => sum + weight, 0);
  const known = weigh(({ passed }) => passed !== undefined);
  return { checks, value: weigh(({ passed }) => passed === true) / known, known };
}

/** Hypervisors give each region a page of zeros; what lies behind the last field stays zero. */
function tailCheck({ places }: VmcsRegion, bytes: Uint8Array): Check {
  const end = [...places.values()].reduce((last, place) => Math.max(last, place.end), 0);
  // Processors keep some words of their own behind the last field that has an encoding.
  const from = Math.min(REGION_SIZE, Math.ceil(end / 512) * 512 + 512);
  let dirty = 0;
  for (let at = from; at < bytes.length; at++) if (bytes[at] !== 0) dirty++;
  return { name: "zero behind the fields", weight: 1, passed: dirty === 0, detail: `${dirty} bytes are not` };
}

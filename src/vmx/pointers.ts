import { fieldNamed } from "./fields.ts";
import type { PointerMeaning } from "./meaning.ts";

type Space = PointerMeaning["space"];
/** Bits of the field that are no part of the address are masked off; `size` in bytes. */
type Row = readonly [name: string, space: Space, target: string, size?: number, mask?: bigint];

const FRAME = 0x000f_ffff_ffff_f000n;
const PAGE = 4096;

/** Fields that hold an address (Intel SDM Vol. 3C §25.6 to §25.8). */
const ROWS: readonly Row[] = [
  ["IO_BITMAP_A", "host-physical", "I/O bitmap, ports 0 to 0x7fff", PAGE],
  ["IO_BITMAP_B", "host-physical", "I/O bitmap, ports 0x8000 to 0xffff", PAGE],
  ["MSR_BITMAP", "host-physical", "MSR bitmaps", PAGE],
  ["VM_EXIT_MSR_STORE_ADDR", "host-physical", "MSR-store area"],
  ["VM_EXIT_MSR_LOAD_ADDR", "host-physical", "MSR-load area"],
  ["VM_ENTRY_MSR_LOAD_ADDR", "host-physical", "MSR-load area"],
  ["EXECUTIVE_VMCS_POINTER", "host-physical", "executive VMCS", PAGE],
  ["PML_ADDRESS", "host-physical", "page-modification log", PAGE],
  ["VIRTUAL_APIC_PAGE_ADDR", "host-physical", "virtual-APIC page", PAGE],
  ["APIC_ACCESS_ADDR", "host-physical", "APIC-access page", PAGE],
  ["POSTED_INTR_DESC_ADDR", "host-physical", "posted-interrupt descriptor", 64],
  ["EPT_POINTER", "host-physical", "EPT root table", PAGE, FRAME],
  ["SHARED_EPT_POINTER", "host-physical", "shared EPT root table", PAGE, FRAME],
  ["EPTP_LIST_ADDRESS", "host-physical", "EPTP list", PAGE],
  ["VMREAD_BITMAP", "host-physical", "VMREAD bitmap", PAGE],
  ["VMWRITE_BITMAP", "host-physical", "VMWRITE bitmap", PAGE],
  ["VE_INFORMATION_ADDRESS", "host-physical", "virtualization-exception information", PAGE],
  ["SPPT_POINTER", "host-physical", "root of the sub-page-permission table", PAGE, FRAME],
  ["LOW_PASID_DIRECTORY", "host-physical", "low PASID directory", PAGE],
  ["HIGH_PASID_DIRECTORY", "host-physical", "high PASID directory", PAGE],
  ["PID_POINTER_TABLE", "host-physical", "PID-pointer table"],
  ["HLAT_POINTER", "guest-physical", "HLAT root table", PAGE, FRAME],
  ["VMCS_LINK_POINTER", "host-physical", "linked VMCS", PAGE],
  ["GUEST_PHYSICAL_ADDRESS", "guest-physical", "access that caused the exit"],
  ["GUEST_LINEAR_ADDRESS", "guest-linear", "access that caused the exit"],
  ["GUEST_CR3", "guest-physical", "root of the guest's page tables", PAGE, FRAME],
  ["GUEST_RIP", "guest-linear", "next instruction"],
  ["GUEST_RSP", "guest-linear", "stack"],
  ["GUEST_GDTR_BASE", "guest-linear", "GDT"],
  ["GUEST_IDTR_BASE", "guest-linear", "IDT"],
  ["GUEST_TR_BASE", "guest-linear", "TSS"],
  ["GUEST_LDTR_BASE", "guest-linear", "LDT"],
  ["HOST_CR3", "host-physical", "root of the host's page tables", PAGE, FRAME],
  ["HOST_RIP", "host-linear", "VM-exit handler"],
  ["HOST_RSP", "host-linear", "stack of the vCPU's thread"],
  ["HOST_GDTR_BASE", "host-linear", "GDT"],
  ["HOST_IDTR_BASE", "host-linear", "IDT"],
  ["HOST_TR_BASE", "host-linear", "TSS"],
];

const BY_ENCODING = new Map(ROWS.map((row) => [fieldNamed(row[0])!.encoding, row]));
const NOWHERE = (1n << 64n) - 1n;

/** What a field's value points at; undefined for fields that hold no address, and for null and all ones. */
export function pointerOf(encoding: number, value: bigint): PointerMeaning | undefined {
  const row = BY_ENCODING.get(encoding);
  if (row === undefined || value === NOWHERE) return undefined;
  const [, space, target, size, mask] = row;
  const address = mask === undefined ? value : value & mask;
  return address === 0n ? undefined : { space, address, target, size };
}

import { fieldNamed } from "../../src/vmx/fields.ts";

/** Fields by KVM's name. */
export type Fields = Readonly<Record<string, bigint>>;

/** A 64-bit guest under a 64-bit host with EPT and "unrestricted guest", as KVM sets it up, stopped by an interrupt. */
export const CONSISTENT: Fields = {
  VIRTUAL_PROCESSOR_ID: 1n,
  GUEST_CS_SELECTOR: 0x10n,
  GUEST_SS_SELECTOR: 0x18n,
  GUEST_TR_SELECTOR: 0x40n,
  HOST_CS_SELECTOR: 0x10n,
  HOST_SS_SELECTOR: 0x18n,
  HOST_TR_SELECTOR: 0x40n,
  MSR_BITMAP: 0x1000n,
  EPT_POINTER: 0x12e2_201en,
  VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
  GUEST_IA32_PAT: 0x0007_0406_0007_0406n,
  HOST_IA32_PAT: 0x0407_0506_0007_0106n,
  HOST_IA32_EFER: 0xd01n,
  PIN_BASED_VM_EXEC_CONTROL: 0x7fn,
  CPU_BASED_VM_EXEC_CONTROL: 0xb598_6dfan,
  SECONDARY_VM_EXEC_CONTROL: 0xean,
  VM_EXIT_CONTROLS: 0xb_efffn,
  VM_ENTRY_CONTROLS: 0x53ffn,
  EXCEPTION_BITMAP: 0x6_0042n,
  VM_EXIT_REASON: 1n,
  VM_EXIT_INTR_INFO: 0x8000_00ecn,
  GUEST_CS_LIMIT: 0xffff_ffffn,
  GUEST_SS_LIMIT: 0xffff_ffffn,
  GUEST_TR_LIMIT: 0x67n,
  GUEST_GDTR_LIMIT: 0x7fn,
  GUEST_IDTR_LIMIT: 0xfffn,
  GUEST_ES_AR_BYTES: 0x1_0000n,
  GUEST_CS_AR_BYTES: 0xa09bn,
  GUEST_SS_AR_BYTES: 0xc093n,
  GUEST_DS_AR_BYTES: 0x1_0000n,
  GUEST_FS_AR_BYTES: 0x1_0000n,
  GUEST_GS_AR_BYTES: 0x1_0000n,
  GUEST_LDTR_AR_BYTES: 0x1_0000n,
  GUEST_TR_AR_BYTES: 0x8bn,
  CR0_GUEST_HOST_MASK: 0xffff_ffff_fffe_fff7n,
  CR4_GUEST_HOST_MASK: 0xffff_ffff_ffff_f871n,
  CR0_READ_SHADOW: 0x8005_0033n,
  CR4_READ_SHADOW: 0x6a0n,
  GUEST_CR0: 0x8005_0033n,
  GUEST_CR3: 0x1_0000n,
  GUEST_CR4: 0x26a0n,
  GUEST_FS_BASE: 0x7f00_0000_0000n,
  GUEST_GS_BASE: 0xffff_8888_0000_0000n,
  GUEST_TR_BASE: 0xffff_ffff_8000_9000n,
  GUEST_GDTR_BASE: 0xffff_ffff_8000_8000n,
  GUEST_IDTR_BASE: 0xffff_ffff_8000_a000n,
  GUEST_DR7: 0x400n,
  GUEST_RSP: 0xffff_ffff_802f_fed8n,
  GUEST_RIP: 0xffff_ffff_8010_10a6n,
  GUEST_RFLAGS: 0x87n,
  HOST_CR0: 0x8005_0033n,
  HOST_CR3: 0x24b_c005n,
  HOST_CR4: 0x6_26b0n,
  HOST_GS_BASE: 0xffff_8b76_9160_0000n,
  HOST_TR_BASE: 0xffff_fe00_0000_3000n,
  HOST_GDTR_BASE: 0xffff_fe00_0000_1000n,
  HOST_IDTR_BASE: 0xffff_fe00_0000_0000n,
  HOST_RSP: 0xffff_ce3f_403f_bb20n,
  HOST_RIP: 0xffff_ffff_c057_53aen,
};

/** Every encoding of the four widths and types; the high halves are left out. */
const ENCODINGS = [0, 1, 2, 3].flatMap((width) =>
  [0, 1, 2, 3].flatMap((type) =>
    Array.from({ length: 64 }, (_, index) => (width << 13) | (type << 10) | (index << 1)),
  ),
);

/** A region that holds every field there is: 0 but for those given. */
export function regionOf(...fields: readonly Fields[]): { readonly values: Map<number, bigint> } {
  const values = new Map(ENCODINGS.map((encoding) => [encoding, 0n]));
  for (const [name, value] of fields.flatMap((some) => Object.entries(some))) {
    const field = fieldNamed(name);
    if (field === undefined) throw new Error(`no field ${name}`);
    values.set(field.encoding, value);
  }
  return { values };
}

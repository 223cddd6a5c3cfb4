import { hex } from "../core/text.ts";
import { CR0_PE } from "../x86/registers.ts";
import { usesNestedPaging } from "./bits.ts";
import { exitCodeName, isEntryFailure } from "./exit-codes.ts";
import { hasVmsaveState } from "./state.ts";
import { fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

/**
 * What a page is, as far as it tells by itself: a vCPU that has run (`guest`) or not yet (`not-run`), the second VMCB
 * of a vCPU whose guest runs a guest (`nested-guest`, KVM's vmcb02), a vCPU whose state is encrypted (`sev-es`), or a
 * processor's `host-save-area`. `copy` takes the other pages to see (`relate.ts`). A VMCB that a guest's hypervisor
 * keeps looks like any other: what tells is that its page belongs to a guest.
 */
export type VmcbKind = "guest" | "not-run" | "nested-guest" | "sev-es" | "host-save-area" | "copy";

export interface VmcbIdentity {
  readonly kind: VmcbKind;
  /** Why, a phrase each. */
  readonly reasons: readonly string[];
}

export function identifyVmcb(vmcb: Vmcb): VmcbIdentity {
  if (vmcb.controlUnused) {
    const rax = fieldValue(vmcb, "rax");
    return {
      kind: "host-save-area",
      reasons: ["the control area is zero", `host RAX, the VMCB it last ran, is ${hex(rax)}`],
    };
  }
  if (vmcb.hostState) {
    return {
      kind: "sev-es",
      reasons: [`state is encrypted in the VMSA at ${hex(fieldValue(vmcb, "vmsa_pa"))}`],
    };
  }
  const idle = whyNotRun(vmcb);
  if (idle !== undefined) return { kind: "not-run", reasons: [idle] };
  const code = fieldValue(vmcb, "exit_code");
  const last = `last exit ${exitCodeName(code) ?? hex(code)}`;
  if (hasVmsaveState(vmcb)) return { kind: "guest", reasons: [last, "VMSAVE wrote to it"] };
  return { kind: "nested-guest", reasons: [last, "no VMSAVE went to it: TR and LDTR have no type"] };
}

/** Where every vCPU begins (APM Vol. 2 §14.1.3). */
const RESET_RIP = 0xfff0n;

function whyNotRun(vmcb: Vmcb): string | undefined {
  const code = fieldValue(vmcb, "exit_code");
  if (isEntryFailure(code)) return undefined;
  if (fieldNumber(vmcb, "asid") === 0) return "ASID 0: VMRUN would refuse it";
  const atReset = fieldValue(vmcb, "rip") === RESET_RIP && (fieldValue(vmcb, "cr0") & CR0_PE) === 0n;
  return code === 0n && atReset ? "registers are those of reset, and there was no exit" : undefined;
}

const PAGE_OFFSET_BITS = 0xfffn;

/** Address of the root of the nested tables: the same for all vCPUs of a VM that run the same guest. */
export function groupKey(vmcb: Vmcb, encryptionMask = 0n): number | undefined {
  if (vmcb.controlUnused || !usesNestedPaging(vmcb)) return undefined;
  const root = fieldValue(vmcb, "nested_cr3") & ~PAGE_OFFSET_BITS & ~encryptionMask;
  return root === 0n ? undefined : Number(root);
}

/** C-bit positions of AMD's processors (CPUID Fn8000_001F EBX[5:0]): 47 (family 17h), 51 (19h and later). */
const C_BITS = [1n << 47n, 1n << 51n] as const;

/**
 * The memory-encryption bit that a host with SME sets in every address it gives to the processor (APM Vol. 2 §7.10),
 * guessed from one VMCB: VMCOREINFO's `sme_mask` knows better. 0 where the three pointers have none in common.
 */
export function encryptionMaskOf(vmcb: Vmcb): bigint {
  const pointers = (["iopm_base_pa", "msrpm_base_pa"] as const).map((name) => fieldValue(vmcb, name));
  if (usesNestedPaging(vmcb)) pointers.push(fieldValue(vmcb, "nested_cr3"));
  return C_BITS.find((bit) => pointers.every((pointer) => (pointer & bit) !== 0n)) ?? 0n;
}

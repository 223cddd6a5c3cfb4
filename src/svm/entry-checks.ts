import { CR0_PE, CR4_PAE } from "../x86/registers.ts";
import {
  CR0_CD,
  CR0_NW,
  CR0_WP,
  CR4_CET,
  CR4_KNOWN,
  EFER_KNOWN,
  EFER_SVME,
  entersLongMode,
  eventOf,
  interceptsVmrun,
  isPat,
  PHYSICAL_BITS,
  usesNestedPaging,
} from "./bits.ts";
import { fieldNumber, fieldValue, type Vmcb } from "./vmcb.ts";

/** A condition under which VMRUN exits at once with VMEXIT_INVALID, and whether the VMCB keeps clear of it. */
export interface EntryCheck {
  /** What must hold. */
  readonly rule: string;
  /** Section of APM Vol. 2. */
  readonly section: string;
  readonly passed: boolean;
}

const BASICS = "15.5.1";
const IOPM_BYTES = 3n * 4096n;
const MSRPM_BYTES = 2n * 4096n;
/** SUPPRESS, TRACKER and the bits below them: reserved in every definition of S_CET. */
const S_CET_RESERVED = 0x3c0n;
const CS_LONG = 1 << 9;
const CS_DEFAULT = 1 << 10;
const V_NMI_ENABLE = 1 << 26;
const INTERCEPT_NMI = 1 << 1;

/**
 * The consistency checks of VMRUN (APM Vol. 2 §15.5.1, §15.20, §15.21.10, §15.25.4), as far as the VMCB alone tells:
 * not those of U_CET, which it does not hold, nor what depends on the host's mode.
 * @param physicalBits width of the processor's physical addresses; without it the architecture's limit
 */
export function entryChecks(vmcb: Vmcb, physicalBits = PHYSICAL_BITS): EntryCheck[] {
  const efer = fieldValue(vmcb, "efer");
  const cr0 = fieldValue(vmcb, "cr0");
  const cr4 = fieldValue(vmcb, "cr4");
  const cs = fieldNumber(vmcb, "cs.attrib");
  const limit = 1n << BigInt(physicalBits);
  const long = entersLongMode(vmcb);
  const basic = (rule: string, passed: boolean): EntryCheck => ({ rule, section: BASICS, passed });
  const checks = [
    basic("EFER.SVME is set", (efer & EFER_SVME) !== 0n),
    basic("CR0.NW is clear or CR0.CD is set", (cr0 & CR0_NW) === 0n || (cr0 & CR0_CD) !== 0n),
    basic("CR0[63:32] are zero", cr0 >> 32n === 0n),
    basic("no MBZ bit of CR3 is set", fieldValue(vmcb, "cr3") < limit),
    basic("no MBZ bit of CR4 is set", (cr4 & ~CR4_KNOWN) === 0n),
    basic("DR6[63:32] are zero", fieldValue(vmcb, "dr6") >> 32n === 0n),
    basic("DR7[63:32] are zero", fieldValue(vmcb, "dr7") >> 32n === 0n),
    basic("no MBZ bit of EFER is set", (efer & ~EFER_KNOWN) === 0n),
    basic("long mode has CR4.PAE", !long || (cr4 & CR4_PAE) !== 0n),
    basic("long mode has CR0.PE", !long || (cr0 & CR0_PE) !== 0n),
    basic(
      "in long mode CS.L and CS.D are not both set",
      !long || (cs & CS_LONG) === 0 || (cs & CS_DEFAULT) === 0,
    ),
    basic("VMRUN is intercepted", interceptsVmrun(vmcb)),
    basic("the I/O map is below the physical limit", fieldValue(vmcb, "iopm_base_pa") + IOPM_BYTES <= limit),
    basic(
      "the MSR map is below the physical limit",
      fieldValue(vmcb, "msrpm_base_pa") + MSRPM_BYTES <= limit,
    ),
    basic("ASID is not zero", fieldValue(vmcb, "asid") !== 0n),
    basic("no reserved bit of S_CET is set", (fieldValue(vmcb, "s_cet") & S_CET_RESERVED) === 0n),
    basic("CR4.CET has CR0.WP", (cr4 & CR4_CET) === 0n || (cr0 & CR0_WP) !== 0n),
    { rule: "the injected event is legal", section: "15.20", passed: isLegalInjection(vmcb) },
    { rule: "virtual NMIs have the NMI intercept", section: "15.21.10", passed: isLegalNmi(vmcb) },
  ];
  if (!usesNestedPaging(vmcb)) return checks;
  return checks.concat(
    {
      rule: "no MBZ bit of N_CR3 is set",
      section: "15.25.4",
      passed: fieldValue(vmcb, "nested_cr3") < limit,
    },
    { rule: "G_PAT holds memory types", section: "15.25.4", passed: isPat(fieldValue(vmcb, "g_pat")) },
  );
}

/** Type 3 must come with the vector of an exception: below 32, and not that of the NMI. */
function isLegalInjection(vmcb: Vmcb): boolean {
  const event = eventOf(fieldNumber(vmcb, "event_inj"));
  if (event === undefined) return true;
  if (event.type !== "exception") return event.type !== undefined;
  return event.vector < 32 && event.vector !== 2;
}

const isLegalNmi = (vmcb: Vmcb): boolean =>
  (fieldNumber(vmcb, "int_ctl") & V_NMI_ENABLE) === 0 ||
  (fieldNumber(vmcb, "intercept_word3") & INTERCEPT_NMI) !== 0;

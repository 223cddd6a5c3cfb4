import type { VmcsValues } from "./controls.ts";
import { type CheckArea, type CheckedValues, type EntryRule, factsOf, type Severity } from "./entry-rules.ts";
import { NON_REGISTER_RULES } from "./entry-rules-activity.ts";
import { CONTROL_RULES } from "./entry-rules-controls.ts";
import { GUEST_RULES } from "./entry-rules-guest.ts";
import { HOST_RULES } from "./entry-rules-host.ts";
import { INJECTION_RULES } from "./entry-rules-injection.ts";
import { SEGMENT_RULES } from "./entry-rules-segments.ts";
import { fieldNamed, fieldOf } from "./fields.ts";

/** Every rule, in the order of the SDM. Rules that need memory or capability MSRs to be decided are not among them. */
export const ENTRY_RULES: readonly EntryRule[] = [
  ...CONTROL_RULES,
  ...INJECTION_RULES,
  ...HOST_RULES,
  ...GUEST_RULES,
  ...SEGMENT_RULES,
  ...NON_REGISTER_RULES,
];

export interface Violation {
  readonly id: string;
  readonly section: string;
  readonly area: CheckArea;
  readonly severity: Severity;
  /** What is inconsistent. */
  readonly message: string;
  /** The fields it follows from. */
  readonly fields: readonly { readonly encoding: number; readonly name: string; readonly value: bigint }[];
}

export interface EntryChecks {
  /** Errors first, then warnings and notes, each in the order of the SDM. */
  readonly violations: readonly Violation[];
  readonly passed: number;
  /** Rules that could not be decided, and the fields they lack or whose place is guessed. */
  readonly notChecked: readonly { readonly id: string; readonly missing: readonly string[] }[];
  /** Whether the VMCS was taken for one that has been entered. */
  readonly everEntered: boolean;
}

const ORDER: readonly Severity[] = ["error", "warning", "note"];
const HOST_RSP = fieldNamed("HOST_RSP")!.encoding;

/**
 * Whether VM entry was ever tried: KVM writes HOST_RSP right in front of it (`vmx_update_host_rsp`), other hypervisors
 * when they make the VMCS.
 */
export const wasEntered = ({ values }: VmcsValues): boolean => values.get(HOST_RSP) !== 0n;

/**
 * Checks a VMCS as VM entry does, as far as the region alone decides.
 * @param everEntered whether VM entry was ever tried, where the caller knows better than `wasEntered`; what is wrong with
 * a VMCS that never was is a note
 */
export function checkEntry(region: CheckedValues, everEntered: boolean = wasEntered(region)): EntryChecks {
  const violations: Violation[] = [];
  const notChecked: { id: string; missing: string[] }[] = [];
  for (const { id, section, area, severity, check } of ENTRY_RULES) {
    const facts = factsOf(region);
    const message = check(facts);
    if (facts.missing.size > 0) {
      notChecked.push({ id, missing: [...facts.missing].map(nameOf) });
    } else if (message !== undefined) {
      violations.push({
        id,
        section,
        area,
        severity: everEntered ? severity : "note",
        message,
        fields: [...facts.used].map((encoding) => ({
          encoding,
          name: nameOf(encoding),
          value: region.values.get(encoding)!,
        })),
      });
    }
  }
  return {
    violations: violations.toSorted((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity)),
    passed: ENTRY_RULES.length - violations.length - notChecked.length,
    notChecked,
    everEntered,
  };
}

const nameOf = (encoding: number): string => fieldOf(encoding)?.name ?? `0x${encoding.toString(16)}`;

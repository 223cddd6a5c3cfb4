import { CR0_PE, CR4_FRED, type EntryRule, type Facts, has, hex } from "./entry-rules.ts";
import {
  decodeEvent,
  type EventInfo,
  HARDWARE_EXCEPTION,
  NMI,
  OTHER_EVENT,
  PRIVILEGED_SOFTWARE_EXCEPTION,
  SOFTWARE_EXCEPTION,
  SOFTWARE_INTERRUPT,
} from "./events.ts";

const ENTRY = "27.2.1.3";

const WITH_ERROR_CODE: ReadonlySet<number> = new Set([8, 10, 11, 12, 13, 14, 17]);

/** A rule on the event to inject, asked only when there is one. */
const injection = (
  id: string,
  check: (event: EventInfo, info: bigint, facts: Facts) => string | undefined,
  severity: EntryRule["severity"] = "error",
): EntryRule => ({
  id: `controls.injection.${id}`,
  section: ENTRY,
  area: "controls",
  severity,
  check: (facts) => {
    const info = facts.field("VM_ENTRY_INTR_INFO_FIELD");
    const event = decodeEvent(info);
    return event.valid ? check(event, info, facts) : undefined;
  },
});

function vectorProblem({ type, vector }: EventInfo, facts: Facts): string | undefined {
  const at = "VM_ENTRY_INTR_INFO_FIELD injects";
  if (type === NMI && vector !== 2) return `${at} an NMI with vector ${vector}`;
  if (type === HARDWARE_EXCEPTION && vector > 31) return `${at} a hardware exception with vector ${vector}`;
  if (type !== OTHER_EVENT || vector === 0) return undefined;
  return vector <= 2 && has(facts.field("GUEST_CR4"), CR4_FRED) ? undefined : `${at} another event ${vector}`;
}

const hasSoftwareType = (type: number): boolean =>
  type === SOFTWARE_INTERRUPT || type === PRIVILEGED_SOFTWARE_EXCEPTION || type === SOFTWARE_EXCEPTION;
const isRealMode = ({ field, is }: Facts): boolean =>
  is("secondary.unrestricted guest") && !has(field("GUEST_CR0"), CR0_PE);

/** SDM Vol. 3C §27.2.1.3 on the event to inject. */
export const INJECTION_RULES: readonly EntryRule[] = [
  injection("type", ({ type }) =>
    type === 1 ? "VM_ENTRY_INTR_INFO_FIELD injects an event of type 1" : undefined,
  ),
  injection("vector", (event, _info, facts) => vectorProblem(event, facts)),
  injection("no error code", ({ type, errorCode }, _info, facts) => {
    if (!errorCode) return undefined;
    if (type !== HARDWARE_EXCEPTION)
      return "VM_ENTRY_INTR_INFO_FIELD delivers an error code with no exception";
    return isRealMode(facts) ? "VM_ENTRY_INTR_INFO_FIELD delivers an error code in real mode" : undefined;
  }),
  injection(
    "error code",
    ({ type, vector, errorCode }, _info, facts) => {
      if (type !== HARDWARE_EXCEPTION || isRealMode(facts)) return undefined;
      const expected = WITH_ERROR_CODE.has(vector);
      if (expected === errorCode) return undefined;
      return `VM_ENTRY_INTR_INFO_FIELD delivers ${errorCode ? "an" : "no"} error code with exception ${vector}`;
    },
    "warning",
  ),
  injection("reserved", (_event, info) =>
    (info & 0x7fff_d000n) === 0n ? undefined : `VM_ENTRY_INTR_INFO_FIELD ${hex(info)} has reserved bits set`,
  ),
  injection("nested", ({ type }, info) =>
    has(info, 13) && type !== HARDWARE_EXCEPTION
      ? "VM_ENTRY_INTR_INFO_FIELD calls an event nested that is no hardware exception"
      : undefined,
  ),
  injection("error code bits", ({ errorCode }, _info, { field }) => {
    if (!errorCode) return undefined;
    const code = field("VM_ENTRY_EXCEPTION_ERROR_CODE");
    return code > 0xffffn ? `VM_ENTRY_EXCEPTION_ERROR_CODE ${hex(code)} has bits above 15 set` : undefined;
  }),
  injection("instruction length", ({ type }, _info, { field }) => {
    if (!hasSoftwareType(type)) return undefined;
    const length = field("VM_ENTRY_INSTRUCTION_LEN");
    return length > 15n ? `VM_ENTRY_INSTRUCTION_LEN is ${length}, more than 15` : undefined;
  }),
];

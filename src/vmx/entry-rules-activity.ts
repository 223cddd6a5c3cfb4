import { type EntryRule, type Facts, has, hex, PHYSICAL_END } from "./entry-rules.ts";
import {
  decodeEvent,
  type EventInfo,
  EXTERNAL_INTERRUPT,
  HARDWARE_EXCEPTION,
  NMI,
  OTHER_EVENT,
} from "./events.ts";

const NON_REGISTER = "27.3.1.5";

const rule = (id: string, section: string, check: EntryRule["check"]): EntryRule => ({
  id: `guest.${id}`,
  section,
  area: "guest",
  severity: "error",
  check,
});

const TF = 8;
const IF = 9;
const STI = 0;
const MOV_SS = 1;
const ACTIVE = 0n;
const HLT = 1n;
const SHUTDOWN = 2n;
const WAIT_FOR_SIPI = 3n;
const DB = 1;
const MC = 18;

/** Events that an inactive processor may be injected with. */
function mayInject(state: bigint, { type, vector }: EventInfo): boolean {
  const exception = (allowed: number): boolean => type === HARDWARE_EXCEPTION && vector === allowed;
  if (state === HLT) {
    const wakes = type === EXTERNAL_INTERRUPT || type === NMI || (type === OTHER_EVENT && vector === 0);
    return wakes || exception(DB) || exception(MC);
  }
  if (state === SHUTDOWN) return type === NMI || exception(MC);
  return state !== WAIT_FOR_SIPI;
}

const interruptibility = ({ field }: Facts): bigint => field("GUEST_INTERRUPTIBILITY_INFO");
const injected = ({ field }: Facts): EventInfo => decodeEvent(field("VM_ENTRY_INTR_INFO_FIELD"));

/** BS must say whether single-stepping is due where a debug exception can be pending. */
function singleStep(facts: Facts): string | undefined {
  const { field } = facts;
  const blocked = (interruptibility(facts) & 3n) !== 0n || field("GUEST_ACTIVITY_STATE") === HLT;
  if (!blocked) return undefined;
  const due = has(field("GUEST_RFLAGS"), TF) && !has(field("GUEST_IA32_DEBUGCTL"), 1);
  const bs = has(field("GUEST_PENDING_DBG_EXCEPTIONS"), 14);
  if (bs === due) return undefined;
  return `GUEST_PENDING_DBG_EXCEPTIONS.BS is ${bs ? 1 : 0} although single-stepping is ${due ? "" : "not "}due`;
}

/** SDM Vol. 3C §27.3.1.5: activity, interruptibility, pending debug exceptions, link pointer. */
export const NON_REGISTER_RULES: readonly EntryRule[] = [
  rule("activity", NON_REGISTER, ({ field }) => {
    const state = field("GUEST_ACTIVITY_STATE");
    return state > WAIT_FOR_SIPI ? `GUEST_ACTIVITY_STATE ${hex(state)} is no activity state` : undefined;
  }),
  rule("activity.CPL", NON_REGISTER, ({ field }) =>
    field("GUEST_ACTIVITY_STATE") === HLT && ((field("GUEST_SS_AR_BYTES") >> 5n) & 3n) !== 0n
      ? "GUEST_ACTIVITY_STATE is HLT although the DPL of SS is not 0"
      : undefined,
  ),
  rule("activity.blocking", NON_REGISTER, (facts) =>
    (interruptibility(facts) & 3n) !== 0n && facts.field("GUEST_ACTIVITY_STATE") !== ACTIVE
      ? "GUEST_ACTIVITY_STATE is not active although events are blocked by STI or MOV SS"
      : undefined,
  ),
  rule("activity.injection", NON_REGISTER, (facts) => {
    const event = injected(facts);
    if (!event.valid || mayInject(facts.field("GUEST_ACTIVITY_STATE"), event)) return undefined;
    return "VM_ENTRY_INTR_INFO_FIELD injects an event that GUEST_ACTIVITY_STATE blocks";
  }),
  rule("activity.SMM", NON_REGISTER, ({ field, is }) =>
    is("entry.entry to SMM") && field("GUEST_ACTIVITY_STATE") === WAIT_FOR_SIPI
      ? 'GUEST_ACTIVITY_STATE is wait-for-SIPI although "entry to SMM" is 1'
      : undefined,
  ),
  rule("interruptibility", NON_REGISTER, (facts) => {
    const state = interruptibility(facts);
    return state > 0x1fn ? `GUEST_INTERRUPTIBILITY_INFO ${hex(state)} has reserved bits set` : undefined;
  }),
  rule("interruptibility.both", NON_REGISTER, (facts) =>
    (interruptibility(facts) & 3n) === 3n
      ? "GUEST_INTERRUPTIBILITY_INFO says blocking by STI and by MOV SS"
      : undefined,
  ),
  rule("interruptibility.STI", NON_REGISTER, (facts) =>
    has(interruptibility(facts), STI) && !has(facts.field("GUEST_RFLAGS"), IF)
      ? "GUEST_INTERRUPTIBILITY_INFO says blocking by STI although RFLAGS.IF is 0"
      : undefined,
  ),
  rule("interruptibility.injection", NON_REGISTER, (facts) => {
    const { valid, type } = injected(facts);
    if (!valid || (type !== EXTERNAL_INTERRUPT && type !== NMI)) return undefined;
    return (interruptibility(facts) & 3n) === 0n
      ? undefined
      : "an interrupt or NMI is injected although events are blocked by STI or MOV SS";
  }),
  rule("interruptibility.SMI", NON_REGISTER, (facts) => {
    const blocked = has(interruptibility(facts), 2);
    if (blocked === facts.is("entry.entry to SMM")) return undefined;
    return `GUEST_INTERRUPTIBILITY_INFO says SMIs are ${blocked ? "" : "not "}blocked, which "entry to SMM" contradicts`;
  }),
  rule("interruptibility.NMI", NON_REGISTER, (facts) => {
    const { valid, type } = injected(facts);
    if (!valid || type !== NMI || !facts.is("pin.virtual NMIs")) return undefined;
    return has(interruptibility(facts), 3) ? "an NMI is injected although NMIs are blocked" : undefined;
  }),
  rule("interruptibility.enclave", NON_REGISTER, (facts) => {
    const state = interruptibility(facts);
    return has(state, 4) && has(state, MOV_SS)
      ? "GUEST_INTERRUPTIBILITY_INFO says enclave interruption and blocking by MOV SS"
      : undefined;
  }),
  rule("pending debug", NON_REGISTER, ({ field }) => {
    const pending = field("GUEST_PENDING_DBG_EXCEPTIONS");
    // Bit 11 is bus-lock detection on processors that have it.
    const reserved = pending & ~0x1_580fn;
    return reserved === 0n
      ? undefined
      : `GUEST_PENDING_DBG_EXCEPTIONS ${hex(pending)} has reserved bits set: ${hex(reserved)}`;
  }),
  rule("pending debug.BS", NON_REGISTER, singleStep),
  rule("pending debug.RTM", NON_REGISTER, (facts) => {
    const pending = facts.field("GUEST_PENDING_DBG_EXCEPTIONS");
    if (!has(pending, 16)) return undefined;
    if (pending !== 0x1_1000n)
      return `GUEST_PENDING_DBG_EXCEPTIONS ${hex(pending)} has more than RTM and bit 12 set`;
    return has(interruptibility(facts), MOV_SS)
      ? "GUEST_PENDING_DBG_EXCEPTIONS.RTM is 1 although events are blocked by MOV SS"
      : undefined;
  }),
  rule("link pointer", NON_REGISTER, ({ field }) => {
    const link = field("VMCS_LINK_POINTER");
    if (link === (1n << 64n) - 1n) return undefined;
    if ((link & 0xfffn) !== 0n) return `VMCS_LINK_POINTER ${hex(link)} is not aligned to 4096 bytes`;
    return link < PHYSICAL_END
      ? undefined
      : `VMCS_LINK_POINTER ${hex(link)} is beyond every physical address`;
  }),
];

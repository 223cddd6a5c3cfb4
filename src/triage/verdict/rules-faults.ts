import {
  any,
  brokenOff,
  causes,
  ended,
  fatalHardware,
  isFatal,
  orUndefined,
  unansweredBites,
} from "./conditions.ts";
import { silentResets, unended } from "./order.ts";
import type { VerdictRule } from "./rule.ts";
import { seen } from "./signs.ts";
import { HANG_WHY, HOST_WHY } from "./why.ts";

/** Somebody else failed the guest; or the guest did without having said that it died. */
export const FAULT_RULES: readonly VerdictRule[] = [
  {
    id: "qemu-died",
    verdict: "qemu-crash",
    confidence: "certain",
    severity: "panic",
    side: "qemu",
    title: "QEMU crashed",
    when: (signs) => any(signs, "qemuDeath"),
    why: "QEMU itself crashed, and nothing says that the guest had died before: the guest is its victim.",
  },
  {
    id: "host-fault",
    verdict: "host-fault",
    confidence: "certain",
    severity: "panic",
    side: "host",
    title: "the host could not go on running the guest",
    when: (signs) =>
      seen(signs, "ran")
        ? orUndefined(signs.hostFault.filter(({ finding }) => finding?.details?.early !== true))
        : any(signs, "hostFault"),
    why: "KVM or the host failed to run the guest: the guest was stopped without having said that anything is wrong.",
    whyOf: HOST_WHY,
  },
  {
    id: "reset-in-report",
    verdict: "guest-panic",
    confidence: "likely",
    severity: "panic",
    side: "guest",
    title: "the guest died in the report of a fault",
    when: (signs) => {
      if (silentResets(signs) === 0) return undefined;
      return orUndefined(unended(signs, causes(signs)));
    },
    why: "The guest reset itself without an orderly reboot, and its console ends in the report of a fault: the text of a panic, if there was any, was lost.",
  },
  {
    id: "watchdog",
    verdict: "guest-hang",
    confidence: "certain",
    severity: "hang",
    side: "guest",
    title: "the guest hung until its watchdog bit",
    when: (signs) => {
      const bites = unansweredBites(signs);
      return bites.length > 0 ? [...unended(signs, signs.hang), ...bites] : undefined;
    },
    why: "The guest stopped serving its watchdog device.",
  },
  {
    id: "hang",
    verdict: "guest-hang",
    confidence: "likely",
    severity: "hang",
    side: "guest",
    title: "the guest hung",
    when: (signs) => orUndefined(unended(signs, any(signs, "hang") ?? [])),
    why: "The guest's kernel reports that it does not get on, and nothing of that boot says that it ever did again.",
    whyOf: HANG_WHY,
  },
  {
    id: "reset-then-shutdown",
    verdict: "guest-reset",
    confidence: "possible",
    severity: "warning",
    side: "guest",
    title: "the guest reset itself once, and later shut down in order",
    when: (signs) =>
      silentResets(signs) === 1 && !signs.kinds.has("console") && ended(signs)
        ? any(signs, "guestReset")
        : undefined,
    why: "QEMU saw the guest reset itself once and later shut down in order; without a console, a reboot that was asked for looks the same.",
  },
  {
    id: "reset",
    verdict: "guest-reset",
    confidence: "likely",
    severity: "hang",
    side: "guest",
    title: "the guest reset itself without saying why",
    when: (signs) => (silentResets(signs) > 0 ? any(signs, "guestReset") : undefined),
    why: "QEMU saw the guest reset itself; no source has a panic or an orderly reboot of it: a triple fault, a lost panic, or a reboot whose messages are not here.",
  },
  {
    id: "died-in-oops",
    verdict: "guest-panic",
    confidence: "possible",
    severity: "oops",
    side: "guest",
    title: "the guest's kernel failed and was not heard of again",
    when: (signs) => orUndefined(unended(signs, brokenOff(signs, signs.oops.filter(isFatal)))),
    why: "The guest's kernel had a fault and nothing of it is heard afterwards; that it died is not said.",
  },
  {
    id: "broke-off-in-hardware-error",
    verdict: "hardware-fault",
    confidence: "possible",
    severity: "oops",
    side: "hardware",
    title: "the guest was not heard of again after a hardware error",
    when: (signs) => orUndefined(unended(signs, brokenOff(signs, fatalHardware(signs)))),
    why: "The guest's kernel told of a hardware error that it was not built to outlive, and nothing of it is heard afterwards.",
  },
];

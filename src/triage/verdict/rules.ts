import { atLeast, type Severity, type Side, type Trust } from "../finding.ts";
import {
  any,
  brokenOff,
  causes,
  ended,
  fatalHardware,
  isFatal,
  open,
  orUndefined,
  outlived,
  unansweredBites,
} from "./conditions.ts";
import { finalEnds, silentResets, unended } from "./order.ts";
import { type Occurrence, type Signs, seen } from "./signs.ts";
import type { MachineFacts, VerdictName } from "./types.ts";
import { DEATH_WHY, HOST_WHY } from "./why.ts";

/** How the sources of a VM make a verdict; of several that hold, the first counts. */
export interface VerdictRule {
  readonly id: string;
  readonly verdict: VerdictName;
  readonly confidence: Trust;
  /** How bad it is at the least; a finding it rests on may be worse. */
  readonly severity: Severity | undefined;
  /** Where no finding says better. */
  readonly side: Side;
  readonly title: string;
  /** @returns what it rests on, the most telling first; undefined when it does not hold */
  readonly when: (signs: Signs, machine: MachineFacts | undefined) => readonly Occurrence[] | undefined;
  /** One sentence. */
  readonly why: string;
  /** Another for findings of some classes, where one of these decided. */
  readonly whyOf?: Readonly<Record<string, string>>;
  /** The same where the guest had a failure that it outlived. */
  readonly outlived?: { readonly title?: string; readonly why: string };
}

export const VERDICT_RULES: readonly VerdictRule[] = [
  {
    id: "hardware-death",
    verdict: "hardware-fault",
    confidence: "certain",
    severity: "panic",
    side: "hardware",
    title: "the guest died of a hardware error",
    when: (signs) => any(signs, "hardwareDeath"),
    why: "A hardware error that the guest did not survive was reported: the guest's kernel only told of it.",
  },
  {
    id: "panic-after-hardware-error",
    verdict: "hardware-fault",
    confidence: "likely",
    severity: "panic",
    side: "hardware",
    title: "the guest panicked upon a hardware error",
    when: (signs) => {
      const errors = signs.hardwareError.filter(({ finding }) => atLeast(finding!.severity, "oops"));
      return seen(signs, "panicEvent") && !seen(signs, "death") ? orUndefined(errors) : undefined;
    },
    why: "The guest reported a panic to QEMU; no source has one of its kernel, but a hardware error is reported.",
  },
  {
    id: "death",
    verdict: "guest-panic",
    confidence: "certain",
    severity: "panic",
    side: "guest",
    title: "the guest's kernel panicked",
    when: (signs) => any(signs, "death"),
    why: "The guest's own kernel says that it died.",
    whyOf: DEATH_WHY,
  },
  {
    id: "panic-event-after-oops",
    verdict: "guest-panic",
    confidence: "certain",
    severity: "panic",
    side: "guest",
    title: "the guest's kernel panicked",
    when: (signs) => {
      const faults = causes(signs);
      return seen(signs, "panicEvent") && faults.length > 0 ? [...faults, ...signs.panicEvent] : undefined;
    },
    why: "The guest reported a panic to QEMU, and the last that it wrote is the report of a fault in its kernel.",
  },
  {
    id: "panic-event-after-fault",
    verdict: "guest-panic",
    confidence: "certain",
    severity: "panic",
    side: "guest",
    title: "the guest reported a panic to QEMU",
    when: (signs) => {
      const faults = outlived(signs);
      return seen(signs, "panicEvent") && faults.length > 0 ? [...faults, ...signs.panicEvent] : undefined;
    },
    why: "The guest reported a panic to QEMU; what of, no source says: a fault that its kernel seemed to outlive is the likely cause.",
  },
  {
    id: "panic-event",
    verdict: "guest-panic",
    confidence: "certain",
    severity: "panic",
    side: "guest",
    title: "the guest reported a panic to QEMU",
    when: (signs) => any(signs, "panicEvent"),
    why: "The guest itself told QEMU that it panicked; what of, no source says.",
  },
  {
    id: "crash-loaded",
    verdict: "guest-panic",
    confidence: "certain",
    severity: "panic",
    side: "guest",
    title: "the guest panicked and its crash kernel took over",
    when: (signs) => (seen(signs, "crashLoaded") ? [...causes(signs), ...signs.crashLoaded] : undefined),
    why: "The guest told QEMU of a panic that its own crash kernel would take care of.",
  },
  {
    id: "kdump",
    verdict: "guest-panic",
    confidence: "likely",
    severity: "panic",
    side: "guest",
    title: "the guest crashed and its crash kernel came up",
    when: (signs) =>
      seen(signs, "kdump") ? [...causes(signs), ...outlived(signs), ...signs.kdump] : undefined,
    why: "A crash kernel (kdump) booted, which only happens when the kernel before it crashed.",
  },
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
  {
    id: "boot-broke-off",
    verdict: "guest-reset",
    confidence: "possible",
    severity: "warning",
    side: "unknown",
    title: "a boot broke off without an end, and the machine booted anew",
    when: (signs) => (signs.kinds.has("qmp") ? undefined : any(signs, "brokenBoot")),
    why: "A boot on the console breaks off, and the next begins, without a panic or an orderly end: a reset, a triple fault, or somebody outside; QEMU's events would say which.",
  },
  {
    id: "asked-to-stop",
    verdict: "stopped-by-policy",
    confidence: "certain",
    severity: undefined,
    side: "policy",
    title: "the guest was stopped from outside",
    when: (signs) => (ended(signs) ? undefined : any(signs, "hostStop")),
    why: "QEMU was told to stop, by a signal, by QMP or by whoever manages it, and no source shows a failure before.",
    outlived: {
      why: "QEMU was told to stop, by a signal, by QMP or by whoever manages it, and no source shows a failure before that had ended the guest.",
    },
  },
  {
    id: "oops-at-the-end",
    verdict: "unknown",
    confidence: "possible",
    severity: "oops",
    side: "guest",
    title: "the guest's kernel failed",
    when: (signs) => orUndefined(unended(signs, open(signs.oops))),
    why: "The guest's kernel had a fault, and no source reaches far enough to say whether it went on.",
  },
  {
    id: "watchdog-outlived",
    verdict: "clean",
    confidence: "possible",
    severity: undefined,
    side: "unknown",
    title: "the guest's watchdog ran out, and it shut down in order later",
    when: (signs) => (seen(signs, "watchdog") ? orUndefined(finalEnds(signs)) : undefined),
    why: "The watchdog ran out without stopping the guest for good, and the guest ended in order later: it had not hung, or got over it.",
  },
  {
    id: "orderly-shutdown",
    verdict: "clean",
    confidence: "certain",
    severity: undefined,
    side: "unknown",
    title: "the guest shut down in order",
    when: (signs) => orUndefined(finalEnds(signs)),
    why: "The guest switched itself off in order.",
  },
  {
    id: "orderly-reboot",
    verdict: "clean",
    confidence: "likely",
    severity: undefined,
    side: "unknown",
    title: "the guest rebooted in order",
    when: (signs) => any(signs, "reboot"),
    why: "The guest's kernel restarted the machine because it was asked to.",
  },
  {
    id: "waited-in-vain",
    verdict: "unknown",
    confidence: "possible",
    severity: undefined,
    side: "unknown",
    title: "the guest did not end, and nothing says why",
    when: (signs) => any(signs, "timeout"),
    why: "Whoever ran the guest gave up waiting for its end, and no source has a failure: it hung without a word, or had nothing to do.",
    outlived: {
      why: "Whoever ran the guest gave up waiting for its end, and no source has a failure that it did not outlive.",
    },
  },
  {
    id: "nothing-failed",
    verdict: "clean",
    confidence: "possible",
    severity: undefined,
    side: "unknown",
    title: "nothing failed as far as the sources go",
    when: (signs) => any(signs, "boot"),
    why: "A guest booted and no source has a failure; how it ended no source says.",
    outlived: {
      title: "nothing ended the guest as far as the sources go",
      why: "A guest booted and no source has a failure that ended it; how it ended no source says.",
    },
  },
  {
    id: "undecided",
    verdict: "unknown",
    confidence: "possible",
    severity: undefined,
    side: "unknown",
    title: "no source says what became of the guest",
    when: () => [],
    why: "No source has a failure, an orderly end or a guest that booted.",
    outlived: {
      why: "No source has a failure that ended the guest, an orderly end or a guest that booted.",
    },
  },
];

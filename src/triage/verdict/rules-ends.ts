import { any, ended, open, orUndefined } from "./conditions.ts";
import { finalEnds, unended } from "./order.ts";
import type { VerdictRule } from "./rule.ts";
import { type Signs, seen } from "./signs.ts";

/** How a guest ended that nothing failed, or that nothing is known of. */
/** Whether somebody tells of an end from outside. */
const isExplained = (signs: Signs): boolean => signs.kinds.has("qmp") || seen(signs, "hostStop");

export const END_RULES: readonly VerdictRule[] = [
  {
    id: "boot-broke-off",
    verdict: "guest-reset",
    confidence: "possible",
    severity: "warning",
    side: "unknown",
    title: "a boot broke off without an end, and the machine booted anew",
    when: (signs) => (isExplained(signs) ? undefined : any(signs, "brokenBoot")),
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
    when: (signs) => {
      const resets = signs.guestReset.filter(({ finding }) => finding === undefined);
      return seen(signs, "reboot") ? [...signs.reboot, ...resets] : undefined;
    },
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

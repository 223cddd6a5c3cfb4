import { atLeast } from "../finding.ts";
import { any, causes, orUndefined, outlived } from "./conditions.ts";
import type { VerdictRule } from "./rule.ts";
import { seen } from "./signs.ts";
import { DEATH_WHY, HARDWARE_WHY } from "./why.ts";

/** The guest died, and says so or had it said; of hardware first. */
export const DEATH_RULES: readonly VerdictRule[] = [
  {
    id: "hardware-death",
    verdict: "hardware-fault",
    confidence: "certain",
    severity: "panic",
    side: "hardware",
    title: "the guest died of a hardware error",
    when: (signs) => any(signs, "hardwareDeath"),
    why: "A hardware error that the guest did not survive was reported: the guest's kernel only told of it.",
    whyOf: HARDWARE_WHY,
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
];

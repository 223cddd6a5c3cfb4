import type { Severity, Side } from "../finding.ts";
import type { Origin } from "./origin.ts";
import type { McClass, McStatus } from "./status.ts";

/** A bank that is read at boot tells of what was before, where the kernel is younger than this. Seconds. */
const BOOT = 60;

/** An injected error is somebody's test: who injects is told apart by what is known. */
export const sideOf = ({ kind }: Origin): Side => (kind === "injector" ? "policy" : "hardware");

export interface X86Verdict {
  readonly severity: Severity;
  readonly survived: boolean | undefined;
  readonly trust: "certain" | "likely";
  /** For the title. */
  readonly text: string;
}

/** What a class means where nothing is known but the status. */
export const severityOfClass = (mcClass: McClass): Severity => {
  if (mcClass === "fatal") return "panic";
  if (mcClass === "SRAR" || mcClass === "uncorrected") return "oops";
  return mcClass === "corrected" || mcClass === "invalid" ? "notice" : "warning";
};

/**
 * How bad an error is.
 * @param exception whether it interrupted the kernel; else it was found when the bank was read
 * @param panic what the kernel panicked with because of it
 * @param uptime of its first line, seconds
 */
export function judgeX86(
  status: McStatus,
  exception: boolean,
  panic: string | undefined,
  uptime: number | undefined,
): X86Verdict {
  const { class: mcClass } = status;
  if (panic !== undefined) {
    const text =
      mcClass === "corrected" ? `${mcClass}; the kernel panicked` : `${mcClass}, the kernel panicked`;
    return { severity: "panic", survived: false, trust: "certain", text };
  }
  if (exception) {
    const severity = severityOfClass(mcClass);
    // print_mce() of an exception is printed on the way to a panic whose line may be lost.
    return {
      severity,
      survived: mcClass === "fatal" ? false : undefined,
      trust: mcClass === "fatal" ? "certain" : "likely",
      text: mcClass,
    };
  }
  if (mcClass === "corrected" || mcClass === "invalid") {
    return { severity: "notice", survived: true, trust: "certain", text: mcClass };
  }
  // What is polled did not interrupt this kernel; banks keep what an earlier boot died of.
  const left = mcClass === "fatal" || (uptime !== undefined && uptime < BOOT && mcClass !== "deferred");
  return {
    severity: "warning",
    survived: true,
    trust: "certain",
    text: left ? `${mcClass}, left in the bank by an earlier boot or a reset` : mcClass,
  };
}

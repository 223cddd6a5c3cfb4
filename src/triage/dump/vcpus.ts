import type { Finding } from "../finding.ts";
import type { DumpedVcpu, DumpFacts } from "./facts.ts";

/** RFLAGS.IF (Intel SDM Vol. 1 §3.4.3). */
const IF = 1n << 9n;

/** What is known beside the processors. */
export interface VcpuContext {
  /** Whether the kernel panicked: then halted and looping processors are what comes of it. */
  readonly panicked: boolean;
  /** Whether the kernel said that it stops. */
  readonly isOff: boolean;
}

/**
 * Functions a processor is in when its kernel crashed: Linux kernel/panic.c, kernel/crash_core.c, arch/x86/kernel/
 * {crash,smp,reboot,nmi}.c.
 */
const CRASH_PATH: ReadonlySet<string> = new Set([
  ...["panic", "vpanic", "panic_smp_self_stop", "nmi_panic", "nmi_panic_self_stop"],
  ...["__crash_kexec", "crash_kexec", "crash_save_cpu", "machine_crash_shutdown", "machine_kexec"],
  ...["native_machine_crash_shutdown", "kdump_nmi_callback", "crash_nmi_callback", "relocate_kernel"],
  ...["stop_this_cpu", "native_stop_other_cpus", "native_machine_halt", "native_machine_emergency_restart"],
  ...["machine_real_restart", "wait_for_panic", "oops_end", "die", "mce_panic"],
]);
/** What waits in a lock for somebody who does not come. */
const LOCKS =
  /^(?:native_queued_spin_lock_slowpath|queued_(?:read|write)_lock_slowpath|__pv_queued_spin_lock_slowpath|osq_lock|rwsem_spin_on_owner)\b/;

const nameOf = (symbol: string | undefined): string | undefined => symbol?.split("+")[0];

/** Whether a processor is where a crash leaves it. */
export const isInCrashPath = ({ symbol }: DumpedVcpu): boolean => {
  const name = nameOf(symbol);
  return name !== undefined && CRASH_PATH.has(name);
};

const isMasked = ({ rflags }: DumpedVcpu): boolean => rflags !== undefined && (rflags & IF) === 0n;
const names = (vcpus: readonly DumpedVcpu[]): string =>
  `vCPU ${vcpus
    .slice(0, MAX_NAMED)
    .map(({ index }) => index)
    .join(", ")}${vcpus.length > MAX_NAMED ? " …" : ""}`;
const MAX_NAMED = 16;

/** What the processors' states tell, worst first. */
export function vcpuFindings(facts: DumpFacts, context: VcpuContext): Finding[] {
  const found = [
    tripleFaults(facts),
    entryFailures(facts),
    context.panicked ? undefined : dead(facts, context),
    context.panicked ? undefined : looping(facts),
    context.panicked ? undefined : locked(facts),
    context.panicked ? undefined : crashPath(facts),
  ];
  return found.filter((finding) => finding !== undefined);
}

type Told = Pick<Finding, "rule" | "class" | "severity" | "side" | "title" | "signature"> &
  Partial<Pick<Finding, "trust" | "survived" | "details">>;

function finding({ source }: DumpFacts, vcpus: readonly DumpedVcpu[], told: Told): Finding {
  return {
    trust: "likely",
    ...told,
    evidence: vcpus.slice(0, MAX_NAMED).map((vcpu) => ({ source, text: evidenceText(vcpu) })),
    details: { vcpus: vcpus.map(({ index }) => index), ...told.details },
  };
}

export function evidenceText({ index, where, rip, rflags, symbol, halted, exit }: DumpedVcpu): string {
  const parts = [
    `vcpu${index} ${where}`,
    ...(rip === undefined ? [] : [`rip ${rip.toString(16).padStart(16, "0")}`]),
    ...(symbol === undefined ? [] : [symbol]),
    ...(rflags === undefined ? [] : [(rflags & IF) === 0n ? "interrupts off" : "interrupts on"]),
    ...(halted === true ? ["halted"] : []),
    ...(exit === undefined ? [] : [`last exit ${exit.text}`]),
  ];
  return parts.join(", ");
}

function tripleFaults(facts: DumpFacts): Finding | undefined {
  const vcpus = facts.vcpus.filter(({ exit }) => exit?.tripleFault === true);
  if (vcpus.length === 0) return undefined;
  return finding(facts, vcpus, {
    rule: "dump/triple-fault",
    class: "triple-fault",
    severity: "panic",
    side: "guest",
    trust: "certain",
    title: `${names(vcpus)}: triple fault, the processor is shut down`,
    signature: "triple-fault",
    survived: false,
  });
}

function entryFailures(facts: DumpFacts): Finding | undefined {
  const vcpus = facts.vcpus.filter(({ exit }) => exit?.entryFailure === true);
  if (vcpus.length === 0) return undefined;
  const reason = vcpus[0]!.exit!.text;
  return finding(facts, vcpus, {
    rule: "dump/vm-entry-failure",
    class: "vm-entry-failure",
    severity: "panic",
    side: "host",
    title: `${names(vcpus)}: the processor refused to run the guest: ${reason}`,
    signature: `vm-entry-failure ${reason}`,
    survived: false,
    details: { reason },
  });
}

/** All halted with interrupts off: nothing but an NMI, an SMI or a reset wakes them. */
function dead(facts: DumpFacts, { isOff }: VcpuContext): Finding | undefined {
  const { vcpus } = facts;
  const all =
    vcpus.length > 0 &&
    vcpus.every((vcpu) => isMasked(vcpu) && (vcpu.halted === true || vcpu.loop === "halt for ever"));
  if (!all) return undefined;
  const current = vcpus.every((vcpu) => vcpu.current);
  return finding(facts, vcpus, {
    rule: "dump/all-halted",
    class: isOff ? "halted" : "dead-halt",
    severity: isOff ? "notice" : "hang",
    side: isOff ? "policy" : "guest",
    trust: current ? "likely" : "possible",
    title: isOff
      ? "every vCPU is halted with interrupts off, as its kernel said that it stops"
      : "every vCPU is halted with interrupts off: the guest cannot wake",
    signature: isOff ? "halted" : "dead-halt",
    survived: false,
  });
}

/** In the kernel alone: a process may loop as it likes. */
function looping(facts: DumpFacts): Finding | undefined {
  const vcpus = facts.vcpus.filter(({ loop, where }) => loop === "jump to itself" && where !== "user");
  if (vcpus.length === 0) return undefined;
  const masked = vcpus.filter(isMasked);
  return finding(facts, vcpus, {
    rule: "dump/loop",
    class: "endless-loop",
    severity: masked.length > 0 ? "hang" : "notice",
    side: "guest",
    trust: masked.length === facts.vcpus.length ? "likely" : "possible",
    title: `${names(vcpus)}: a jump to itself${masked.length > 0 ? " with interrupts off" : ""}, outside of any process`,
    signature: "endless-loop",
  });
}

/** A lock that is held for long shows as several that wait; one that waits is everyday. */
const WAITING = 2;

function locked(facts: DumpFacts): Finding | undefined {
  const vcpus = facts.vcpus.filter(({ symbol }) => symbol !== undefined && LOCKS.test(symbol));
  if (vcpus.length < WAITING || vcpus.length * 2 < facts.vcpus.length) return undefined;
  return finding(facts, vcpus, {
    rule: "dump/lock-wait",
    class: "lock-wait",
    severity: "warning",
    side: "guest",
    trust: "possible",
    title: `${names(vcpus)}: waiting for spinlocks at the same moment`,
    signature: `lock-wait ${nameOf(vcpus[0]!.symbol)}`,
  });
}

/** A kernel that is on its way down and has not said so yet, or whose log cannot be read. */
function crashPath(facts: DumpFacts): Finding | undefined {
  const vcpus = facts.vcpus.filter(isInCrashPath);
  if (vcpus.length === 0) return undefined;
  return finding(facts, vcpus, {
    rule: "dump/crash-path",
    class: "panic",
    severity: "panic",
    side: "guest",
    title: `${names(vcpus)}: in ${nameOf(vcpus[0]!.symbol)}, where a kernel that crashes stops its processors`,
    signature: `crash-path ${nameOf(vcpus[0]!.symbol)}`,
    survived: false,
  });
}

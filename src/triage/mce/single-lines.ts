import type { Finding } from "../finding.ts";
import { type Emit, lineOf, type ReadLine, type RecordReader } from "./record.ts";

type Told = Pick<Finding, "class" | "severity" | "side" | "title" | "signature"> & {
  readonly rule: string;
  readonly signature: string;
  readonly survived?: boolean;
  readonly facts: Readonly<Record<string, unknown>>;
};

interface Rule {
  /** Anchored, and with bounded repetitions. */
  readonly pattern: RegExp;
  readonly tell: (found: RegExpExecArray) => Told;
}

const isVmm = (name: string): boolean => /^(?:qemu|kvm$|cloud-hyperviso|firecracker|libvirt)/.test(name);
/** An emulator's messages have its name in front, a stamp and the guest's name (-msg timestamp=on,guest-name=on). */
const QEMU_HEAD =
  "^(?:Guest \\[.{1,80}\\] )?(?:\\d{4}-[\\d-]{5}T[\\d:.]{8,15}Z )?qemu[\\w.-]{0,40}: (?:warning: )?";

/** Errors that are told of in one line. */
const RULES: readonly Rule[] = [
  {
    // drivers/edac/edac_mc.c: edac_ce_error(), edac_ue_error().
    pattern: /^EDAC MC(\d{1,4}): (?:(\d{1,10}) )?(CE|UE) (.{1,300})/,
    tell: ([, controller, count = "1", kind, rest = ""]) => ({
      rule: "edac",
      class: "memory-error",
      severity: kind === "UE" ? "warning" : "notice",
      side: "hardware",
      title: `memory controller ${controller}: ${kind === "UE" ? "uncorrected" : "corrected"} error, ${rest.trim()}`,
      signature: `edac ${kind} mc${controller}`,
      survived: true,
      facts: { controller: Number(controller), count: Number(count), corrected: kind === "CE" },
    }),
  },
  {
    // mm/memory-failure.c: kill_proc(); "MCE 0x…: Killing" up to 4.x.
    pattern:
      /^(?:Memory failure: |MCE )0x([0-9a-f]{1,16}): (?:Sending SIGBUS to|Killing) (.{1,20}):(\d{1,10}) due to hardware memory corruption/,
    tell: ([, pfn, name = "", pid]) => ({
      rule: "memory-failure",
      class: "memory-failure",
      severity: "warning",
      side: "hardware",
      title: `bad memory at page 0x${pfn}: SIGBUS for ${name}[${pid}]${isVmm(name) ? ", a guest's memory" : ""}`,
      signature: `memory-failure sigbus ${name}`,
      facts: { pfn: BigInt(`0x${pfn}`), process: name, pid: Number(pid), vmm: isVmm(name) },
    }),
  },
  {
    // arch/x86/mm/fault.c: do_sigbus().
    pattern: /^MCE: Killing (.{1,20}):(\d{1,10}) due to hardware memory corruption fault at ([0-9a-f]{1,16})/,
    tell: ([, name = "", pid, address]) => ({
      rule: "memory-failure",
      class: "memory-failure",
      severity: "warning",
      side: "hardware",
      title: `${name}[${pid}] used bad memory at 0x${address} and is killed${isVmm(name) ? ": a guest's memory" : ""}`,
      signature: `memory-failure killed ${name}`,
      facts: { address: BigInt(`0x${address}`), process: name, pid: Number(pid), vmm: isVmm(name) },
    }),
  },
  {
    // mm/memory-failure.c: action_result(); "MCE 0x…: … page recovery" up to 4.x.
    pattern:
      /^Memory failure: 0x([0-9a-f]{1,16}): recovery action for (.{1,60}): (Recovered|Ignored|Failed|Delayed)/,
    tell: ([, pfn, what, result]) => ({
      rule: "memory-failure",
      class: "memory-failure",
      severity: result === "Recovered" || result === "Delayed" ? "notice" : "warning",
      side: "hardware",
      title: `bad memory at page 0x${pfn}, ${what}: ${result!.toLowerCase()}`,
      signature: `memory-failure ${what} ${result}`,
      survived: true,
      facts: { pfn: BigInt(`0x${pfn}`), what, result },
    }),
  },
  {
    // arch/x86/kernel/cpu/mce/core.c: kill_me_maybe(), mce_reign().
    pattern: /^mce: Uncorrected hardware memory error in user-access at ([0-9a-f]{1,16})/,
    tell: ([, address]) => ({
      rule: "memory-failure",
      class: "memory-failure",
      severity: "warning",
      side: "hardware",
      title: `uncorrected memory error at 0x${address}, used in user mode`,
      signature: "memory-failure user-access",
      survived: true,
      facts: { address: BigInt(`0x${address}`) },
    }),
  },
  {
    // core.c: mce_notify_irq().
    pattern: /^(?:mce: )?\[Hardware Error\]: Machine check events logged/,
    tell: () => ({
      rule: "logged",
      class: "machine-check",
      severity: "notice",
      side: "hardware",
      title: "machine checks were logged, corrected as a rule; mcelog or rasdaemon has what they were",
      signature: "machine-check events-logged",
      survived: true,
      facts: {},
    }),
  },
  {
    // QEMU target/i386/kvm/kvm.c, target/arm/kvm.c: kvm_arch_on_sigbus_vcpu().
    pattern: new RegExp(
      `${QEMU_HEAD}Guest (?:MCE )?Memory Error at QEMU addr (0x[0-9a-f]{1,16}) and GUEST addr (0x[0-9a-f]{1,16}).{0,80} of type (BUS_MCEERR_A[RO]) (injected|ignored.{0,40})`,
      "i",
    ),
    tell: ([, qemu, guest, type, what]) => ({
      rule: "qemu",
      class: "machine-check",
      severity: "warning",
      side: "hardware",
      title: `QEMU told the guest of bad memory at ${guest}: ${type} ${what}`,
      signature: `qemu memory-error ${type}`,
      facts: { qemuAddress: BigInt(qemu!), guestAddress: BigInt(guest!), type, what },
    }),
  },
  {
    // QEMU accel/kvm, target/*/kvm.c: hardware_memory_error(), which exits.
    pattern: new RegExp(
      `${QEMU_HEAD}(?:QEMU got )?Hardware memory error(?:!| at (?:QEMU )?addr .{1,80})`,
      "i",
    ),
    tell: () => ({
      rule: "qemu",
      class: "memory-failure",
      severity: "panic",
      side: "hardware",
      title: "QEMU itself used bad memory of the host and gave up",
      signature: "qemu hardware-memory-error",
      survived: false,
      facts: {},
    }),
  },
  {
    // QEMU hw/ppc/spapr_events.c: spapr_mce_req_event().
    pattern: new RegExp(
      `${QEMU_HEAD}FWNMI: Unable to deliver machine check to guest: (nested machine check|rtas_addr not found)\\.( Machine check recovered)?`,
    ),
    tell: ([, why, recovered]) => ({
      rule: "qemu",
      class: "machine-check",
      severity: recovered === undefined ? "panic" : "warning",
      side: "hardware",
      title: `QEMU could not deliver a machine check: ${why}${recovered === undefined ? "; the guest counts as panicked" : ", which was recovered"}`,
      signature: `qemu fwnmi ${why}`,
      ...(recovered === undefined ? {} : { survived: true }),
      facts: { why },
    }),
  },
  {
    // QEMU up to 4.2 knows no KVM_EXIT_NMI (16).
    pattern: /^(?:qemu[\w.-]{0,40}: )?KVM: unknown exit reason 16\b/,
    tell: () => ({
      rule: "qemu",
      class: "machine-check",
      severity: "panic",
      side: "qemu",
      title: "KVM left the guest for a machine check (exit 16), which this QEMU does not know: it needs 5.0",
      signature: "qemu unknown-exit 16",
      survived: false,
      facts: {},
    }),
  },
];

/** Words that one of the rules needs; most lines have none. */
const ANY = /EDAC|[Mm]emory|MCE|Hardware Error|FWNMI|KVM/;

export class SingleLines implements RecordReader {
  readonly #emit: Emit;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  get isOpen(): boolean {
    return false;
  }

  line(read: ReadLine): boolean {
    if (!ANY.test(read.text)) return false;
    for (const { pattern, tell } of RULES) {
      const found = pattern.exec(read.text);
      if (found === null) continue;
      this.#emit({
        ...tell(found),
        trust: "certain",
        line: read.number,
        ...(read.uptime === undefined ? {} : { uptime: read.uptime }),
        lines: [lineOf(read)],
      });
      return true;
    }
    return false;
  }

  end(): void {}
}

import type { Said } from "./fact.ts";
import { versionOf } from "./message.ts";
import { hyperV, type PanicInfo } from "./panic-info.ts";
import { portAccessOf } from "./port-trace.ts";
import { isRunState } from "./run-state.ts";
import { bodyOf } from "./stamp.ts";
import { startErrorOf } from "./start-errors.ts";
import { launcherSaid } from "./virt-launcher.ts";

/**
 * Lines of libvirt, QEMU and virsh that say what happened to a machine. Every pattern begins at the line's first word or at
 * a fixed phrase that is looked for first: the time they take grows with the line only.
 */
interface Rule {
  /** Must be in the line for the pattern to be tried. */
  readonly phrase: string;
  readonly pattern: RegExp;
  readonly said: (found: RegExpExecArray) => Said | undefined;
}

const hexArgs = (text: string, pattern: RegExp): Map<string, string> =>
  new Map([...text.slice(0, 1000).matchAll(pattern)].map(([, name, value]) => [name!, value!]));
const big = (text: string | undefined): bigint | undefined =>
  text !== undefined && /^0x[0-9a-f]{1,16}$/i.test(text) ? BigInt(text) : undefined;

/** libvirt src/qemu/qemu_monitor.c, qemuMonitorGuestPanicEventInfoFormatMsg. */
function libvirtPanic(type: string, rest: string): PanicInfo | undefined {
  if (type === "hyper-v") {
    const args = hexArgs(rest, /\b(arg[1-5])=['"]?(0x[0-9a-fA-F]{1,16})\b/g);
    return hyperV([1, 2, 3, 4, 5].map((n) => big(args.get(`arg${n}`))));
  }
  const values = hexArgs(rest, /\b([a-z][a-z_-]{1,20})='([^']{0,200})'/g);
  if (type === "s390") {
    const core = values.get("core");
    return {
      type: "s390",
      core: core !== undefined && /^\d{1,5}$/.test(core) ? Number(core) : undefined,
      mask: big(values.get("psw-mask")),
      address: big(values.get("psw-addr")),
      reason: values.get("reason") ?? "unknown",
    };
  }
  if (type !== "tdx") return undefined;
  const code = big(values.get("error_code") ?? values.get("error-code"));
  return {
    type: "tdx",
    errorCode: code === undefined ? undefined : Number(code),
    message: values.get("message") ?? "",
    gpa: big(values.get("gpa")),
  };
}

const panicked = (info: PanicInfo | undefined, message?: string): Said => ({
  kind: "panic",
  what: "panicked",
  info,
  message,
});

const RULES: readonly Rule[] = [
  {
    phrase: "starting up libvirt version",
    pattern: /(?:^|: )starting up libvirt version: ([\w.+~-]{1,60})/,
    said: ({ 1: libvirt, input }) => ({
      kind: "start",
      libvirt: libvirt!,
      version: versionOf(input.split("qemu version: ", 2)[1] ?? ""),
    }),
  },
  {
    phrase: "shutting down",
    pattern: /^(?:.{0,80}: )?shutting down(?:, reason=([\w -]{1,30}))?$/,
    said: ({ 1: reason }) => ({ kind: "shutoff", reason: reason?.trim() ?? "unknown" }),
  },
  {
    phrase: "panic ",
    pattern: /^panic (hyper-v|s390|tdx): (.{1,1000})$/,
    said: ({ 1: type, 2: rest }) => panicked(libvirtPanic(type!, rest!)),
  },
  {
    phrase: "terminating on signal",
    pattern: /(?:^|: )terminating on signal (\d{1,2})(?: from pid (\d{1,10})(?: \(([^)]{0,200})\))?)?/,
    said: ({ 1: number, 2: pid, 3: name }) => ({
      kind: "signal",
      number: Number(number),
      by: pid === undefined ? undefined : `${name ?? "a process"} (${pid})`,
    }),
  },
  {
    phrase: "invalid runstate transition",
    pattern: /(?:^|: )(invalid runstate transition: '[\w-]{1,30}' -> '[\w-]{1,30}')/,
    said: ({ 1: what }) => ({ kind: "abort", what: what! }),
  },
  {
    phrase: "KVM internal error",
    pattern: /(?:^|: )(KVM internal error\. Suberror: \d{1,10})/,
    said: ({ 1: what }) => ({ kind: "internal-error", what: what! }),
  },
  {
    phrase: "kvm run failed",
    pattern: /^error: (kvm run failed .{1,80})$/,
    said: ({ 1: what }) => ({ kind: "internal-error", what: what! }),
  },
  {
    phrase: "KVM: entry failed",
    pattern: /^(KVM: entry failed, hardware error 0x[0-9a-f]{1,16})/,
    said: ({ 1: what }) => ({ kind: "internal-error", what: what! }),
  },
  {
    phrase: "unhandled exit",
    pattern: /^kvm: (unhandled exit [0-9a-f]{1,16})/,
    said: ({ 1: what }) => ({ kind: "internal-error", what: what! }),
  },
  {
    phrase: "hardware error:",
    pattern: /^qemu[\w.+-]{0,40}: (hardware error: .{1,200})$/,
    said: ({ 1: what }) => ({ kind: "abort", what: what! }),
  },
  {
    // hw/ppc/spapr_rtas.c; what the guest gave is its panic message.
    phrase: "OS terminated:",
    pattern: /(?:^|: )OS terminated: (.{1,300})$/,
    said: ({ 1: message }) => panicked(undefined, message!.replace(/^OS panic: /, "")),
  },
  {
    phrase: "Guest crash",
    pattern: /^Guest crash(ed| loaded)(?: on cpu (\d{1,5}): ([\w-]{1,30}))?$/,
    said: ({ 1: how, 2: core, 3: reason }) =>
      how === " loaded"
        ? { kind: "panic", what: "crash-loaded", info: undefined, message: undefined }
        : panicked(core === undefined ? undefined : s390(Number(core), undefined, undefined, reason!)),
  },
  {
    phrase: "PSW: 0x",
    pattern: /^PSW: 0x([0-9a-f]{16}) 0x([0-9a-f]{16})$/,
    said: ({ 1: mask, 2: address }) =>
      panicked(s390(undefined, BigInt(`0x${mask}`), BigInt(`0x${address}`), "unknown")),
  },
  {
    phrase: "HV crash parameters",
    pattern: /^HV crash parameters: \((0x[0-9a-f]{1,16}|0)((?: (?:0x[0-9a-f]{1,16}|0)){4})\)/,
    said: ({ 1: first, 2: rest }) =>
      panicked(hyperV([first!, ...rest!.trim().split(" ")].map((value) => BigInt(value)))),
  },
  {
    phrase: "emory",
    pattern:
      /(?:^|: )((?:Guest MCE Memory Error|Guest Memory Error|Hardware memory error) at QEMU addr .{1,120})/,
    said: ({ 1: what }) => ({ kind: "memory-error", what: what! }),
  },
  {
    phrase: "Out of memory: Kill",
    pattern: /Out of memory: Kill(?:ed)? process \d{1,10} \(((?:qemu|kvm)[^)]{0,40})\)/,
    said: ({ 1: name }) => ({ kind: "killed", what: `the host ran out of memory and killed ${name}` }),
  },
  {
    phrase: "segfault at",
    pattern: /(?:^|[\s\]])((?:qemu|kvm)[\w.-]{0,30})\[\d{1,10}\]: segfault at/,
    said: ({ 1: name }) => ({ kind: "abort", what: `segmentation fault in ${name}` }),
  },
  {
    phrase: "(core dumped)",
    pattern:
      /\b(Aborted|Segmentation fault|Bus error|Illegal instruction) +\(core dumped\) .{0,100}\b(?:qemu|kvm)/,
    said: ({ 1: what }) => ({ kind: "abort", what: what!.toLowerCase() }),
  },
  {
    phrase: "load of migration failed",
    pattern: /(?:^|: )(load of migration failed: .{1,200})$/,
    said: ({ 1: what }) => ({ kind: "start-failed", what: what! }),
  },
  {
    phrase: "Cannot allocate memory",
    pattern:
      /(?:^|: )((?:cannot set up guest memory|Cannot set up guest memory) '[^']{1,60}': Cannot allocate memory)/,
    said: ({ 1: what }) => ({ kind: "start-failed", what: what! }),
  },
  {
    phrase: "unexpectedly closed the monitor",
    pattern: /(?:^|: )(qemu unexpectedly closed the monitor.{0,200})/,
    said: ({ 1: what }) => ({ kind: "start-failed", what: what! }),
  },
  {
    // virsh domstate --reason.
    phrase: "(panicked)",
    pattern: /^crashed \(panicked\)$/,
    said: () => panicked(undefined),
  },
  {
    phrase: "VM status:",
    pattern: /^(?:\(qemu\) )?VM status: (running|paused)(?: \(([\w-]{1,30})\))?/,
    said: ({ 1: status, 2: why }) => {
      const state = why ?? status!;
      return isRunState(state) ? { kind: "status", state } : undefined;
    },
  },
  {
    phrase: "emulator version",
    pattern: /^QEMU emulator version (\d{1,4}\.\d{1,4}(?:\.\d{1,4})?)/,
    said: ({ 1: text }) => {
      const version = versionOf(text!);
      return version === undefined ? undefined : { kind: "version", version };
    },
  },
];

const s390 = (
  core: number | undefined,
  mask: bigint | undefined,
  address: bigint | undefined,
  reason: string,
): PanicInfo => ({ type: "s390", core, mask, address, reason });

/** Most lines say nothing: they are told by one look. */
const ANY = new RegExp(
  [
    ...RULES.map(({ phrase }) => phrase),
    ...["Assertion `", "pio_", "cpu_", "_ops_", "qemu", "kvm", "KVM kernel module", "DomainLifecycle event "],
  ]
    .map(literal)
    .join("|"),
);

function literal(phrase: string): string {
  return phrase.replace(/[^\w ]/g, "\\$&");
}

/** What a line says; undefined for most. The line is at most some thousand characters long. */
export function saidBy(line: string): Said | undefined {
  if (!ANY.test(line)) return undefined;
  const access = portAccessOf(line);
  if (access !== undefined) return { kind: "port", access };
  const body = loggerOf(bodyOf(line));
  const failed = assertionOf(body);
  if (failed !== undefined) return failed;
  for (const { phrase, pattern, said } of RULES) {
    if (!body.includes(phrase)) continue;
    const found = pattern.exec(body);
    const says = found === null ? undefined : said(found);
    if (says !== undefined) return says;
  }
  return launcherSaid(body) ?? startErrorOf(body);
}

/** Takes `QEMU[1071]: ` of a host's journal away, with all before it. */
function loggerOf(body: string): string {
  if (!body.slice(0, 140).includes("]: ")) return body;
  const found = /^.{0,100}?\b(?:QEMU|qemu-kvm|qemu|kvm|libvirtd|virtqemud)\[\d{1,10}\]: (?!segfault)/.exec(
    body,
  );
  return found === null ? body : body.slice(found[0].length);
}

/** `qemu-system-x86_64: FILE:LINE: FUNCTION: Assertion `…' failed.`, as glibc has it. */
function assertionOf(body: string): Said | undefined {
  const at = body.indexOf(": Assertion `");
  if (at < 0) return undefined;
  const [place, program] = body.slice(0, at).split(": ").reverse().slice(1);
  if (place === undefined || !/:\d{1,7}$/.test(place)) return undefined;
  const isQemu = /(?:qemu|kvm)/i.test(program ?? "");
  const end = body.indexOf(" failed", at);
  if (!isQemu || end < 0) return undefined;
  return { kind: "abort", what: body.slice(at + 2, end + 7).slice(0, 300) };
}

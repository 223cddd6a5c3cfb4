import type { Said } from "./fact.ts";

/** Whoever speaks: QEMU's util/error-report.c puts the program's name, and with -msg the guest's, before a message. */
const PROGRAM = /^(?:[^\s:]{1,64} )?(?:\/[^\s:]{1,200}\/)?(?:qemu(?:-system-[\w-]{1,20}|-kvm)?|kvm): /;
/** The option that is at fault, of loc_set_cmdline(): only the command line's have one. */
const OPTION = /^-[a-z][\w-]{0,30}(?: |: )/;
/** error_report() has no prefix, warn_report() and info_report() do, behind the option. */
const NO_ERROR = /^(?:-[^:]{1,400}: )?(?:warning|info): |: (?:warning|info): /;

/** What QEMU ends with before its machine runs: system/vl.c, accel/, hw/, chardev/, net/. */
const ERRORS: readonly RegExp[] = [
  /^failed to initiali[sz]e (?:kvm|hvf|whpx|nvmm|xen|tcg|HAX)\b/i,
  /^(?:Could not access KVM kernel module|Could not open option rom|Could not open '|could not open )/,
  /^(?:could not load (?:PC )?(?:BIOS|kernel|initrd|initial ram disk)|could not load |could not read )/i,
  /^(?:invalid option|Invalid parameter|Invalid [\w -]{1,40}: |invalid accelerator|unsupported machine type)/,
  /^(?:unable to find CPU model|Failed to (?:get "\w{1,20}" lock|find an available port|bind socket))/,
  /^(?:no function defined to set boot device|No machine specified|requires an argument|no accelerator found)/i,
  /^(?:Could not set up host forwarding rule|Property '.{1,80}' not found|No '[\w-]{1,40}' bus found)/,
  /^(?:unix|inet|vnc)\b.{0,200}: .{0,200}Address already in use$/i,
  /^cannot set up guest memory|^can't open backing store/,
];
/** Once the machine runs, disks, sockets and migration have words of their own. */
const MODULE = /^(?:Could not access KVM kernel module: .{1,200})$/;

/** An error by which QEMU says that it does not start. */
export function startErrorOf(body: string): Said | undefined {
  if (MODULE.test(body)) return failed(body);
  const program = PROGRAM.exec(body);
  if (program === null) return undefined;
  const message = body.slice(program[0].length).trim();
  if (message.startsWith("falling back to ")) return { kind: "fell-back" };
  if (NO_ERROR.test(message.slice(0, 500))) return undefined;
  return OPTION.test(message) || ERRORS.some((error) => error.test(message)) ? failed(message) : undefined;
}

const failed = (what: string): Said => ({ kind: "start-failed", what: what.slice(0, 300), early: true });

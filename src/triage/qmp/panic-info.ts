import { hex, hex64 } from "../../core/text.ts";
import { type Json, member, number, text, uint64 } from "./exact-json.ts";
import { kept } from "./kept.ts";
import { STOP_CODES } from "./stop-codes.ts";

/** What a guest said of its panic (QEMU qapi/run-state.json, GuestPanicInformation). */
export type PanicInfo =
  | {
      readonly type: "hyper-v";
      /** HV_X64_MSR_CRASH_P0 to P4; one that is missing or no number is undefined. */
      readonly args: readonly (bigint | undefined)[];
      readonly os: "windows" | "linux" | "unknown";
      /** Name of the Windows STOP code in the first argument. */
      readonly stopName: string | undefined;
      /** Of Linux: its version, from the guest OS id in the second argument. */
      readonly kernel: string | undefined;
    }
  | {
      readonly type: "s390";
      readonly core: number | undefined;
      readonly mask: bigint | undefined;
      readonly address: bigint | undefined;
      readonly reason: string;
    }
  | {
      readonly type: "tdx";
      readonly errorCode: number | undefined;
      readonly message: string;
      readonly gpa: bigint | undefined;
    }
  | { readonly type: "sev"; readonly set: number | undefined; readonly code: number | undefined };

const MAX_MESSAGE = 200;

/** Decodes `info` of GUEST_PANICKED and GUEST_CRASHLOADED; undefined when there is none of a known type. */
export function panicInfoOf(info: Json | undefined): PanicInfo | undefined {
  switch (text(info, "type")) {
    case "hyper-v":
      return hyperV(["arg1", "arg2", "arg3", "arg4", "arg5"].map((name) => uint64(info, name)));
    case "s390":
      return {
        type: "s390",
        core: number(info, "core"),
        mask: uint64(info, "psw-mask"),
        address: uint64(info, "psw-addr"),
        reason: kept(text(info, "reason") ?? "unknown", MAX_MESSAGE),
      };
    case "tdx":
      return {
        type: "tdx",
        errorCode: number(info, "error-code"),
        message: kept(text(info, "message") ?? "", MAX_MESSAGE),
        gpa: member(info, "gpa") === undefined ? undefined : uint64(info, "gpa"),
      };
    case "sev":
      return { type: "sev", set: number(info, "set"), code: number(info, "code") };
    default:
      return undefined;
  }
}

/**
 * The five crash registers. Windows has the STOP code and its four parameters in them. Linux (arch/x86/hyperv/hv_init.c,
 * hyperv_report_panic) has an error code, its guest OS id (0x81 in bits 56 to 63, LINUX_VERSION_CODE in bits 16 to 47),
 * RIP, RAX and RSP; with a message page (hyperv_report_panic_msg) all is 0 but its address and length.
 */
export function hyperV(args: readonly (bigint | undefined)[]): PanicInfo {
  const [code, id, , page, length] = args;
  const linux = id !== undefined && id >> 56n === 0x81n;
  const message = code === 0n && id === 0n && (page ?? 0n) !== 0n && (length ?? 0n) <= 4096n;
  const windows = !linux && !message && code !== undefined && code !== 0n && code <= 0xffff_ffffn;
  return {
    type: "hyper-v",
    args,
    os: linux || message ? "linux" : windows ? "windows" : "unknown",
    stopName: windows ? STOP_CODES[Number(code)] : undefined,
    kernel: linux ? linuxVersion((id >> 16n) & 0xffff_ffffn) : undefined,
  };
}

const linuxVersion = (code: bigint): string => `${code >> 16n}.${(code >> 8n) & 0xffn}.${code & 0xffn}`;

/** What the guest said, in one line without the values that differ each time. */
export function panicTitle(info: PanicInfo): string {
  switch (info.type) {
    case "hyper-v": {
      if (info.os === "linux") return `Linux ${info.kernel ?? ""} panicked (hyper-v)`.replace("  ", " ");
      if (info.os === "unknown") return "guest reported a crash (hyper-v)";
      const stop = hex(info.args[0]!, 8).toUpperCase().replace("0X", "0x");
      return `Windows STOP ${stop}${info.stopName === undefined ? "" : ` ${info.stopName}`}`;
    }
    case "s390":
      return `guest stopped in ${REASONS[info.reason] ?? "a state that is no running one"} (s390)`;
    case "tdx":
      return `TDX guest gave up${info.message === "" ? "" : `: ${info.message}`}`;
    case "sev":
      return `SEV guest asked to be terminated (set ${info.set ?? "?"}, code ${info.code ?? "?"})`;
  }
}

/** S390CrashReason in words. */
const REASONS: Readonly<Record<string, string>> = {
  "disabled-wait": "a disabled wait",
  "extint-loop": "a loop of external interrupts",
  "pgmint-loop": "a loop of program interrupts",
  "opint-loop": "a loop of operation exceptions",
};

/** The values, for the details of a report: hex strings, numbers, names. */
export function panicDetails(info: PanicInfo): Record<string, unknown> {
  const value = (bits: bigint | undefined) => (bits === undefined ? null : hex64(bits));
  switch (info.type) {
    case "hyper-v": {
      const { args, os, stopName, kernel } = info;
      return { type: info.type, os, args: args.map(value), stop: stopName ?? null, kernel: kernel ?? null };
    }
    case "s390":
      return {
        type: info.type,
        core: info.core ?? null,
        pswMask: value(info.mask),
        pswAddress: value(info.address),
        reason: info.reason,
      };
    case "tdx":
      return {
        type: info.type,
        errorCode: info.errorCode ?? null,
        message: info.message,
        gpa: value(info.gpa),
      };
    case "sev":
      return { type: info.type, set: info.set ?? null, code: info.code ?? null };
  }
}

/** One line with all values, for people. */
export function panicText(info: PanicInfo): string {
  const value = (bits: bigint | undefined) => (bits === undefined ? "?" : hex64(bits));
  switch (info.type) {
    case "hyper-v": {
      const [first, ...rest] = info.args.map((arg) => (arg === undefined ? "?" : hex(arg)));
      const [id, ip, ax, sp] = rest;
      return info.os === "linux"
        ? `error ${first}, guest OS id ${id}, RIP ${ip}, RAX ${ax}, RSP ${sp}`
        : `STOP ${first} (${rest.join(", ")})`;
    }
    case "s390":
      return `core ${info.core ?? "?"}, PSW ${value(info.mask)} ${value(info.address)}, ${info.reason}`;
    case "tdx":
      return `error code ${info.errorCode === undefined ? "?" : hex(info.errorCode)}${info.gpa === undefined ? "" : `, more at guest physical ${value(info.gpa)}`}`;
    case "sev":
      return `set ${info.set ?? "?"}, code ${info.code ?? "?"}`;
  }
}

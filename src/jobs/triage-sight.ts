import type { ByteSource } from "../core/memory.ts";
import { HEAD_BYTES } from "../io/head.ts";
import { ConsoleDetector } from "../triage/console/detector.ts";
import { atLeast } from "../triage/finding.ts";

/** Lines that only a kernel, a firmware or a boot loader writes; anchored, so time is linear in the text. */
const CONSOLE_LINES: readonly RegExp[] = [
  /^(?:<\d{1,3}>)?\[ {0,6}\d{1,8}\.\d{6}\]/m,
  /^(?:\S{1,64} ){0,6}(?:kernel: )?\[ {0,6}\d{1,8}\.\d{6}\]/m,
  // Behind what a logger puts before each line, but for quotations.
  /^[^\s>|#/+*-].{0,160}\[ {0,6}\d{1,8}\.\d{6}(?: <[ \d.]{1,24}>)?\]/m,
  /^.{0,64}(?:Linux version \d|Kernel panic - not syncing|\(XEN\) |Call Trace:|Unable to handle kernel )/m,
  /^.{0,32}(?:SeaBIOS \(|BdsDxe: |U-Boot |iPXE |EFI stub: |OpenBIOS|SLOF |KDBG|GNU GRUB|Welcome to GRUB)/m,
  /^.{0,32}(?:OpenSBI v\d|UEFI firmware \(version|SecCoreStartupWithStack\(0x|Xen \d+\.\d+\S{0,40} \()/m,
  /^.{0,32}(?:BUG: |Oops: |Oops\[#|general protection fault|WARNING: CPU|Fatal trap \d|\*\*\* STOP: )/m,
  /^panic: /m,
  /^.{0,32}(?:Copyright \(c\) .{0,30}The FreeBSD Project|NetBSD \d|OpenBSD \d|login: )/m,
];

const CONSOLE_NAME = /(?:console|serial|ttys?\d|ttyama|hvc\d|dmesg|kmsg|kernel\.log|boot\.log)/i;

/** Whether a text has a line that only a console's would have. */
export const hasConsoleLine = (text: string): boolean => CONSOLE_LINES.some((line) => line.test(text));

/** Whether a file is called as consoles are. */
export const isConsoleName = (name: string): boolean => CONSOLE_NAME.test(name);

/** Whether the console's signatures find a death or a hang in either piece, and are sure of it. */
export const tellsOfDeath = (...pieces: readonly Uint8Array[]): boolean =>
  pieces.some((piece) => {
    const detector = new ConsoleDetector({ source: "" });
    detector.push(piece);
    return detector
      .end()
      .findings.some(({ severity, trust }) => trust === "certain" && atLeast(severity, "hang"));
  });

/** The last bytes of a source beyond its head, without the line that they begin in. */
export function tailOf(source: ByteSource): Buffer {
  const start = Math.max(HEAD_BYTES, source.size - HEAD_BYTES);
  const bytes = Buffer.alloc(Math.max(0, source.size - start));
  const got = bytes.subarray(0, source.read(start, bytes));
  const line = got.indexOf(10);
  return line < 0 ? got.subarray(got.length) : got.subarray(line + 1);
}

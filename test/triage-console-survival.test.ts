import { expect, test } from "vitest";
import { detect, KernelLog } from "./support/triage-console.ts";

const log = (): KernelLog => new KernelLog().boot();
const survived = (text: KernelLog): unknown => detect(`${text}`).findings[0]!.survived;

const emergency = (prompt: string): KernelLog =>
  log()
    .print(
      'You are in emergency mode. After logging in, type "journalctl -xb" to view',
      'system logs, "systemctl reboot" to reboot, "systemctl default" or "exit"',
      "to continue boot.",
      prompt,
      "(or press Control-D to continue): ",
    )
    .say("random: crng init done", "usb 1-1: a", "usb 1-1: b");

test.each(["Give root password for maintenance", "Press Enter for maintenance"])(
  "a shell that asks for somebody is not outlived: %s",
  (prompt) => {
    expect(detect(`${emergency(prompt)}`).findings).toMatchObject([
      { class: "emergency-mode", severity: "hang" },
    ]);
    expect(survived(emergency(prompt))).toBeUndefined();
    const short = `${new KernelLog().say("a")}You are in rescue mode.\n${prompt}\n(or press Control-D to continue): \n`;
    expect(detect(short).findings[0]!.survived).toBeUndefined();
  },
);

test("start-up that goes on after the shell", () => {
  const later = emergency("Press Enter for maintenance").print("[  OK  ] Reached target Multi-User System.");
  expect(survived(later)).toBe(true);
  const login = emergency("Press Enter for maintenance").print("guest login: ");
  expect(survived(login)).toBe(true);
  const target = emergency("Press Enter for maintenance").print("[  OK  ] Reached target Emergency Mode.");
  expect(survived(target)).toBeUndefined();
});

test("the report of a machine check of POWER is no sign of life", () => {
  const text = () =>
    log().say(
      "MCE: CPU0: machine check (Severe)  UE Load/Store [Not recovered]",
      "MCE: CPU0: NIP: [c008000000311020] foo+0x20/0x40",
      "MCE: CPU0: Initiator CPU",
      "MCE: CPU0: Unknown",
      "Oops: Machine check, sig: 7 [#1]",
      "LE PAGE_SIZE=64K MMU=Radix SMP NR_CPUS=2048 NUMA pSeries",
      "Modules linked in: lkdtm",
      "NIP:  c008000000311020 LR: c008000000311000 CTR: c000000000123456",
      "REGS: c00000003fffbd60 TRAP: 0200   Not tainted  (6.1.0)",
      "MSR:  8000000000109033 <SF,EE,ME,IR,DR,RI,LE>  CR: 24002222  XER: 00000000",
      "CFAR: c008000000311010 DAR: c00000000beef000 DSISR: 00000040 IRQMASK: 0",
      "GPR00: c008000000311000 c00000000b0fbb70 c008000000328000 0000000000000000",
      "NIP [c008000000311020] foo+0x20/0x40",
      "LR [c008000000311000] foo+0x0/0x40",
      "Call Trace:",
      "[c00000000b0fbb70] [c000000000123456] bar+0x1/0x2",
      "Instruction dump:",
      "4e800020 60000000 3c4c0001 38428000",
      "7c0802a6 60000000 f8010010 e9230000",
    );
  expect(survived(text())).toBeUndefined();
  expect(survived(text().later(1).say("usb 1-1: a", "usb 1-1: b", "usb 1-1: c"))).toBe(true);
});

const lockup = (): KernelLog =>
  log().say("watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [init:124]", "RIP: 0010:foo+0x1/0x2");

test("a hang is outlived when the kernel says two things more, or one much later", () => {
  expect(survived(lockup())).toBeUndefined();
  expect(survived(lockup().say("usb 1-1: a"))).toBeUndefined();
  expect(survived(lockup().say("usb 1-1: a", "usb 1-1: b"))).toBe(true);
  expect(survived(lockup().later(11).say("usb 1-1: a"))).toBe(true);
});

test("a lockup that is told again goes on", () => {
  const again = lockup()
    .later(11)
    .say("usb 1-1: a")
    .later(11)
    .say("watchdog: BUG: soft lockup - CPU#1 stuck for 48s! [init:124]");
  expect(survived(again)).toBeUndefined();
});

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { extracted, isLinux, resultPath, type Subject, subjects } from "./extracted.ts";
import { run, runWell, testWith } from "./tools.ts";

/** Timestamped lines of the guest's first serial line; the kernel alone writes there. */
function consoleLines({ guest }: Subject): string[] {
  const text = readFileSync(guest.console, "latin1").replaceAll("\r", "");
  return text.split("\n").filter((line) => /^\[ *\d+\.\d{6}\] /.test(line));
}

/** Processes that the guest's own ps listed. Workers are renamed and come and go; ps is gone. */
function guestTasks({ guest }: Subject): Array<[number, string]> {
  const lines = [...readFileSync(guest.guestLog, "latin1").matchAll(/^ *(\d+) (\S+)\r?$/gm)];
  const tasks = lines.map(([, pid, comm]) => [Number(pid), comm!] as [number, string]);
  return tasks.slice(0, -1).filter(([, comm]) => !comm.startsWith("kworker"));
}

/** Tools indent the further lines of a record each in their own way; a console repeats its time on them. */
const unindented = (log: string): string[] => log.split("\n").map((line) => line.trim());
const untimed = (line: string): string => line.replace(/^\[ *\d+\.\d{6}\] */, "");

function expectConsoleIn(log: string, subject: Subject): void {
  const lines = unindented(log);
  const wanted = unindented(consoleLines(subject).join("\n"));
  expect(wanted.length).toBeGreaterThan(150);
  let at = -1;
  const lost = wanted.filter((line) => {
    const found = lines.findIndex(
      (other, index) => index > at && (other === line || other === untimed(line)),
    );
    if (found >= 0) at = found;
    return found < 0;
  });
  expect(lost).toEqual([]);
}

// Every core of a guest gives the same vmcore (memory.test.ts), so one of them is enough here.
const onePerGuest = subjects(isLinux).filter(({ guest, core }) => core === guest.cores.at(-1)!.path);

describe.each(onePerGuest)("$title", (subject) => {
  const { guest } = subject;

  describe("in crash", () => {
    const commands = "set scroll off\nsys\nbt -a\nps\nlog\nquit\n";
    /** What crash says, without the name of the file. */
    const crash = (dump: string) => {
      const { status, stdout, stderr } = run("crash", ["-s", guest.vmlinux!, dump], { input: commands });
      return { status, text: (stdout + stderr).replaceAll(dump, "DUMP").replace(/^.*DUMPFILE:.*$/m, "") };
    };

    testWith(["crash"], "is what QEMU's own dump is: system, backtraces, tasks, log", () => {
      const own = crash(guest.dump);
      const ours = crash(extracted(subject));
      expect(own.text).toMatch(/RELEASE: 6\.\d/);
      expect(ours).toEqual(own);
      expect(ours.status).toBe(0);
      expect(ours.text).not.toMatch(/do not match|cannot access|seek error|read error/);
      expect(ours.text).toMatch(/UPTIME: 00:00:\d\d/);
      expect(ours.text).toContain(`CPUS: ${guest.recipe.vcpus}`);
      if (guest.recipe.vcpus > 1) expect(ours.text).toContain('COMMAND: "gc-spin"');
      expectConsoleIn(ours.text, subject);
    });
  });

  testWith(["drgn"], "lists tasks and log in drgn", () => {
    const script = join(import.meta.dirname, "tasks.py");
    const { stdout } = runWell("drgn", ["-c", extracted(subject), "-s", guest.vmlinux!, script]);
    const found = JSON.parse(stdout) as { tasks: Array<[number, string]>; log: string };
    const wanted = guestTasks(subject);
    expect(wanted.length).toBeGreaterThan(25);
    expect(found.tasks).toEqual(expect.arrayContaining(wanted));
    expectConsoleIn(found.log, subject);
  });

  describe("for the tools of kdump", () => {
    const filtered = resultPath(`${subject.title}.kdump`);
    const dmesg = (dump: string, name: string) => {
      const out = resultPath(`${subject.title}.${name}`);
      runWell("makedumpfile", ["--dump-dmesg", "-f", dump, out]);
      return readFileSync(out, "latin1");
    };

    testWith(["makedumpfile"], "is filtered and compressed by makedumpfile -c -d 31", () => {
      const { stdout } = runWell("makedumpfile", ["-c", "-d", "31", "-f", extracted(subject), filtered]);
      expect(stdout).toContain("makedumpfile Completed");
      const whole = readFileSync(extracted(subject)).length;
      expect(readFileSync(filtered).length).toBeLessThan(whole / 3);
      expect(dmesg(filtered, "kdump-log")).toBe(dmesg(extracted(subject), "log"));
    });

    testWith(["makedumpfile", "crash"], "still opens in crash when filtered", () => {
      const { stdout, stderr } = run("crash", ["-s", guest.vmlinux!, filtered], { input: "sys\nquit\n" });
      expect(stdout + stderr).toMatch(/RELEASE: 6\.\d/);
      expect(stdout + stderr).not.toMatch(/do not match|cannot access|seek error|read error/);
    });

    testWith(
      ["makedumpfile", "vmcore-dmesg"],
      "has one log, in makedumpfile, vmcore-dmesg and on its console",
      () => {
        const { stdout } = runWell("vmcore-dmesg", [extracted(subject)]);
        expect(unindented(stdout)).toEqual(unindented(dmesg(extracted(subject), "log")));
        expectConsoleIn(stdout, subject);
      },
    );
  });
});

if (onePerGuest.length === 0) {
  test.skip("no Linux guest in the laboratory, so neither crash nor drgn nor makedumpfile was run", () => {});
}

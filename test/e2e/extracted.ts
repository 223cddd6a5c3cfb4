import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { inject } from "vitest";
import type { LabGuest } from "./lab.ts";
import { guestcore } from "./tools.ts";

/** One core of a laboratory guest. */
export interface Subject {
  readonly title: string;
  readonly guest: LabGuest;
  readonly core: string;
  /** What `extract` needs beyond the core to have all of the guest's memory. */
  readonly options: readonly string[];
}

/** Every core of the laboratory that `wanted` accepts. */
export function subjects(wanted: (guest: LabGuest) => boolean = () => true): Subject[] {
  return inject("lab")
    .guests.filter(wanted)
    .flatMap((guest) =>
      guest.cores.map(({ kind, path }) => ({
        title: `${guest.name}, ${kind} core`,
        guest,
        core: path,
        options: guest.ramFile === undefined ? [] : ["--ram", `${guest.recipe.fileBacked}=${guest.ramFile}`],
      })),
    );
}

/** The first core of each kind of machine; what another QEMU or another core adds is tested where it matters. */
export function oneOfEach(all: readonly Subject[]): Subject[] {
  const names = all.map(({ guest }) => guest.recipe.name);
  return all.filter((_, i) => names.indexOf(names[i]!) === i);
}

export const isLinux = (guest: LabGuest): boolean => guest.vmlinux !== undefined;

/** A path for a result; the folder is emptied before the tests start. */
export const resultPath = (name: string): string =>
  join(inject("lab").results, name.replaceAll(/[ ,/]+/g, "-"));

/** The vmcore of a core; extracted once for all tests. @throws Error with the messages of `extract` when it fails */
export function extracted({ title, core, options }: Subject): string {
  const out = resultPath(`${title}.vmcore`);
  if (!existsSync(out)) {
    // Test files that run side by side may want the same one.
    const own = `${out}.${process.pid}`;
    const { status, stdout, stderr } = guestcore("extract", core, "-o", own, ...options);
    if (status !== 0) throw new Error(`extract ${core}: exit status ${status}\n${stdout}${stderr}`);
    renameSync(own, out);
  }
  return out;
}
